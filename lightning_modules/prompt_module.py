"""The one LightningModule: steps, learning rates and evaluation of any prompt learner on a frozen CLIP."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.metrics import ClassCounts, FirstNotFinite, summarise
from lightning_modules.optimizers import check_gradients, check_groups, make_optimizer, set_rates
from lightning_modules.predictions import Predictions
from prompts.learner import TrainingHooks
from prompts.prompted_clip import PromptedCLIP

Sets = list[tuple[str, list[str]]]  # evaluations: name, class names
LEARNER = "model.learner."  # where the learner's tensors stand in the state dict: all that a checkpoint holds


class PromptModule(LightningModule):
    """Trains `model`'s learner; evaluates it on named sets, each with its class names.

    The loaders are a datamodule's: a training loader with `set_epoch`, an evaluation loader per entry of `vals` and `tests`.

    Args:
        optimizer: makes the optimiser from the learner's parameter groups (`lightning_modules.optimizers` says what they may
            hold); each group's `lr` is the peak of its schedule.
        epochs: length of the schedule.
        tests: class names by evaluation, in the order of the test loaders; results in `self.metrics`.
        vals: the same for the validation loaders, run during training; results in `self.history`, one entry per evaluation.
    """

    strict_loading = False  # a checkpoint holds the learner alone; on_load_checkpoint says what may be missing

    allow_zero_length_dataloader_with_multiple_devices = True  # an evaluation set may have fewer images than ranks

    def __init__(
        self,
        model: PromptedCLIP,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        epochs: int,
        seed: int,
        tests: Mapping[str, list[str]],
        vals: Mapping[str, list[str]] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        if not isinstance(epochs, int) or epochs < 1:
            raise ValueError(f"epochs={epochs!r}: give a number of epochs, 1 or more.")
        self.train_classnames = model.classnames
        for names in (*vals.values(), *tests.values()):
            model.bind(names)  # a class list that the learner refuses ends the run before it starts
        model.bind(self.train_classnames)
        self.model, self.make_optimizer = model, optimizer
        self.epochs, self.seed = epochs, seed
        self.tests, self.vals = list(tests.items()), list(vals.items())
        self.metrics: dict[str, dict[str, Any]] = {}
        self.history: list[dict[str, Any]] = []
        self.losses: list[list[float]] = []  # of each epoch: sum and number of its steps' losses
        self.seconds_before = 0.0  # spent by earlier processes on the same run
        self.started = time.monotonic()
        self.kept_epoch = epochs - 1
        self.partial: Tensor | float = 0.0
        self.gradients_checked = False  # in this process
        self.counts: list = []
        self.not_finite: list = []
        self.predicted: list[Predictions] = []
        self.predictions: dict[str, dict[str, np.ndarray]] = {}  # by test
        self.current: int | None = None  # the evaluation set that the class names are bound to

    @property
    def trainable(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    # ---- training

    def configure_optimizers(self) -> Optimizer:
        groups = self.model.learner.parameter_groups()
        check_groups(self.model.learner, groups)
        return make_optimizer(self.make_optimizer, groups)

    def on_fit_start(self) -> None:
        self.store_towers()

    def on_train_epoch_start(self) -> None:
        self.trainer.train_dataloader.set_epoch(self.current_epoch)
        self.losses.append([0.0, 0])

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        # Set at each batch and not once per epoch: Lightning skips the epoch's hooks when it resumes within one.
        set_rates(self.trainer.optimizers[0], self.current_epoch, self.epochs)
        # A learner that draws from torch's generator draws the same on every rank and after a resume.
        torch.manual_seed((self.seed * 1_000_003 + self.current_epoch) * 1_000_003 + batch_idx)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        # what is sampled is a function of the optimiser's step, so neither ranks nor micro-batches change it
        step = batch_idx // self.trainer.accumulate_grad_batches
        seed = (self.seed * 1_000_003 + self.current_epoch) * 1_000_003 + step
        sample = self.model.learner.sample(batch["label"], batch["batch_index"], seed)
        out = self.model(batch["image"], sample)
        losses = self.model.losses(out, batch["label"], batch["index"])
        parts = self.trainer.world_size * self.trainer.accumulate_grad_batches  # over which gradients are averaged
        weight = batch["weight"] * parts
        terms = {name: (loss * weight).sum() if loss.ndim else loss for name, loss in losses.items()}
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total.detach()):
            raise ValueError(self.explain(terms, out.logits, batch))
        if not total.requires_grad:
            check_gradients(self.model.learner)
        self.note(total.detach(), batch_idx)
        return total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if not self.gradients_checked:  # of the first step, before the learner may set some to None
            check_gradients(self.model.learner)
            self.gradients_checked = True
        if isinstance(self.model.learner, TrainingHooks):
            self.model.learner.before_step()

    def optimizer_step(self, epoch: int, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(epoch, batch_idx, *args, **kwargs)
        last = batch_idx + 1 == self.trainer.num_training_batches  # Lightning's own hook comes after evaluation and callbacks
        if last and isinstance(self.model.learner, TrainingHooks):
            self.model.learner.end_epoch(epoch, self.epochs)

    def note(self, loss: Tensor, batch_idx: int) -> None:
        """Sums up the step's loss: its mean over ranks and micro-batches, so the same number however it was split."""
        accumulate = self.trainer.accumulate_grad_batches
        self.partial = loss / accumulate + (self.partial if batch_idx % accumulate else 0.0)
        if (batch_idx + 1) % accumulate:
            return
        loss = self.trainer.strategy.reduce(self.partial, reduce_op="mean")
        total, steps = self.losses[-1]
        self.losses[-1] = [total + loss.item(), steps + 1]
        self.log("loss", loss, prog_bar=True)
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"], prog_bar=True)

    def explain(self, terms: dict[str, Tensor], logits: Tensor, batch: dict[str, Tensor]) -> str:
        bad = [name for name, term in terms.items() if not torch.isfinite(term)]
        broken = [name for name, p in self.trainable.items() if not torch.isfinite(p).all()]
        if not torch.isfinite(batch["image"]).all():
            cause = f"an image is not finite (one of training indices {batch['index'].tolist()}): check the transform"
        elif broken:
            cause = f"the prompts are not finite any more ({', '.join(broken)}): lower optim.lr"
        elif not torch.isfinite(logits).all():
            full = self.trainer.precision == "32-true"
            cause = f"the logits are not: lower optim.lr{'' if full else ', or try precision=32-true'}"
        else:
            cause = "the logits are finite, so the fault is in this loss term itself"
        where = f"epoch {self.current_epoch}, step {self.global_step}"
        return f"the loss is not finite in {where} ({', '.join(bad) or 'their sum'}): {cause}."

    # ---- evaluation

    def start_evaluation(self, sets: Sets) -> None:
        # Made for all sets at once: a rank without images of a set still takes part in summing it up.
        self.model.check_finite()
        self.counts = [ClassCounts(len(names)).to(self.device) for _, names in sets]
        self.not_finite = [FirstNotFinite().to(self.device) for _ in sets]
        self.current = None

    def evaluate_batch(self, sets: Sets, batch: dict[str, Tensor], which: int) -> None:
        if which != self.current:
            self.model.bind(sets[which][1])  # the class names are encoded once per evaluation
            self.current = which
        readable = batch["weight"] > 0
        logits = self.model(batch["image"]).logits.float()[readable]
        index, labels = batch["index"][readable], batch["label"][readable]
        self.counts[which].update(logits, labels)
        self.not_finite[which].update(index, logits)
        if sets is self.tests:
            self.predicted[which].update(index, logits, labels)

    def end_evaluation(self, sets: Sets) -> dict[str, dict[str, Any]]:
        self.model.bind(self.train_classnames)
        for (name, _), first in zip(sets, self.not_finite, strict=True):
            if (image := int(first.compute())) != first.NONE:
                raise ValueError(
                    f"evaluation {name}: the logits of image {image} are not finite (NaN or infinite), so it has no result: "
                    f"lower optim.lr{'' if self.trainer.precision == '32-true' else ', or try precision=32-true'}."
                )
        pairs = zip(sets, self.counts, strict=True)
        results = {name: summarise(counts.compute(), names) for (name, names), counts in pairs}
        for logger in self.trainer.loggers:
            flat = {f"{name}/{key}": value[key] for name, value in results.items() for key in ("accuracy", "macro_f1")}
            logger.log_metrics(flat, step=self.global_step)
        return results

    def on_test_start(self) -> None:
        self.store_towers()
        self.start_evaluation(self.tests)
        self.predicted = [Predictions(len(each.dataset)).to(self.device) for each in self.trainer.test_dataloaders]

    def test_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.evaluate_batch(self.tests, batch, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        self.metrics = self.end_evaluation(self.tests)
        names = [name for name, _ in self.tests]
        self.predictions = dict(zip(names, (each.compute() for each in self.predicted), strict=True))

    def on_validation_epoch_start(self) -> None:
        self.start_evaluation(self.vals)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.evaluate_batch(self.vals, batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        results = self.end_evaluation(self.vals)
        entry = {name: {key: value[key] for key in ("accuracy", "macro_f1")} for name, value in results.items()}
        self.history.append({"epoch": self.current_epoch, **entry})

    # ---- state

    def store_towers(self) -> None:
        """On a GPU under bf16 autocast, frozen weights are kept in bf16: autocast would cast them anew at each call."""
        if self.device.type == "cuda" and str(self.trainer.precision).startswith("bf16"):
            self.model.clip.store_bf16()

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        return {key: value for key, value in super().state_dict(*args, **kwargs).items() if key.startswith(LEARNER)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.model.check_finite()  # before anything is written: the state of the last save stays
        seconds = self.seconds_before + time.monotonic() - self.started
        checkpoint["progress"] = {"history": self.history, "losses": self.losses, "seconds": seconds}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        progress = checkpoint["progress"]
        self.history, self.losses, self.seconds_before = progress["history"], progress["losses"], progress["seconds"]
        saved, wanted = set(checkpoint["state_dict"]), set(self.state_dict())
        if saved != wanted:
            raise ValueError(
                f"The checkpoint belongs to another learner: it lacks {sorted(wanted - saved) or 'nothing'} "
                f"and has {sorted(saved - wanted) or 'nothing'} too much. Use force=true to start over."
            )
        if names := [name for name, tensor in checkpoint["state_dict"].items() if not tensor.isfinite().all()]:
            raise ValueError(
                f"The checkpoint holds NaN or infinite numbers in {', '.join(names)}: use force=true to start over, and lower "
                "optim.lr if that is where they came from."
            )
