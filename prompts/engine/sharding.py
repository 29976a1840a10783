"""Work divided among the ranks of a process group: each rank encodes its share of the classes and gets all features; and rows
of all ranks are gathered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """(n,d) on each of W ranks -> (W,n,d) on all. Gradients of all ranks are summed and go back to the rank they belong to."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        """All ranks' parts."""
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """This rank's share of the gradients' sum."""
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[dist.get_rank()]


def several_ranks() -> bool:
    """Whether a process group runs."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather_rows(part: Tensor) -> Tensor:
    """(n,...) on each of W ranks -> (W n,...) on all, in the order of the ranks; gradients go back to the rank of each row.

    Every rank has as many rows. With gradients averaged over the ranks (DDP), and each rank's loss W times its part of the
    total, they are those of one process with all rows.
    """
    return _Gather.apply(part).flatten(0, 1) if several_ranks() else part


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of the ranks' tensors, without a gradient; the tensor itself where there is one rank."""
    if several_ranks():
        tensor = tensor.detach().clone()
        dist.all_reduce(tensor)
    return tensor


def encode_in_shares(encode: Callable[[Tensor], Tensor], classes: int) -> Tensor:
    """The features (C,d) of all classes, each rank running `encode` (ids (n,) -> (n,d)) on every W-th class.

    Every rank must call it equally often. With gradients averaged over the ranks (DDP), they are those of unshared encoding.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    share = -(-classes // world)
    ids = (rank + world * torch.arange(share)).clamp(max=classes - 1)  # the last shares repeat the last class
    return _Gather.apply(encode(ids)).transpose(0, 1).flatten(0, 1)[:classes]
