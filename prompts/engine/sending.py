"""Copies of small tensors to a GPU and of numbers back that do not wait for the GPU's queued work."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def send(t: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. To CUDA it is queued: an ordinary copy waits until everything before it is computed."""
    return t.to(device, non_blocking=device.type == "cuda")


def arriving(scalar: Tensor) -> Callable[[], float]:
    """A function that gives the scalar's value as it is now, whatever is written to the tensor later.

    On CUDA the copy to the host is queued behind the work that computes the scalar. The function waits for that work alone,
    not for what was queued after it, so the device always has something to do. Elsewhere the value is read at once.
    """
    if scalar.device.type != "cuda":
        value = scalar.item()
        return lambda: value
    copy = scalar.detach().to("cpu", non_blocking=True)  # into page-locked memory
    arrived = torch.cuda.Event()
    arrived.record()

    def value_on_host() -> float:
        arrived.synchronize()
        return copy.item()

    return value_on_host
