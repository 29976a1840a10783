"""The two artefacts of a run: `prompts.safetensors`, to keep and share, and `last.ckpt`, for resuming only."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from files.untrusted import parse_json, regular_file
from files.whole import write_bytes
from lightning_modules.resume_state import WholeFiles
from prompts.engine.clip import FrozenCLIP
from prompts.parts.published import learned_tensors, read_published
from prompts.parts.transfer import start_from
from prompts.prompted_clip import PromptedCLIP
from runs import signals
from runs.jobs import LAST
from runs.stored import checked_about, method_settings

PROMPTS, BEST = "prompts.safetensors", "best.safetensors"
ABOUT = "about"


def save_prompts(path: Path, model: PromptedCLIP, about: dict[str, Any]) -> None:
    """Writes the learner's prompts; `about` (json-able) says what they belong to, the CLIP's identity with it. Atomic."""
    tensors, own_classes = model.prompt_state()
    about = {"classnames": model.classnames, "own_classes": own_classes, "backbone": model.clip.identity, **about}
    # one entry, as safetensors writes several in no fixed order: equal prompts are equal files
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {ABOUT: json.dumps(about)})
    write_bytes(path, content)


@dataclass(frozen=True)
class SavedPrompts:
    """A prompts file: its tensors, and what it says about itself. A published checkpoint says nothing about itself."""

    tensors: dict[str, Tensor]
    about: dict[str, Any]
    published: bool = False
    path: Path | None = None

    def classnames(self, here: list[str]) -> list[str]:
        """The classes trained on, those of the dataset at hand where the file does not say."""
        return here if self.published else self.about["classnames"]

    def into(self, model: PromptedCLIP) -> None:
        """ValueError where the tensors do not fit the model."""
        if self.published:
            tensors = learned_tensors(self.tensors, model.learner.published_names)
            own_classes = model.classnames if model.learner.class_specific else None
        else:
            tensors, own_classes = self.tensors, self.about["own_classes"]
        model.load_prompt_state(tensors, own_classes)

    def settings(self, method: DictConfig) -> dict[str, Any]:
        """The method's settings at training time, as arguments for its constructor, without those that follow the data
        (interpolations). ValueError where one is not of its key's type."""
        return method_settings(method, self.about["settings"], "the settings of the saved prompts")


