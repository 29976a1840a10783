"""Normalisation of maps over a batch that is divided among ranks.

torch's SyncBatchNorm runs on CUDA alone and counts every image. This one runs anywhere and leaves out images of weight 0, which
pad the ranks' shares of a batch.

Shapes: B images, C channels, h x w positions.
"""

from __future__ import annotations

from math import gcd
from typing import Literal

import torch
from torch import Tensor, nn

from prompts.engine.sharding import gather_rows
from prompts.parts.training_draws import Draws

Norm = Literal["batch", "group"]
GROUPS = 32  # of GroupNorm (Wu and He, ECCV 2018, section 4)
FEWEST = 4  # channels of a group where so many groups would have one each


class RankBatchNorm(nn.Module):
    """BatchNorm (Ioffe and Szegedy, ICML 2015) with the statistics of all ranks' counted images. Gradients flow through them,
    as in torch's SyncBatchNorm. In evaluation it uses the running statistics."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """(B,C,h,w) -> the same shape, float32. `draws` in training alone."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            mean, var = self._statistics(x, draws) if self.training else (self.running_mean, self.running_var)
            scale = self.weight * torch.rsqrt(var + self.eps)
            return (x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]

    def _statistics(self, x: Tensor, draws: Draws | None) -> tuple[Tensor, Tensor]:
        """Mean and biased variance (C,) over the counted images of all ranks; updates the running statistics."""
        assert draws is not None, "BatchNorm needs to know in training which images count"
        counted = draws.counted.to(x.dtype)
        count = summed(counted.sum() * x.shape[-2] * x.shape[-1])
        any_counts, count = (count > 0).to(x.dtype), count.clamp(min=1)
        mean = summed((x.sum((2, 3)) * counted[:, None]).sum(0)) / count
        squares = (x - mean[:, None, None]).square().sum((2, 3))  # of deviations from the mean, which avoids cancellation
        var = summed((squares * counted[:, None]).sum(0)) / count
        with torch.no_grad():
            share = self.momentum * any_counts  # a step of unreadable images has no statistics
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(var * (count / (count - 1).clamp(min=1)), share)
        return mean, var


def summed(tensor: Tensor) -> Tensor:
    """The sum of the ranks' tensors, with gradients back to each."""
    return gather_rows(tensor[None]).sum(0)


def groups_of(channels: int) -> int:
    """The number of groups: 32, or the largest divisor of 32 that divides the channels. Fewer where that would leave one
    channel in each, as nothing is left of a map of one position then."""
    groups = gcd(GROUPS, channels)
    return groups if groups < channels else max(channels // FEWEST, 1)


class MapNorm(nn.Module):
    """The normalisation of maps in a neck or a head: over the batch, as published, or over groups of an image's channels."""

    def __init__(self, kind: Norm, channels: int):
        super().__init__()
        self.layer = RankBatchNorm(channels) if kind == "batch" else nn.GroupNorm(groups_of(channels), channels)

    def forward(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """(B,C,h,w) -> the same shape."""
        return self.layer(x, draws) if isinstance(self.layer, RankBatchNorm) else self.layer(x)
