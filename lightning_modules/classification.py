"""Classification: an image is classified against a list of class names.

Shapes: B images, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor, nn

from datamodules.evaluation import Evaluation
from lightning_modules.evaluated import Figure
from lightning_modules.metrics import ClassCounts, FirstNotFinite, summarise
from lightning_modules.predictions import PREDICTIONS, PredictionMetric, write_predictions
from lightning_modules.samples import choose, picture
from lightning_modules.task import TaskModule, on_host


class Classification(TaskModule):
    """Measures accuracy, macro-F1 and accuracy by class, in percent, and writes the prediction of every test image to
    predictions.npz.

    The text of the class names is encoded once per evaluation where it does not depend on the image.
    """

    needs = ("class logits", "labelled images")
    figure = Figure("accuracy", "accuracy", "%")
    takes_features = True

    predicted: Mapping[str, Mapping[str, np.ndarray]] = MappingProxyType({})  # by test: `PredictionMetric.compute`

    def training_losses(self, batch: dict[str, Tensor], seed: int) -> tuple[dict[str, Tensor], Tensor]:
        """The learner's losses over the classes of this step, and its logits."""
        labels, positions = (batch.get(on_host(name), batch[name]).cpu() for name in ("label", "batch_index"))
        sample = self.model.learner.sample(labels, positions, seed)
        outputs = self.outputs(batch, sample and sample.to(batch["label"].device))
        return self.model.losses(outputs, batch["label"], batch["index"]), outputs.logits

    def start_evaluation(self, evaluation: Evaluation) -> None:
        """Makes the metrics: counts by class and, for a test, the prediction of every image."""
        metrics = nn.ModuleDict({"counts": ClassCounts(len(evaluation.classnames)), "not_finite": FirstNotFinite()})
        if any(evaluation is test for test in self.tests) and self.trainer.testing:
            metrics["predictions"] = PredictionMetric(evaluation.images)
        evaluation.metrics = metrics.to(self.device)

    def evaluate_batch(self, evaluation: Evaluation, batch: dict[str, Tensor], first: bool) -> None:
        """Updates the metrics with the batch's readable images; binds the class list at the first batch of an evaluation."""
        if first:
            self.model.bind(evaluation.classnames)
        metrics, readable = evaluation.metrics, batch["weight"] > 0
        logits = self.outputs(batch).logits.float()[readable]
        index, labels = batch["index"][readable], batch["label"][readable]
        metrics["counts"].update(logits, labels)
        metrics["not_finite"].update(index, logits)
        if "predictions" in metrics:
            metrics["predictions"].update(index, logits, labels)

    def metrics_of(self, evaluation: Evaluation) -> dict[str, Any]:
        """Accuracy and macro-F1 in percent, the number of images, and `per_class`. ValueError where logits are not finite
        or no image can be read."""
        image = int(evaluation.metrics["not_finite"].compute())
        if image != FirstNotFinite.NONE:
            raise ValueError(
                f"evaluation {evaluation.name}: the logits of image {image} are not finite (NaN or infinite), so it has no "
                f"result: {self.what_to_lower}."
            )
        metrics = summarise(evaluation.metrics["counts"].compute(), evaluation.classnames)
        if not metrics["images"]:
            raise ValueError(f"evaluation {evaluation.name}: none of its images can be read, so it has no result.")
        return metrics

    def line(self, metrics: Mapping[str, Any]) -> str:
        """Accuracy, macro-F1, and the numbers of images and classes."""
        counts = f"({metrics['images']} images, {len(metrics['per_class'])} classes)"
        return f"{super().line(metrics)}   macro-F1 {metrics['macro_f1']:6.2f} %   {counts}"

    def finish_evaluations(self) -> None:
        """Binds the training classes again, which an evaluation has replaced."""
        self.model.bind(self.train_classnames)

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self.predicted = {evaluation.name: evaluation.metrics["predictions"].compute() for evaluation in self.tests}

    def shown(self, evaluation: Evaluation) -> tuple[list[str], list[list[Any]]]:
        """Right and wrong images of the highest confidence, and random ones, with their true and their predicted class."""
        found = self.predicted[evaluation.name]
        right, confidence = found["pred"] == found["label"], found["confidence"].astype(float)
        scores = np.where(confidence > 0, np.where(right, confidence, -confidence), np.nan)  # 0: it could not be read
        names, rows = evaluation.classnames, []
        for why, index in choose(scores, self.seed):
            true, predicted = names[found["label"][index]], names[found["pred"][index]]
            rows.append([why, picture(evaluation, {"index": index}), true, predicted, float(confidence[index])])
        return ["why", "image", "true", "predicted", "confidence"], rows

    def write_files(self, folder: Path) -> None:
        """Writes predictions.npz."""
        write_predictions(folder / PREDICTIONS, self.predicted)
