"""Grounding: a sentence names one thing of an image, and the method chooses its box among proposals.

Texts, boxes and masks never go through the loader: they are looked up by the index of the expression in `data.train_items` and
`evaluation.items`. Boxes are (x1,y1,x2,y2) in pixels of the image as opened, x2 and y2 exclusive.

Shapes: B expressions, N_i proposals of one, H and W of its image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from lightning_modules.evaluated import Figure
from lightning_modules.task import TaskModule

HIT = 0.5  # a box counts as right above this overlap with the gold one, not at it


class Grounding(TaskModule):
    """The share of expressions whose chosen box overlaps the gold one by an IoU of more than 0.5, in percent, of all and of
    each kind; beside it what choosing at random and choosing the best proposal would give."""

    needs = ("scores of regions", "referring expressions")
    figure = Figure("accuracy", "accuracy at IoU > 0.5", "%")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.records: dict[str, dict[int, tuple[int, float]]] = {}  # by test: the proposal chosen and its score, by index


def overlaps(boxes: Sequence[Sequence[float]], gold: Sequence[float]) -> np.ndarray:
    """(N,) float64: the IoU of each box with the gold one. Boxes of no area overlap nothing."""
    if not len(boxes):
        return np.zeros(0)
    both = [torch.tensor(of, dtype=torch.float64).reshape(-1, 4) for of in (boxes, [gold])]
    return box_iou(*both)[:, 0].nan_to_num().numpy()
