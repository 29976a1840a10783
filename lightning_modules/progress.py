"""The progress of a run: a bar on a terminal, a few lines in a file."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from runs.journal import duration_text
from runs.sweep import IN_SWEEP

SHOWN_FOR = 0.25  # seconds between two updates of the bar's figures


class RunProgress(RichProgressBar):
    """Rich's bar on a terminal; elsewhere about ten lines per run, as the frames of a bar would fill a log file.

    In a sweep there are no lines: its jobs print one line each. Bar and lines show how many training images pass per second,
    over all ranks, and how long the training will still take.
    """

    def __init__(self) -> None:
        super().__init__(leave=False)
        sweep = os.environ.get(IN_SWEEP)
        self.lines = not sys.stdout.isatty() and not sweep
        if not sys.stdout.isatty() or sweep == "beside others":
            self.disable()
        self.start: tuple[float, int] | None = None  # the time, and the number of batches done, when timing began
        self.batches_done = 0  # in the whole run, earlier processes included
        self.shown: tuple[float, dict[str, Any]] | None = None  # when the bar's figures were asked for, and what they were

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts timing: a resumed run is timed from where this process began."""
        super().on_train_start(trainer, pl_module)
        self.start = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Prints a line whenever another tenth of the run is done."""
        batches, epochs = int(trainer.num_training_batches), trainer.max_epochs or 1
        done, total = trainer.current_epoch * batches + batch_idx + 1, epochs * batches
        self.batches_done = done
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)  # asks for `get_metrics`
        if self.start is None:  # the first batch is slow and not timed
            self.start = time.monotonic(), done
        if self.lines and trainer.is_global_zero and done * 10 // total > (done - 1) * 10 // total:
            total_loss, steps = pl_module.losses[-1]  # type: ignore[index]
            within = "" if batch_idx + 1 == batches else f", batch {batch_idx + 1}/{batches}"
            loss = f"loss {total_loss / max(steps, 1):.4f}"
            print(f"  epoch {trainer.current_epoch + 1}/{epochs}{within}   {loss}{self.pace(trainer, done)}", flush=True)

    def pace(self, trainer: Trainer, done: int) -> str:
        """The rate after `done` batches, as the end of a line; empty before it can be known."""
        rate, left = self.rate(trainer, done)
        return f"   {rate:.0f} images/s   {duration_text(left)} left" if rate else ""

    def rate(self, trainer: Trainer, done: int) -> tuple[float, float]:
        """Images per second and seconds left after `done` batches, evaluations and pauses included; zeros before they can be
        known."""
        seconds, since = self.start or (time.monotonic(), done)
        seconds = time.monotonic() - seconds
        if done <= since or seconds <= 0:
            return 0.0, 0.0
        per_batch = seconds / (done - since)
        images = trainer.train_dataloader.sampler.batch_size / trainer.accumulate_grad_batches
        left = (trainer.max_epochs or 1) * int(trainer.num_training_batches) - done
        return images / per_batch, left * per_batch

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The figures that the bar shows beside Lightning's own. They are updated every `SHOWN_FOR` seconds, as reading a loss
        makes a GPU wait."""
        if self.shown and time.monotonic() - self.shown[0] < SHOWN_FOR:
            return self.shown[1]
        items = super().get_metrics(trainer, pl_module)
        if trainer.training and self.start:
            rate, left = self.rate(trainer, self.batches_done)
            if rate:
                items |= {"images/s": f"{rate:.0f}", "left": duration_text(left)}
        self.shown = time.monotonic(), items
        return items
