"""Segmentation: every pixel of an image is classified against a list of class names.

Shapes: B images, K classes, (h,w) an image as it is tested, (H,W) its label map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from datamodules.evaluation import Evaluation
from datamodules.known_features import IMAGE
from datamodules.segmentation_sets import palette
from lightning_modules.evaluated import Figure
from lightning_modules.label_pictures import Colour, hex_of, label_picture
from lightning_modules.metrics import FirstNotFinite
from lightning_modules.pixel_metrics import ImageScores, confusion_of, iou_of, summarise
from lightning_modules.samples import choose, write_samples
from lightning_modules.sliding_window import TestMode
from lightning_modules.task import TaskModule
from prompts.parts.training_draws import Step

MASK = "mask"  # of a batch: the label maps


class Segmentation(TaskModule):
    """Measures mIoU, mean accuracy of the classes and accuracy of all pixels, in percent, from one confusion matrix over the
    evaluation, at the size of the label files.

    Args:
        window, stride, ratios, flip: how test images are predicted (`lightning_modules.sliding_window.TestMode`).
    """

    needs = ("pixel logits", "label maps")
    figure = Figure("miou", "mIoU", "%")

    def __init__(
        self,
        *args: Any,
        window: int | None = None,
        stride: int | None = None,
        ratios: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:
        super().__init__(*args)
        self.mode = TestMode(window, stride, tuple(ratios), flip)
        self.samples: dict[str, list[dict[str, Any]]] = {}

    def training_losses(self, batch: dict[str, Tensor], seed: int) -> tuple[dict[str, Tensor], Tensor]:
        """The learner's losses of the pixels, and its logits."""
        step = Step(seed, batch["index"], batch["weight"])
        outputs = self.learner.segment(self.model.clip, batch[IMAGE], step)
        return self.learner.dense_losses(outputs, batch[MASK]), outputs.logits

    def start_evaluation(self, evaluation: Evaluation) -> None:
        """Makes the metrics: the confusion matrix, and the mIoU of each image."""
        metrics = {
            "confusion": confusion_of(len(evaluation.classnames)),
            "images": ImageScores(evaluation.images),
            "not_finite": FirstNotFinite(),
        }
        evaluation.metrics = nn.ModuleDict(metrics).to(self.device)

    def evaluate_batch(self, evaluation: Evaluation, batch: dict[str, Tensor], first: bool) -> None:
        """Counts the pixels of the batch's readable images; binds the class list at the first batch of an evaluation."""
        if first:
            self.model.bind(evaluation.classnames)
        metrics, readable = evaluation.metrics, batch["weight"] > 0
        image, mask, index = batch[IMAGE][readable], batch[MASK][readable], batch["index"][readable]
        if not len(image):
            return
        found = self.predicted(image, mask.shape[-2:], lambda logits: metrics["not_finite"].update(index, logits.flatten(1)))
        for place, truth, classes in zip(index.tolist(), mask, found, strict=True):
            counts = metrics["confusion"](classes.flatten(), truth.flatten())
            metrics["images"].update(place, counts)

    def predicted(self, image: Tensor, size: Sequence[int], check: Any = lambda logits: None) -> Tensor:
        """The class (B,H,W) uint8 of every pixel of images (B,3,h,w) uint8, at the size (H,W). `check` gets all logits."""

        def segment(part: Tensor) -> Tensor:
            return self.learner.segment(self.model.clip, part).logits

        return self.mode.classes(segment, image, (size[0], size[1]), check)

    def metrics_of(self, evaluation: Evaluation) -> dict[str, Any]:
        """`pixel_metrics.summarise` and the number of images. ValueError where logits are not finite or no pixel counts."""
        image = int(evaluation.metrics["not_finite"].compute())
        if image != FirstNotFinite.NONE:
            raise ValueError(
                f"evaluation {evaluation.name}: the logits of image {image} are not finite (NaN or infinite), so it has no "
                f"result: {self.what_to_lower}."
            )
        confusion, scores = evaluation.metrics["confusion"].compute(), evaluation.metrics["images"].compute()
        scores = scores.reshape(-1)  # torchmetrics makes a number of the tensor of one image
        if not confusion.any():
            raise ValueError(
                f"evaluation {evaluation.name}: no image can be read that has a pixel with a class, so it has no result."
            )
        if self.trainer.testing:
            with self.trainer.precision_plugin.forward_context():
                self.samples[evaluation.name] = self.samples_of(evaluation, scores.tolist())
        return {**summarise(confusion.cpu(), evaluation.classnames), "images": int((~scores.isnan()).sum())}

    def samples_of(self, evaluation: Evaluation, scores: Sequence[float]) -> list[dict[str, Any]]:
        """The best, the worst and random images by their own mIoU, each predicted once more for its pictures."""
        self.model.bind(evaluation.classnames)
        colours = colours_of(len(evaluation.classnames), getattr(self.data, "colours", None))
        loader, shown = evaluation.loader(0, 1), {}
        for _, index in (chosen := choose(scores, self.seed)):
            if index in shown:
                continue
            batch = loader.collate_fn([loader.dataset[index]])
            truth = batch[MASK]
            found = self.predicted(batch[IMAGE].to(self.device), truth.shape[-2:]).cpu()
            confusion = confusion_of(len(evaluation.classnames))(found.flatten(), truth.flatten())
            named = zip(evaluation.classnames, iou_of(confusion).tolist(), colours, strict=True)
            shown[index] = {
                "index": index,
                "miou": scores[index],
                "classes": [[name, iou, hex_of(colour)] for name, iou, colour in named if iou == iou],  # not NaN
                "truth": label_picture(truth[0].numpy(), colours),
                "prediction": label_picture(found[0].numpy(), colours),
            }
        return [{"why": why, **shown[index]} for why, index in chosen]

    def line(self, metrics: Mapping[str, Any]) -> str:
        """mIoU, both accuracies, and the numbers of images and classes."""
        counts = f"({metrics['images']} images, {len(metrics['per_class'])} classes)"
        return f"{super().line(metrics)}   mAcc {metrics['macc']:6.2f} %   aAcc {metrics['aacc']:6.2f} %   {counts}"

    def finish_evaluations(self) -> None:
        """Binds the training classes again, which an evaluation has replaced."""
        self.model.bind(self.train_classnames)

    def write_files(self, folder: Path) -> None:
        """Writes samples.json and the pictures in samples/."""
        write_samples(folder, "segmentation", self.tests, self.samples)


def colours_of(classes: int, given: Sequence[Colour] | None = None) -> list[Colour]:
    """The colour of each class: those given or, where there are none, Pascal VOC's, whose first is black."""
    return [tuple(map(int, colour)) for colour in given or palette(classes)]  # type: ignore[misc]
