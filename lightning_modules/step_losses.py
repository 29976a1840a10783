"""The losses of training steps: their sums by epoch, and the check that each is finite.

`loss.item()` in a step makes Python wait for the GPU: nothing new is queued until the loss has arrived. So on CUDA the numbers
of a step are read when the forward pass of the next one is queued, and those of an epoch's last step at its end. On other
devices they are read immediately.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from prompts.engine.sending import arriving


class StepLosses:
    """`by_epoch`: for each epoch the sum of its steps' losses, and how many steps."""

    def __init__(self) -> None:
        self.epochs: list[list[float]] = []
        self._unread: deque[tuple[Callable[[], float], Callable[[float], None]]] = deque()

    @property
    def by_epoch(self) -> list[list[float]]:
        """[sum, number of steps] of each epoch. ValueError as of `read`."""
        self.read()
        return self.epochs

    def check(self, loss: Tensor, why: Callable[[], str]) -> None:
        """Checks the losses of earlier steps that were not read yet, and this scalar when it has arrived.

        Args:
            why: gives the message of the ValueError where the scalar is not finite. It may be called steps later: the tensors
                that it reads must keep this step's values, and hold no graph.

        Raises:
            ValueError: this loss, or an earlier one that was not read yet, is NaN or infinite.
        """

        def finite(value: float) -> None:
            if not math.isfinite(value):
                raise ValueError(why())

        self.read()
        self._look_at(loss, finite)

    def add(self, loss: Tensor) -> None:
        """Adds the loss of a step, a scalar, to the epoch's sum."""
        epoch = self.epochs[-1]

        def count(value: float) -> None:
            epoch[:] = [epoch[0] + value, epoch[1] + 1]

        self._look_at(loss, count)

    def read(self) -> None:
        """Waits for all losses that were not read yet. ValueError where one is not finite."""
        while self._unread:
            value, then = self._unread.popleft()
            then(value())

    def _look_at(self, scalar: Tensor, then: Callable[[float], None]) -> None:
        if is_read_later(scalar):
            self._unread.append((arriving(scalar), then))
        else:
            then(scalar.item())


def is_read_later(scalar: Tensor) -> bool:
    """Whether a step's numbers on this device are read in the next step."""
    return scalar.device.type == "cuda"


def magnitudes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The largest absolute entry of each tensor that is not empty, by name: infinite or NaN where any entry is. Later changes
    of the tensors do not change them."""
    return {name: torch.linalg.vector_norm(t.detach(), math.inf) for name, t in tensors.items() if t.numel()}
