"""The loss of a score map where boxes, or masks, are all that is known of an image's pixels.

DenseCLIP's code has such a loss for detection; its details are inferred here, as docs/detection.md says.

Shapes: N objects of an image, K classes, h x w positions of the map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def score_target(boxes: Tensor, labels: Tensor, classes: int, grid: tuple[int, int], cell: tuple[float, float]) -> Tensor:
    """Which classes have an object at which position, (K,h,w) float32: 1 where the middle of the position's cell is in a box of
    the class. A box that holds no middle counts where its own middle is.

    Args:
        boxes, labels: (N,4) in pixels, (N,).
        grid: (h,w).
        cell: pixels of a position, down and across.
    """
    target = torch.zeros(classes, *grid, device=boxes.device)
    y, x = (torch.arange(count, device=boxes.device) for count in grid)
    for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
        inside = _between(y, y1 / cell[0], y2 / cell[0])[:, None] & _between(x, x1 / cell[1], x2 / cell[1])[None]
        target[label][inside] = 1.0
    return target


def _between(position: Tensor, low: float, high: float) -> Tensor:
    """Which positions have their middle from `low` to `high`; the one that holds their middle where none has."""
    inside = (position + 0.5 >= low) & (position + 0.5 < high)
    if inside.any():
        return inside
    return position == min(int((low + high) / 2), len(position) - 1)


def score_loss(scores: Tensor, target: Tensor, tau: float) -> Tensor:
    """The binary cross-entropy of a score map (K,h,w) of cosines divided by the temperature `tau`, with a target (K,h,w): a
    scalar, the mean over positions and classes."""
    with torch.autocast(scores.device.type, enabled=False):
        return F.binary_cross_entropy_with_logits(scores.float() / tau, target)
