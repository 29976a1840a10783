"""Accuracy, macro-F1 and per-class accuracy from counts, each image once over all ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class ClassCounts(Metric):
    """Right predictions, predictions and images of each class. Summed over the ranks.

    torchmetrics' own class statistics go through a table of classes x classes at each update, which for ImageNet-21K is a
    second and 0.9 GB a batch.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        for name in ("right", "predicted", "images"):
            self.add_state(name, torch.zeros(classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """logits (B,C), labels (B,)"""
        best = logits.argmax(-1)
        for counts, seen in ((self.right, labels[best == labels]), (self.predicted, best), (self.images, labels)):
            counts += seen.bincount(minlength=len(counts))

    def compute(self) -> Tensor:
        """(3,C): right, predicted, images"""
        return torch.stack([self.right, self.predicted, self.images])


class FirstNotFinite(Metric):
    """The first image (its place in the evaluation's list) whose logits are not all finite, NONE where all are. Read once at
    the end, so that no batch waits for the device."""

    NONE = 2**62

    def __init__(self) -> None:
        super().__init__()
        self.add_state("image", torch.tensor(self.NONE), dist_reduce_fx="min")

    def update(self, index: Tensor, logits: Tensor) -> None:
        """index (B,), logits (B,C)"""
        bad = torch.where(logits.isfinite().all(-1), self.NONE, index)
        self.image = torch.cat([bad, self.image[None]]).amin()

    def compute(self) -> Tensor:
        return self.image


def summarise(counts: Tensor, classnames: list[str]) -> dict[str, Any]:
    """`ClassCounts` (3,C) as percentages (0-100). As published, macro-F1 averages the classes that have test images; others
    have no accuracy.

    `per_class` is a list, not a mapping: two classes may bear the same name (ImageNet has such pairs).
    """
    tp, predicted, support = counts.double().cpu()
    present = support > 0
    f1 = 2 * tp / (predicted + support).clamp(min=1)
    percent = (100 * tp / support.clamp(min=1)).tolist()
    return {
        "accuracy": 100 * (tp.sum() / support.sum().clamp(min=1)).item(),
        "macro_f1": 100 * (f1[present].mean().item() if present.any() else 0.0),
        "images": int(support.sum()),
        "per_class": [
            {"class": name, "accuracy": value if n else None, "images": int(n)}
            for name, value, n in zip(classnames, percent, support.tolist(), strict=True)
        ],
    }
