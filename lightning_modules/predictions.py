"""The prediction of every test image, to compare two methods image by image and to measure calibration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from files.whole import whole_file

PREDICTIONS = "predictions.npz"


class PredictionMetric(Metric):
    """Predicted class, true class and confidence (largest softmax value) of each of `images` test images, in the order of the
    test list; all 0 where an image could not be read."""

    pred: Tensor
    label: Tensor
    confidence: Tensor

    def __init__(self, images: int) -> None:
        super().__init__()
        for name in ("pred", "label"):
            self.add_state(name, torch.zeros(images, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("confidence", torch.zeros(images), dist_reduce_fx="sum")

    def update(self, index: Tensor, logits: Tensor, label: Tensor) -> None:
        """Stores a batch: index and label (B,), logits (B,C) float32. Over all ranks each image comes once."""
        confidence, pred = logits.softmax(-1).max(-1)
        self.pred[index], self.label[index], self.confidence[index] = pred, label, confidence

    def compute(self) -> dict[str, np.ndarray]:
        """Arrays "pred" and "label" (N,), of the smallest unsigned integer type, and "confidence" (N,) float16."""
        classes = max(int(t.max(initial=0)) for t in (self.pred.cpu().numpy(), self.label.cpu().numpy()))
        whole = np.min_scalar_type(classes)
        kinds = {"pred": whole, "label": whole, "confidence": np.float16}
        return {name: getattr(self, name).cpu().numpy().astype(kind) for name, kind in kinds.items()}


def write_predictions(path: Path, sets: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Writes one compressed file with arrays "EVALUATION/pred" and so on, atomically.

    Args:
        sets: by evaluation, what `PredictionMetric.compute` returned.
    """
    with whole_file(path) as temporary, temporary.open("wb") as file:
        named: dict[str, Any] = {f"{name}/{key}": array for name, arrays in sets.items() for key, array in arrays.items()}
        np.savez_compressed(file, **named)
