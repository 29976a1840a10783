"""The base of all tasks: training steps, learning rates and checkpoints. The evaluation loop is in `evaluated.py`.

A kind of task is one file in this folder: a subclass of `TaskModule` that gives the losses of a batch and the metrics of an
evaluation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from datamodules.evaluation import Evaluation
from lightning_modules.diagnosis import why_not_finite
from lightning_modules.evaluated import EvaluatedModule
from lightning_modules.optimizers import check_gradients, check_groups, make_optimizer, set_rates_of_batch
from lightning_modules.schedule import MultiStep, Poly
from lightning_modules.step_losses import StepLosses, is_read_later, magnitudes
from prompts.engine.sending import send
from prompts.learner import TrainingHooks
from prompts.prompted_clip import PromptedCLIP

LEARNER = "model.learner."  # prefix of the learner's tensors in the state dict: a checkpoint holds these,
TOWERS = "model.clip.model."  # and, with this prefix, the CLIP's tensors that are trained

DRAWN_BY = ("label", "batch_index")  # entries of a batch that `PromptLearner.sample` needs on the CPU


def on_host(name: str) -> str:
    """The name of the entry that holds a batch entry's copy on the CPU."""
    return f"{name} on the host"


class TaskModule(EvaluatedModule):
    """Trains `model`'s learner and evaluates it. Base of all tasks.

    A subclass sets `needs` and `figure` and overrides `training_losses`, `start_evaluation`, `evaluate_batch` and `metrics_of`;
    `finish_evaluations` and `write_files` where it has something to do there.

    Args:
        data: the datamodule, whose `train_loader(rank, world, accumulate)` gives the training batches.
        optimizer: makes the optimiser from the learner's parameter groups (`lightning_modules.optimizers` says what they may
            hold); each group's `lr` is the peak of its schedule.
        epochs: length of the schedule.
        tests: what is evaluated at the end; results in `self.metrics`, by name.
        vals: what is evaluated during training; results in `self.history`, one entry per epoch that is evaluated.

    Raises:
        ValueError: `epochs` is no number of epochs, or the learner refuses the class list of an evaluation.
    """

    needs: ClassVar[tuple[str, ...]] = ()  # words that must be among the `offers` of the learner or of the data

    by_step: Poly | MultiStep | None = None  # the schedule of rates by steps; None: the schedule goes by epochs
    strict_loading = False  # a checkpoint holds the learner alone; on_load_checkpoint says what may be missing

    def __init__(
        self,
        model: PromptedCLIP,
        data: Any,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        epochs: int,
        seed: int,
        tests: Sequence[Evaluation],
        vals: Sequence[Evaluation] = (),
    ) -> None:
        super().__init__(model, tests, vals)
        if not isinstance(epochs, int) or epochs < 1:
            raise ValueError(f"epochs={epochs!r}: give a number of epochs, 1 or more.")
        self.data, self.make_optimizer, self.epochs, self.seed = data, optimizer, epochs, seed
        self.train_classnames = model.classnames
        lists = (evaluation.classnames for evaluation in (*self.vals, *self.tests))
        model.check_classes(classnames for classnames in lists if classnames)
        self.step_losses = StepLosses()
        self.seconds_before = 0.0  # how long earlier processes trained this run
        self.started = time.monotonic()
        self.kept_epoch = epochs - 1
        self._loss_of_step: Tensor | float = 0.0
        self._gradients_checked = False  # whether this process has done so
        self._trained: dict[str, Tensor] = {}  # `trainable`, which walks through the whole CLIP
        self._rate_logged: int | None = None  # the epoch, or step, whose rate this fit has logged

    # ---- what a task overrides

    def training_losses(self, batch: dict[str, Tensor], seed: int) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of a batch, and the outputs that they come from.

        Args:
            batch: as `datamodules.loaders.collate` makes it.
            seed: for what is sampled; the same for all ranks and micro-batches of an optimiser step.

        Returns:
            Losses by name, each (B,), one per sample, or a scalar that does not depend on the batch; outputs (B,...), such as
            logits, which the error message of a loss that is not finite examines.
        """
        raise NotImplementedError

    def prepare_learner(self) -> None:
        """Gives a method without gradients what it needs of the training images, before the test. Called on every rank."""

    # ---- training

    @property
    def losses(self) -> list[list[float]]:
        """Per epoch: the sum of its steps' losses, and how many steps. ValueError where one is not finite."""
        return self.step_losses.by_epoch

    @property
    def trainable(self) -> dict[str, Tensor]:
        """The trained tensors, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def train_dataloader(self) -> Any:
        """This rank's training batches."""
        rank, context = self.trainer.global_rank, self.trainer.precision_plugin.forward_context
        loader = self.data.train_loader(rank, self.trainer.world_size, self.trainer.accumulate_grad_batches)
        return self.features.training(loader, self.model, context, self.takes_features, rank)

    def configure_optimizers(self) -> Optimizer:
        """One optimiser of the learner's parameter groups and a trained CLIP's. ValueError where the learner's groups are not
        its trainable tensors."""
        groups = self.model.learner.parameter_groups()
        check_groups(self.model.learner, groups)
        of_clip = [{"params": list(group.tensors.values()), "factor": group.rate} for group in self.model.clip.trained]
        # Lightning refuses to clip gradients where a fused optimiser may unscale them itself; and with 16-mixed it would
        trainer = self._trainer  # None outside a run, where `self.trainer` raises
        may_fuse = trainer is not None and not trainer.gradient_clip_val and trainer.precision != "16-mixed"
        return make_optimizer(self.make_optimizer, groups + of_clip, may_fuse)

    def on_fit_start(self) -> None:
        self.store_towers()
        self._trained, self._rate_logged = self.trainable, None

    def transfer_batch_to_device(self, batch: Mapping[str, Any], device: torch.device, dataloader_idx: int) -> dict[str, Any]:
        """The batch on the device. The entries `DRAWN_BY` are also kept on the CPU, as reading them back would wait."""
        if all(isinstance(entry, Tensor) for entry in batch.values()):  # Lightning's walk through a batch takes 0.2 ms
            moved = {name: send(tensor, device) for name, tensor in batch.items()}
        else:
            moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved | {on_host(name): batch[name] for name in DRAWN_BY if name in batch}

    def on_train_epoch_start(self) -> None:
        self.trainer.train_dataloader.set_epoch(self.current_epoch)
        self.losses.append([0.0, 0])

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        # Set at each batch and not once per epoch: Lightning skips the epoch's hooks when it resumes within one.
        set_rates_of_batch(self.trainer, self.epochs, batch_idx, self.by_step)
        # A learner that draws from torch's generator draws the same on every rank and after a resume.
        seed_generators(self.seed_of(batch_idx), self.device)

    def seed_of(self, number: int) -> int:
        """A seed for what is random in one batch or step of this epoch."""
        return (self.seed * 1_000_003 + self.current_epoch) * 1_000_003 + number

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        # one seed per optimiser step: sampling depends neither on the ranks nor on the micro-batches
        seed = self.seed_of(batch_idx // self.trainer.accumulate_grad_batches)
        losses, outputs = self.training_losses(batch, seed)
        # gradients are averaged over ranks and micro-batches; the weights already add up to 1 over all of them
        parts = self.trainer.world_size * self.trainer.accumulate_grad_batches
        weight = batch["weight"] * parts
        terms = {name: (loss * weight).sum() if loss.ndim else loss for name, loss in losses.items()}
        total = torch.stack(list(terms.values())).sum()
        self.check_loss(total.detach(), terms, outputs.detach(), batch)
        if not total.requires_grad:
            self.check_gradients()
        self.log_step(total.detach(), batch_idx)
        return total

    def check_loss(self, total: Tensor, terms: Mapping[str, Tensor], outputs: Tensor, batch: Mapping[str, Tensor]) -> None:
        """ValueError that says why a loss is not finite: at once, or on CUDA in the next step (`StepLosses`)."""
        where, terms = f"epoch {self.current_epoch}, step {self.global_step}", {name: t.detach() for name, t in terms.items()}
        # of a step that is looked at later, as its update changes the tensors
        trained = magnitudes(self._trained) if is_read_later(total) else self._trained
        self.step_losses.check(total, partial(why_not_finite, where, terms, outputs, batch, trained, self.what_to_lower))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if not self._gradients_checked:  # in the first step, before the learner may set some gradients to None
            self.check_gradients()
            self._gradients_checked = True
        if isinstance(self.model.learner, TrainingHooks):
            self.model.learner.before_step()

    def check_gradients(self) -> None:
        """ValueError that names the trained tensors without a gradient, the learner's and the CLIP's."""
        check_gradients(type(self.model.learner).__name__, self.model.learner.named_parameters())
        check_gradients("clip.trainable", self.model.clip.trained_tensors().items())

    def optimizer_step(self, epoch: int, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(epoch, batch_idx, *args, **kwargs)
        if batch_idx + 1 < self.trainer.num_training_batches:
            return
        self.step_losses.read()  # before anything uses the epoch's prompts
        self.kept_epoch = epoch
        if isinstance(self.model.learner, TrainingHooks):  # here, as Lightning's epoch hook runs after evaluation and callbacks
            self.model.learner.end_epoch(epoch, self.epochs)

    def log_step(self, loss: Tensor, batch_idx: int) -> None:
        """Logs the loss of an optimiser step: the mean over its ranks and micro-batches."""
        accumulate = self.trainer.accumulate_grad_batches
        self._loss_of_step = loss / accumulate + (self._loss_of_step if batch_idx % accumulate else 0.0)
        if (batch_idx + 1) % accumulate:
            return
        loss = self.trainer.strategy.reduce(self._loss_of_step, reduce_op="mean")
        self.step_losses.add(loss)
        self.log("loss", loss, prog_bar=True)
        at = self.global_step if self.by_step else self.current_epoch
        if self._rate_logged != at:  # it holds until the next one, and each number is a copy to the device
            self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"], prog_bar=True)
            self._rate_logged = at

    # ---- state

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        trained = {TOWERS + name for name in self.model.clip.trained_tensors()}
        state = super().state_dict(*args, **kwargs)
        return {key: value for key, value in state.items() if key.startswith(LEARNER) or key in trained}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.step_losses.read()  # before anything is written: an error leaves the last saved state
        self.model.check_finite()
        seconds = self.seconds_before + time.monotonic() - self.started
        checkpoint["progress"] = {"history": self.history, "losses": self.losses, "seconds": seconds}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        progress = checkpoint["progress"]
        self.history, self.seconds_before = progress["history"], progress["seconds"]
        self.step_losses.epochs = progress["losses"]
        self.kept_epoch = len(self.losses) - 1  # right also where no epoch is left to train, after early stopping
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


def seed_generators(seed: int, device: torch.device) -> None:
    """Seeds the two generators of torch that a step on this device draws from.

    `torch.manual_seed` would also note, with the stack of the caller, that all other kinds of devices be seeded when they are
    first used: a millisecond in each step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
