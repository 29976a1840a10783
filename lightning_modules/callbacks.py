"""Callbacks of every run: the state to resume from, and the prompts of the best epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from files.whole import write_json
from lightning_modules.checkpoints import BEST, read_prompts, save_prompts
from lightning_modules.resume_state import WholeFiles
from runs import signals
from runs.arguments import make
from runs.jobs import LAST

CHECKPOINTS = "checkpoints"  # folder within the run's folder, for a ModelCheckpoint without `dirpath`


def make_callbacks(node: DictConfig, folder: Path) -> list[Callback]:
    """The callbacks of the config, by any name. A ModelCheckpoint without `dirpath` gets a folder within the run's: Lightning
    would take a logger's, or the working directory."""
    callbacks = [callback for callback in make(node).values() if callback is not None]
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str((folder / CHECKPOINTS).resolve())
    return callbacks


class Resumable(Checkpoint):
    """Saves `last.ckpt` regularly, and when SIGTERM or SIGINT asks the run to stop in training.

    Saved at the end of an epoch or, within one, between optimiser steps: half-accumulated gradients are not kept. It is one of
    Lightning's `Checkpoint`s and last in the list, so it runs after EarlyStopping and every ModelCheckpoint, and the state at
    an epoch's end includes what they decided.

    Args:
        every: seconds between saves; 0 saves after each optimiser step.
        steps: also saves after every so many optimiser steps, if given.
        run: stored with the state, to say which run it belongs to.
    """

    patience = 10.0  # seconds that an evaluation during training may still take after a signal, so that its epoch is saved too

    def __init__(
        self, folder: Path, every: float = 60.0, steps: int | None = None, run: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self.path, self.every, self.steps, self.run = folder / LAST, every, steps, dict(run)
        self.saved = time.monotonic()
        self.handlers: dict[int, Any] = {}
        self.holding = False
        self.started = False  # whether training has started: until then a state is being restored

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Makes all checkpoints, those of a ModelCheckpoint too, be written atomically."""
        trainer.strategy.checkpoint_io = WholeFiles()
        # Lightning's handler of SIGTERM enters a collective wherever the signal arrives, and ends with status 0. It is
        # installed between this hook and `on_train_start`, with no hook between, and there is no public way to replace it: so
        # a private attribute is set here.
        trainer._signal_connector._sigterm_notifier_fn = lambda number, frame: None  # type: ignore[assignment, method-assign]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on signals wait until the state can be saved."""
        self.handlers = signals.install()
        signals.hold()
        self.holding = self.started = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raises `Interrupted` where a signal came after the last save."""
        self.restore()
        signals.check()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restores the handlers of signals."""
        self.restore()

    def restore(self) -> None:
        """Installs the handlers of signals that were there before the training."""
        if self.holding:
            self.holding = False
            signals.release()
        signals.restore(self.handlers)
        self.handlers = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves between two optimiser steps, if a save is due."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and batch_idx + 1 < trainer.num_training_batches:
            self.save_if_due(trainer, now=self.steps is not None and trainer.global_step % self.steps == 0)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Raises `Interrupted` where a signal has waited long for an evaluation; the state is that of the last save."""
        if signals.waited() > self.patience:  # without asking the other ranks: the first rank ends them
            raise signals.Interrupted(where=f"in the evaluation after epoch {trainer.current_epoch + 1}")

    def on_test_batch_end(self, *args: Any) -> None:
        """Raises `Interrupted` where a library has swallowed the exception of the signal's handler."""
        signals.check()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves if a save is due, and always at the end of the last epoch."""
        last = trainer.should_stop or trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
        self.save_if_due(trainer, now=last)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds which run the state belongs to, and whether a callback has ended the training."""
        checkpoint["run"] = self.run
        checkpoint["stopped"] = trainer.should_stop

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restores that a callback (EarlyStopping) has ended the training, which Lightning's own state does not hold."""
        trainer.should_stop = bool(checkpoint.get("stopped"))

    def save_if_due(self, trainer: Trainer, now: bool = False) -> None:
        """Saves on all ranks if one has a reason to: a signal, `now`, or the time since the last save. Raises `Interrupted`
        after a signal."""

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
    """Keeps the prompts of the epoch with the best main figure of one of the validations (the first of equals).

    Lightning's ModelCheckpoint would write a pickle instead of safetensors. It also keeps scores and absolute paths in a state
    of its own, which is wrong after the folder has moved, or after a kill between its save and that of `last.ckpt`. Here the
    best epoch follows from the module's history alone.
    """

    def __init__(self, folder: Path, monitor: str = "val") -> None:
        self.path, self.monitor = folder / BEST, monitor

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Saves the prompts where this epoch is the best so far."""
        figure = pl_module.figure
        scores = [entry[self.monitor][figure.key] for entry in pl_module.history]
        best = max(scores) if figure.higher_is_better else min(scores)
        if trainer.is_global_zero and scores.index(best) == len(scores) - 1:
            save_prompts(self.path, pl_module.model, {"epoch": pl_module.history[-1]["epoch"]})
        trainer.strategy.barrier()

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Loads the best epoch's prompts. ValueError where they are gone."""
        if not pl_module.history:  # learners without gradients have no epochs
            return
        if not self.path.exists():
            raise ValueError(f"{self.path}, the best prompts of the interrupted run, is gone: force=true starts it over.")
        best = read_prompts(self.path)
        best.into(pl_module.model)
        pl_module.kept_epoch = best.about["epoch"]


class Followed(Callback):
    """Writes the history of a training run to a file after each evaluation, for a search that may end the run early.

    Args:
        digest: of the run, to tell it from an earlier run that it needs and that writes to the same file.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path, self.digest = path, digest

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Writes the figures of all epochs so far, those before a resume too."""
        figure = asdict(pl_module.figure)
        write_json(self.path, {"digest": self.digest, "figure": figure, "history": pl_module.history})
