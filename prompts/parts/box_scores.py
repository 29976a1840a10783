"""The loss of a score map where the classes of pixels are known by boxes of objects alone, as in DenseCLIP's released code for
detection (Rao et al., CVPR 2022).

Shapes: N objects of an image, K classes, h x w positions, `STRIDE` pixels apart.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDE = 4  # pixels between positions of the target, to which the score map is enlarged


def score_target(boxes: Tensor, labels: Tensor, classes: int, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The target of a score map, (K,h,w) float32: 1 in the boxes of the class, else 0; and where any box is, (h,w) bool. The
    edges of a box are rounded down, so that a box within a position is nowhere.

    Args:
        boxes, labels: (N,4) in pixels, (N,).
        grid: (h,w).
    """
    target = torch.zeros(classes, *grid, device=boxes.device)
    covered = torch.zeros(grid, dtype=torch.bool, device=boxes.device)
    largest = torch.tensor([grid[1] - 1, grid[0] - 1] * 2, device=boxes.device)
    places = torch.minimum((boxes / STRIDE).long().clamp(min=0), largest)
    for (x1, y1, x2, y2), label in zip(places.tolist(), labels.tolist(), strict=True):
        target[label, y1:y2, x1:x2] = 1.0
        covered[y1:y2, x1:x2] = True
    return target, covered


def score_loss(scores: Tensor, target: Tensor, covered: Tensor, tau: float) -> Tensor:
    """The binary cross-entropy of a score map of cosines divided by the temperature `tau`, enlarged to the target's grid: a
    scalar, the mean over the classes and the positions that are `covered`; 0 where none is.

    Args:
        scores: (K,h',w') of any grid.
        target, covered: from `score_target`.
    """
    with torch.autocast(scores.device.type, enabled=False):
        logits = F.interpolate(scores[None].float() / tau, size=target.shape[-2:], mode="bilinear")[0]
        losses = F.binary_cross_entropy_with_logits(logits, target, weight=covered.float(), reduction="sum")
    return losses / (covered.sum() * len(target)).clamp(min=1)
