"""Writes a finished run as a file that other programs run, without this project.

    python -m tools.export RUN_FOLDER --to model.onnx                  # for onnxruntime and all else that reads ONNX
    python -m tools.export RUN_FOLDER --to model.pt2                   # for torch.export.load
    python -m tools.export RUN_FOLDER --to model.onnx --classes cat dog     # for other class names than the run's
    python -m tools.export RUN_FOLDER --to context.safetensors         # a learned context as token embeddings

A graph takes uint8 pixels and gives logits, probabilities and image features; it is run beside the classifier before it is
kept. docs/export.md says what is in the files and how to run them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs import signals

if __name__ == "__main__":
    signals.install(raising=False)  # before the imports below, which take a while

import torch
from safetensors.torch import save
from torch import Tensor

from datamodules.disk import read_text
from files.whole import write_bytes
from lightning_modules.checkpoints import read_prompts
from lightning_modules.process import quiet, seed_everything
from prompts.engine.rows import NO_PROMPTS, Rows, TowerPrompts
from runs import launch
from tools.classifier import Classifier, load, prompts_file
from tools.graphs import OPSETS, check, onnx_file, onnx_run, pt2_file, pt2_run, require_onnx, traced

FORMATS = (".onnx", ".pt2", ".safetensors")
TOKENS = "emb_params"  # the only tensor of a file of token embeddings


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a finished run, its prompts.safetensors, or hf-hub:NAME")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help=f"a name that ends in {', '.join(FORMATS)}")
    named = parser.add_mutually_exclusive_group()
    named.add_argument("--classes", nargs="+", metavar="NAME", help="class names (default: those of the run)")
    named.add_argument("--classes-file", type=Path, metavar="FILE", help="a class name a line")
    parser.add_argument("--opset", type=int, default=OPSETS[0], metavar="N", help=f"of ONNX (default: {OPSETS[0]})")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the config, such as clip.weights=PATH")
    parser.add_argument("--config-dir", type=Path, metavar="FOLDER", help="more configs, as for run.py")
    return parser.parse_args()


def main() -> None:
    """Writes the file. ValueError for a user's mistake."""
    options = arguments()
    if options.to.suffix not in FORMATS:
        raise ValueError(f"--to {options.to}: give a name that ends in {', '.join(FORMATS)}.")
    if options.opset not in OPSETS:
        raise ValueError(f"--opset {options.opset}: give a number from {OPSETS[0]} to {OPSETS[-1]}.")
    if options.to.suffix == ".onnx":
        require_onnx()
    classnames = read_text(options.classes_file, "the class names") if options.classes_file else options.classes
    quiet()
    seed_everything(1)
    classifier = load(options.run, options.set, options.config_dir, "cpu")
    print(export(classifier, options.to, read_prompts(prompts_file(options.run)).about, classnames, options.opset))


def export(
    classifier: Classifier,
    to: Path,
    about: dict[str, Any],
    classnames: Sequence[str] | None = None,
    opset: int = OPSETS[0],
) -> str:
    """Writes a graph, or the token embeddings, and returns a line for the screen.

    Args:
        classifier: on the CPU; is bound to the class names.
        to: a name that ends in one of `FORMATS`.
        about: what the prompts file says of itself.

    Raises:
        ValueError: class names that do not fit; a method or CLIP that cannot be written in this form; outputs that differ.
    """
    classifier.bind(classnames)
    about = {
        "classnames": classifier.classnames,
        "method": about.get("method"),
        "clip": about.get("clip"),
        "backbone": classifier.model.clip.identity,
        "image": classifier.model.clip.image_spec,
    }
    if to.suffix == ".safetensors":
        tokens, example = learned_tokens(classifier)
        about["example"] = {"classname": classifier.classnames[0], "tokens": example}
        write_bytes(to, save({TOKENS: tokens}, {"about": json.dumps(about)}))  # one entry: several have no fixed order
        return f"{to}: {len(tokens)} token embeddings of width {tokens.shape[1]}"
    program = traced(classifier)
    is_onnx = to.suffix == ".onnx"
    content = onnx_file(program, about, opset) if is_onnx else pt2_file(program, about)
    off = check((onnx_run if is_onnx else pt2_run)(content), classifier, str(to))
    write_bytes(to, content)
    return (
        f"{to}: {len(classifier.classnames):,} classes, {len(content) / 1e6:,.1f} MB; largest difference from the run {off:.0e}"
    )


@torch.no_grad()
def learned_tokens(classifier: Classifier) -> tuple[Tensor, list[int]]:
    """The learned context as token embeddings (n,D), float32, and the tokens of the first class, where -1, -2, ... stand for
    its rows.

    Raises:
        ValueError: the method's prompts are not such rows alone.
    """
    learner, clip = classifier.model.learner, classifier.model.clip
    depends, plan = classifier.model.text_depends_on(), learner.plan
    prompts = learner.text_prompts(torch.zeros(1, clip.embed_dim)) if depends == "tensors" else NO_PROMPTS
    rows = prompts.inputs
    plain = rows is not None and rows == Rows(rows.q, per="shared") and prompts == TowerPrompts(rows)
    if not plain or plan is None or learner.image_prompts() != NO_PROMPTS:
        raise ValueError(
            f"{type(learner).__name__} has learned no context of token embeddings that all classes and images share, so it has "
            "no such file: write an .onnx or a .pt2."
        )
    if clip.changed or sum(t.numel() for t in classifier.model.prompt_state()[0].values()) != rows.q.numel():
        raise ValueError(f"{type(learner).__name__} has learned more than this context: write an .onnx or a .pt2.")
    return rows.q.detach().float().contiguous(), [*plan.prefix.tolist(), *plan.rows[0, : plan.lengths[0]].tolist()]


if __name__ == "__main__":
    sys.exit(launch.exit_status_of(main))
