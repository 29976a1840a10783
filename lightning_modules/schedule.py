"""The learning rates of a run: by epochs as CoOp's trainer sets them (on Dassl), or by steps as mmsegmentation and mmdetection
do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def cosine_after_warmup(epoch: int, epochs: int, lr: float, warmup_epochs: int = 1, warmup_lr: float = 1e-5) -> float:
    """The rate of an epoch (0-based): constant in the warm-up, then a cosine over all `epochs` that starts after the
    warm-up and so never reaches 0."""
    if epoch < warmup_epochs:
        return warmup_lr
    return 0.5 * lr * (1 + math.cos(math.pi * (epoch - warmup_epochs) / epochs))


@dataclass(frozen=True)
class Poly:
    """mmsegmentation's `poly` with a linear warm-up, by which DenseCLIP is trained (Rao et al., CVPR 2022, its configs).

    The rate falls from lr to `min_lr` with (1 - step / steps) ** `power`; in the first `warmup` steps it is multiplied by a
    factor that rises from `warmup_ratio` to 1.

    Args:
        min_lr: the rate at the end, of every group, whatever its peak is.
        warmup: optimiser steps.

    Raises:
        ValueError: numbers that are out of range.
    """

    power: float
    min_lr: float
    warmup: int
    warmup_ratio: float

    def __post_init__(self) -> None:
        if not 0 < self.power <= 100:
            raise ValueError(f"poly.power={self.power}: give a number above 0, such as 0.9.")
        if not 0 <= self.min_lr <= 1e6:
            raise ValueError(f"poly.min_lr={self.min_lr}: give a rate, 0 or more, such as 1e-6.")
        check_warmup("poly", self.warmup, self.warmup_ratio)

    def __call__(self, step: int, steps: int, lr: float) -> float:
        """The rate of an optimiser step (0-based, of `steps`) whose peak is `lr`. ValueError where the steps end within the
        warm-up."""
        rate = (lr - self.min_lr) * (1 - step / steps) ** self.power + self.min_lr
        return rate * risen("poly", step, steps, self.warmup, self.warmup_ratio)


@dataclass(frozen=True)
class MultiStep:
    """mmdetection's `step` policy with a linear warm-up, by which DenseCLIP's detectors are trained (Rao et al., CVPR 2022, its
    configs): the rate is multiplied by `factor` at each of the steps `at`.

    Args:
        at: shares of the run's optimiser steps, rising, between 0 and 1.
        warmup, warmup_ratio: as in `Poly`.

    Raises:
        ValueError: numbers that are out of range.
    """

    at: Sequence[float]
    factor: float
    warmup: int
    warmup_ratio: float

    def __post_init__(self) -> None:
        if list(self.at) != sorted(set(self.at)) or not all(0 < share < 1 for share in self.at):
            raise ValueError(f"multistep.at={list(self.at)}: give rising shares of the run between 0 and 1, such as [0.6,0.9].")
        if not 0 < self.factor <= 1:
            raise ValueError(f"multistep.factor={self.factor}: give a number above 0, up to 1, such as 0.1.")
        check_warmup("multistep", self.warmup, self.warmup_ratio)

    def __call__(self, step: int, steps: int, lr: float) -> float:
        """As `Poly`."""
        drops = sum(step >= round(share * steps) for share in self.at)
        return lr * self.factor**drops * risen("multistep", step, steps, self.warmup, self.warmup_ratio)


def check_warmup(key: str, warmup: int, ratio: float) -> None:
    """ValueError for a number of optimiser steps, or a share of the rate at the first of them, that cannot be."""
    if warmup < 0:
        raise ValueError(f"{key}.warmup={warmup}: give a number of optimiser steps, 0 or more.")
    if not 0 <= ratio <= 1:
        raise ValueError(f"{key}.warmup_ratio={ratio}: give a share of the rate, from 0 to 1.")


def risen(key: str, step: int, steps: int, warmup: int, ratio: float) -> float:
    """The factor of the rate at a step (0-based, of `steps`), which rises from `ratio` to 1 in the first `warmup` steps.
    ValueError where the run ends within them."""
    if warmup >= steps:
        raise ValueError(
            f"{key}.warmup={warmup}: these are {steps} optimiser steps, which would end while the rate rises: give fewer, or "
            "train for more epochs."
        )
    return 1.0 if step >= warmup else 1 - (1 - step / warmup) * (1 - ratio)


def steps_of(trainer: Trainer, epochs: int) -> tuple[int, int]:
    """Optimiser steps of an epoch and of the whole run, which `trainer.max_steps` may end earlier. For a run that is cut short
    (`runs.identity.CUTS`), the numbers of the whole run."""
    per_epoch = len(trainer.train_dataloader) // trainer.accumulate_grad_batches
    steps = epochs * per_epoch
    return per_epoch, min(steps, trainer.max_steps) if trainer.max_steps > 0 else steps
