"""mIoU and accuracies from one confusion matrix over all pixels of an evaluation, and the mIoU of each image.

Shapes: B images, (H,W) a label map, K classes, N images of an evaluation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import ConfusionMatrix, Metric

from datamodules.segmented_items import IGNORE


def confusion_of(classes: int) -> Metric:
    """Counts of pixels (K,K), truth by prediction, summed over the ranks; pixels whose truth is IGNORE are left out.

    It does not look at its arguments' values: label maps are checked when they are read.
    """
    return ConfusionMatrix("multiclass", num_classes=classes, ignore_index=IGNORE, validate_args=False)


class ImageScores(Metric):
    """The mIoU (N,) in percent of each image of an evaluation, over the classes that are in its truth or its prediction.

    It is NaN for images that were not evaluated or have no pixel that counts.
    """

    scores: Tensor
    seen: Tensor

    def __init__(self, images: int) -> None:
        super().__init__()
        self.add_state("scores", torch.zeros(images, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(images, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, index: int, confusion: Tensor) -> None:
        """Stores an image by its position in the list and its own confusion matrix (K,K). Over all ranks each comes once."""
        if confusion.any():
            self.scores[index], self.seen[index] = iou_of(confusion).nanmean(), 1

    def compute(self) -> Tensor:
        """(N,) percent."""
        return torch.where(self.seen > 0, self.scores, torch.nan)


def iou_of(confusion: Tensor) -> Tensor:
    """Intersection over union (K,) in percent of a confusion matrix (K,K), float64.

    It is NaN for a class that is neither in the truth nor in the predictions.
    """
    counts = confusion.double()
    both = counts.diagonal()
    return 100 * both / (counts.sum(0) + counts.sum(1) - both)


def summarise(confusion: Tensor, classnames: list[str]) -> dict[str, Any]:
    """The metrics of a confusion matrix (K,K), in percent.

    mIoU is the mean over the classes that have a pixel in the truth or in the predictions, mean accuracy over those that have
    one in the truth, as in mmsegmentation; accuracy of all pixels; `per_class` has null where a class has none.
    """
    truth, right = confusion.sum(1).double(), confusion.diagonal().double()
    iou, accuracy = iou_of(confusion), 100 * right / truth
    entries = zip(classnames, iou.tolist(), accuracy.tolist(), truth.tolist(), strict=True)
    return {
        "miou": float(iou.nanmean()),
        "macc": float(accuracy.nanmean()),
        "aacc": float(100 * right.sum() / truth.sum()),
        "pixels": int(truth.sum()),
        "per_class": [
            {"class": name, "iou": _known(value), "accuracy": _known(recall), "pixels": int(pixels)}
            for name, value, recall, pixels in entries
        ],
    }


def _known(value: float) -> float | None:
    return None if value != value else value  # NaN
