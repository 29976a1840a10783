"""The random numbers of a training step of a dense method, and the images of a batch that count: functions of the step and the
image, never of the rank, so that one rank and N ranks learn the same.

Shapes: B images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """A training step, as `TaskModule.training_losses` gets it.

    `seed` is the same for all ranks and micro-batches; `index` (B,) are the images' positions in the training list; `weight`
    (B,) their shares of the loss, which add up to 1 over all ranks and micro-batches and are 0 for images that do not count.
    """

    seed: int
    index: Tensor
    weight: Tensor


class Draws:
    """The noise of one forward pass. Each image has its own generator, so what is drawn for it depends on the step's seed, the
    image and the order of the calls alone."""

    def __init__(self, step: Step, device: torch.device):
        self.counted = (step.weight > 0).to(device)  # (B,) bool
        self._generators = [
            torch.Generator(device).manual_seed((step.seed * 1_000_003 + int(index)) % 2**63) for index in step.index.tolist()
        ]

    def dropout(self, x: Tensor, rate: float, channels: bool = False) -> Tensor:
        """x (B,...) with a share `rate` of its numbers set to 0 and the others scaled; with `channels` whole channels
        (B,C,...)."""
        if not rate:
            return x
        shape = x.shape[1:2] + (1,) * (x.dim() - 2) if channels else x.shape[1:]
        kept = torch.stack([torch.rand(shape, generator=g, device=g.device) >= rate for g in self._generators])
        return x * kept.to(x.dtype) / (1 - rate)