def read_prompts(path: Path) -> SavedPrompts:
    """The content of a prompts file. ValueError where it is none: a stranger may have made it."""
    regular_file(path, "the prompts file")
    try:
        with safe_open(path, framework="pt") as file:
            stored = (file.metadata() or {}).get(ABOUT, "{}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        about = parse_json(stored, f"what {path} says about itself")
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is no prompts file of this suite, or it is damaged: {str(error).rstrip('.')}.") from error
    if not isinstance(about, dict) or not {"classnames", "own_classes"} <= set(about):
        raise ValueError(f"{path} is no prompts file of this suite: it does not say what it was trained on.")
    if odd := next((name for name, tensor in tensors.items() if not tensor.is_floating_point()), None):
        raise ValueError(
            f"{path} is no prompts file of this suite: its tensor {odd[:80]!r} is {tensors[odd].dtype}, not floating."
        )
    return SavedPrompts(tensors, checked_about(about, path), path=path)


def prompts_of(ckpt: str | None, names: Mapping[str, str]) -> SavedPrompts:
    """The prompts that `ckpt` names, to be evaluated. A prompts file must belong to this run's method (`check_backbone`: and to
    its CLIP); a published checkpoint is checked by its tensors."""
    if not ckpt:
        raise ValueError(f"fit=false evaluates saved prompts: name them with ckpt=PATH (a {PROMPTS} or its folder).")
    saved = _found("ckpt", ckpt)
    method = _name(saved.about.get("method"))
    if not saved.published and method == "?":
        raise ValueError(f"{saved.path} does not say which method it was trained with: give the {PROMPTS} of a finished run.")
    if not saved.published and method != names["method"]:
        raise ValueError(
            f"{saved.path} was trained with method={method}, this run has method={names['method']}: add method={method}."
        )
    return saved


def begin_from(path: str | None, clip_name: str, model: PromptedCLIP, other_clip: bool) -> str:
    """Lets the model's prompts start from saved ones, of whatever method; says which did ("" without a path)."""
    if not path:
        return ""
    saved = _found("init_from", path)
    check_backbone(saved, model.clip, clip_name, other_clip)
    published = model.learner.published_names
    taken = start_from(model, learned_tensors(saved.tensors, published) if saved.published else saved.tensors)
    rest = sorted(set(model.prompt_state()[0]) - set(taken))
    return f"prompts from {path}: {', '.join(taken)}" + (f"; as configured: {', '.join(rest)}" if rest else "")


def _found(key: str, given: str) -> SavedPrompts:
    """A prompts file, its folder, or a published checkpoint (model.pth.tar-N)."""
    path = Path(given) / PROMPTS if Path(given).is_dir() else Path(given)
    if not path.is_file():
        raise ValueError(f"{key}={given}: there is no {path}. Give a {PROMPTS} or the folder of a finished run.")
    if path.suffix != ".safetensors":
        return SavedPrompts(read_published(path), {"own_classes": None, "classnames": None, "settings": {}}, published=True)
    return read_prompts(path)


def check_backbone(saved: SavedPrompts, clip: FrozenCLIP, clip_name: str, other_clip: bool) -> None:
    """ValueError where the prompts were trained on another CLIP, or do not say on which, unless `other_clip` allows it.

    The name of the clip group decides nothing: the same CLIP may come from the hub or from a file. Published checkpoints say
    nothing of their CLIP and pass.
    """
    if saved.published or other_clip:
        return
    there, here, name = saved.about.get("backbone"), clip.identity, _name(saved.about.get("clip"))
    hint = f"add clip={name}, or" if name not in (clip_name, "?") else "give that CLIP, or"
    if not isinstance(there, dict):
        raise ValueError(
            f"{saved.path} does not say on which CLIP it was trained, as files made by earlier versions do not: {hint} "
            "other_clip=true to use it on this one."
        )
    differ = [key for key in here if there.get(key) != here[key]]
    if differ:
        what = "; ".join(f"{key} {str(there.get(key))[:120]!r} there and {here[key]!r} here" for key in differ)
        raise ValueError(f"{saved.path} was trained on another CLIP ({what}): {hint} other_clip=true to use it all the same.")


def _name(value: Any) -> str:
    """The name of a group's option as a file says it; "?" for what is no such name."""
    return value if isinstance(value, str) and re.fullmatch(r"[\w.-]{1,80}", value) else "?"


class Resumable(Callback):
    """Keeps `last.ckpt` fresh, and saves it when SIGTERM or SIGINT asks the run to stop in training.

    Saved at the end of an epoch or, within one, between optimiser steps: half-accumulated gradients are not kept.

    Args:
        every: seconds between saves; 0 saves after each optimiser step.
        steps: also saves after every so many optimiser steps, if given.
        run: what the state says that it belongs to.
    """

    patience = 10.0  # seconds that an evaluation during training may go on after a signal, to be kept with its epoch

    def __init__(
        self, folder: Path, every: float = 60.0, steps: int | None = None, run: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self.path, self.every, self.steps, self.run = folder / LAST, every, steps, dict(run)
        self.saved = time.monotonic()
        self.handlers: dict[int, Any] = {}
        self.holding = False
        self.started = False  # whether training has: until then a state is being restored

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        trainer.strategy.checkpoint_io = WholeFiles()
        # Lightning's answer to SIGTERM enters a collective wherever the signal strikes, and ends in status 0.
        trainer._signal_connector._sigterm_notifier_fn = lambda number, frame: None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.handlers = signals.install()
        signals.hold()  # a signal is answered between two steps, where the state can be saved
        self.holding = self.started = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.restore()
        signals.check()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.restore()

    def restore(self) -> None:
        if self.holding:
            self.holding = False
            signals.release()
        signals.restore(self.handlers)
        self.handlers = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and batch_idx + 1 < trainer.num_training_batches:
            self.save_if_due(trainer, now=self.steps is not None and trainer.global_step % self.steps == 0)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if signals.waited() > self.patience:  # no collective: the first rank ends the others
            raise signals.Interrupted(where=f"in the evaluation after epoch {trainer.current_epoch + 1}")

    def on_test_batch_end(self, *args: Any) -> None:
        signals.check()  # a library may have swallowed what the handler raised

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save_if_due(trainer, now=trainer.current_epoch + 1 >= (trainer.max_epochs or 0))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["run"] = self.run

    def save_if_due(self, trainer: Trainer, now: bool = False) -> None:
        # Clocks and signals differ between ranks, saving is collective: all ranks act when one wants to.
        def anywhere(here: bool) -> bool:
            return trainer.strategy.reduce_boolean_decision(here, all=False)

        if not anywhere(bool(signals.asked()) or now or time.monotonic() - self.saved >= self.every):
            return
        trainer.save_checkpoint(self.path)
        self.saved = time.monotonic()
        if anywhere(bool(signals.asked())):
            raise signals.Interrupted(
                where=f"in epoch {trainer.current_epoch + 1}", then=f"the same command resumes from {self.path}"
            )


class BestOnValidation(Callback):
    """Keeps the prompts of the epoch with the best accuracy on one of the validation sets (first of equals)."""

    def __init__(self, folder: Path, monitor: str = "val") -> None:
        self.path, self.monitor = folder / BEST, monitor

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scores = [entry[self.monitor]["accuracy"] for entry in pl_module.history]
        if trainer.is_global_zero and scores.index(max(scores)) == len(scores) - 1:
            save_prompts(self.path, pl_module.model, {"epoch": pl_module.history[-1]["epoch"]})
        trainer.strategy.barrier()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not pl_module.history:  # learners without gradients have no epochs
            return
        if not self.path.exists():
            raise ValueError(f"{self.path}, the best prompts of the interrupted run, is gone: force=true starts it over.")
        best = read_prompts(self.path)
        best.into(pl_module.model)
        pl_module.kept_epoch = best.about["epoch"]
