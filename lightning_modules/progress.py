"""The progress of a run: a bar on a terminal, a few lines in a file."""

from __future__ import annotations

import os
import sys

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from lightning_modules import launch


class Progress(RichProgressBar):
    """Rich's bar on a terminal. Elsewhere about ten lines per run, as a bar would fill a log file with its frames, and none
    in a sweep, whose jobs say one line each."""

    def __init__(self) -> None:
        super().__init__(leave=False)
        sweep = os.environ.get(launch.IN_SWEEP)
        self.lines = not sys.stdout.isatty() and not sweep
        if not sys.stdout.isatty() or sweep == "beside others":
            self.disable()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        done, epochs = trainer.current_epoch + 1, trainer.max_epochs or 1
        if self.lines and trainer.is_global_zero and (done * 10 // epochs > (done - 1) * 10 // epochs):
            total, steps = pl_module.losses[-1]
            print(f"  epoch {done}/{epochs}   loss {total / max(steps, 1):.4f}", flush=True)
