"""The loss of a score map where the classes of pixels are known by boxes or masks of objects alone.

DenseCLIP's code has such a loss for detection; its details are inferred here, as docs/detection.md says.

Shapes: N objects of an image, K classes, h x w positions of the map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def score_target(boxes: Tensor, labels: Tensor, classes: int, grid: tuple[int, int], cell: tuple[float, float]) -> Tensor:
    """The target of a score map, (K,h,w) float32: 1 where the centre of a position's cell lies in a box of the class, else 0. A
    box that contains no such centre is set at the position that contains the box's own centre.

    Args:
        boxes, labels: (N,4) in pixels, (N,).
        grid: (h,w).
        cell: height and width in pixels of a position's cell.
    """
    target = torch.zeros(classes, *grid, device=boxes.device)
    y, x = (torch.arange(count, device=boxes.device) for count in grid)
    for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
        inside = _between(y, y1 / cell[0], y2 / cell[0])[:, None] & _between(x, x1 / cell[1], x2 / cell[1])[None]
        target[label][inside] = 1.0
    return target


def _between(position: Tensor, low: float, high: float) -> Tensor:
    """Bool, along one axis: positions whose centre is from `low` to `high`, or the one that contains the middle of both."""
    inside = (position + 0.5 >= low) & (position + 0.5 < high)
    if inside.any():
        return inside
    return position == min(int((low + high) / 2), len(position) - 1)


def score_loss(scores: Tensor, target: Tensor, tau: float) -> Tensor:
    """The binary cross-entropy of a score map (K,h,w) of cosines divided by the temperature `tau`, with a target (K,h,w): a
    scalar, the mean over positions and classes."""
    with torch.autocast(scores.device.type, enabled=False):
        return F.binary_cross_entropy_with_logits(scores.float() / tau, target)
