"""Identifies a released checkpoint, and writes prompts of ours in the released form.

    python -m tools.convert output/.../seed1              # a file (model.pth.tar-N), or Dassl's folder with it
    python -m tools.convert RUN_FOLDER --to FOLDER        # FOLDER/MODEL/model.pth.tar-N and `checkpoint`, for the released code

Released checkpoints need no conversion: ckpt= and init_from= read them, and their shapes tell the numbers of prompts. An
evaluation (fit=false ckpt=FILE data=NAME) also writes them as prompts.safetensors, with its data's classes and its CLIP. What
is written has the learned tensors alone; the released code takes the rest from its own CLIP, and the class names from its data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from runs import signals

if __name__ == "__main__":
    signals.install(raising=False)  # before the imports below, which take a while

import torch

from files.dassl import MODELS, NEWEST, checkpoint_of
from files.whole import whole_file, write_text
from lightning_modules.checkpoints import PROMPTS, TRAINED, read_prompts
from prompts.parts.published import kinds_of, published_state, read_published
from runs import launch

LAST = 999_999  # of an epoch in a file's name


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", metavar="CHECKPOINT|RUN_FOLDER")
    parser.add_argument("--to", metavar="FOLDER", type=Path, help="writes prompts of ours in the released form")
    parser.add_argument("--epoch", type=int, help="N of model.pth.tar-N (default: the epoch that was kept)")
    return parser.parse_args()


def main() -> None:
    """The command. ValueError for a user's mistake."""
    options = arguments()
    path = Path(options.path).expanduser()
    ours = path / PROMPTS if (path / PROMPTS).is_file() else path
    if options.to is not None:
        print(written(ours, options.to.expanduser(), options.epoch))
    elif ours.suffix == ".safetensors":
        raise ValueError(f"{ours} holds prompts of this suite: add --to FOLDER to write them in the released form.")
    else:
        print(described(options.path))


def described(given: str) -> str:
    """The methods of a released checkpoint, and the command that evaluates it. ValueError where it is no such checkpoint."""
    path = Path(checkpoint_of(given)).expanduser()
    if not path.exists():
        raise ValueError(f"{path} does not exist: give a checkpoint, or the folder that holds it.")
    if path.is_dir():
        raise ValueError(f"{path} has neither a {PROMPTS} nor a checkpoint of Dassl ({', '.join(MODELS)}, model.pth.tar-N).")
    state = read_published(path)
    kinds = kinds_of(state)
    if not kinds:
        raise ValueError(f"{path} holds {', '.join(sorted(state))[:200]}: no prompts of a method that is known here.")
    lines = [f"{path}"]
    for method, settings in kinds.items():
        words = " ".join(f"method.{key}={str(value).lower()}" for key, value in settings.items())
        lines.append(f"  method={method} {words}")
    if len(kinds) > 1:
        lines.append("  (each of these methods reads it: choose the one that it was trained with)")
    return "\n".join([*lines, evaluation(kinds, path)])


def evaluation(kinds: Iterable[str], path: Path) -> str:
    """The command that evaluates a checkpoint, and keeps its prompts in this suite's form."""
    return f"python run.py method={next(iter(kinds))} fit=false ckpt={path} data=NAME"


def refusal(path: Path) -> str:
    """What a file is that is no prompts.safetensors, and what makes prompts of it. ValueError where it is no checkpoint."""
    if not (kinds := kinds_of(read_published(path))):
        return f"{path} holds no prompts of a method that is known here: give a {PROMPTS}, or the folder of a finished run."
    return (
        f"{path} is a released checkpoint of {' or '.join(kinds)}, which says neither its classes nor its CLIP: evaluate it by "
        f"`{evaluation(kinds, path)}`, and give the folder that this run prints."
    )


def written(path: Path, to: Path, epoch: int | None = None) -> Path:
    """Writes the prompts of a run as the released code saves them, atomically; the checkpoint's path.

    Raises:
        ValueError: these are no prompts of ours, or of a method or form that the released code does not have.
    """
    saved = read_prompts(path)
    if TRAINED in saved.about:
        raise ValueError(f"{path} brings trained tensors of a CLIP, which the released form has no place for.")
    method, stored = str(saved.about.get("method")), saved.about.get("epoch")
    model, state = published_state(method, saved.prompts)
    if epoch is None:
        epoch = stored + 1 if type(stored) is int and stored >= 0 else 1
    if not 1 <= epoch <= LAST:
        raise ValueError(f"--epoch {epoch}: give a number from 1 to {LAST:,}.")
    target = to / model / f"model.pth.tar-{epoch}"
    content = {"state_dict": state, "epoch": epoch, "optimizer": None, "scheduler": None, "val_result": None}
    with whole_file(target) as temporary:
        torch.save(content, temporary)
    write_text(target.with_name(NEWEST), f"{target.name}\n")
    return target


if __name__ == "__main__":
    sys.exit(launch.exit_status_of(main))
