"""Accuracy, macro-F1 and per-class accuracy from counts, each image once over all ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class ClassCounts(Metric):
    """Correct predictions, all predictions and images of each class, summed over the ranks.

    torchmetrics' class statistics build a table of classes x classes at each update, which takes a second and 0.9 GB per batch
    for ImageNet-21K.
    """

    right: Tensor
    predicted: Tensor
    images: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        for name in ("right", "predicted", "images"):
            self.add_state(name, torch.zeros(classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Counts a batch: logits (B,C), labels (B,)."""
        pred = logits.argmax(-1)
        for counts, classes in ((self.right, labels[pred == labels]), (self.predicted, pred), (self.images, labels)):
            counts += classes.bincount(minlength=len(counts))

    def compute(self) -> Tensor:
        """The counts (3,C): correct, predicted, images."""
        return torch.stack([self.right, self.predicted, self.images])


class FirstNotFinite(Metric):
    """The smallest index (in the evaluation's list) of an image whose logits are not all finite; NONE where all are finite.
    The index is read once at the end, so that no batch waits for the device."""

    NONE = 2**62
    image: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("image", torch.tensor(self.NONE), dist_reduce_fx="min")

    def update(self, index: Tensor, logits: Tensor) -> None:
        """Checks a batch: index (B,), logits (B,C)."""
        bad = torch.where(logits.isfinite().all(-1), self.NONE, index)
        self.image = torch.cat([bad, self.image[None]]).amin()

    def compute(self) -> Tensor:
        return self.image


def summarise(counts: Tensor, classnames: list[str]) -> dict[str, Any]:
    """`ClassCounts` (3,C) as percentages (0-100). As published, macro-F1 averages the classes that have test images; others
    have no accuracy.

    `per_class` is a list, not a mapping: two classes may have the same name (ImageNet has such pairs).
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
