"""Accuracy, macro-F1 and per-class accuracy from torchmetrics' counts, each image once over all ranks."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchmetrics.classification import MulticlassStatScores


def class_counts(classes: int) -> MulticlassStatScores:
    """Counts (C,5): true and false positives, true and false negatives, support. Summed over the ranks."""
    return MulticlassStatScores(num_classes=classes, average="none", validate_args=False)


def summarise(counts: Tensor, classnames: list[str]) -> dict[str, Any]:
    """Percentages (0-100). As published, macro-F1 averages the classes that have test images; others have no accuracy.

    `per_class` is a list, not a mapping: two classes may bear the same name (ImageNet has such pairs).
    """
    counts = counts.double().cpu()
    tp, fp, fn, support = counts[:, 0], counts[:, 1], counts[:, 3], counts[:, 4]
    present = support > 0
    f1 = 2 * tp / (2 * tp + fp + fn).clamp(min=1)
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
