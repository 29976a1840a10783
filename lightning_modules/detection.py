"""Detection: boxes, and perhaps masks, around the objects of a list of classes.

Shapes: B images, M the most objects of one of them, n boxes found in an image, (H,W) an image as it was opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from datamodules.detected import NO_CLASS
from datamodules.evaluation import Evaluation
from datamodules.known_features import IMAGE
from files.whole import write_json
from lightning_modules.box_metrics import entries_of, image_score, summarise
from lightning_modules.box_pictures import boxes_on
from lightning_modules.box_results import result_rows
from lightning_modules.evaluated import Figure
from lightning_modules.records import all_records
from lightning_modules.samples import choose, write_samples
from lightning_modules.task import TaskModule
from prompts.parts.detectors import Detections, Target
from prompts.parts.training_draws import Step


class Detection(TaskModule):
    """COCO's mean average precision of boxes in percent, and of masks where the method finds masks and the data have them; at
    IoU 0.5 and 0.75, by size and by class; what is found in detections_NAME.json, in the form of COCO's results
    (`lightning_modules.box_results`).

    Raises:
        ValueError: the method learns masks, and the training images have none.
    """

    needs = ("boxes", "boxes of objects")
    figure = Figure("map", "box mAP", "%")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.records: dict[str, dict[int, dict[str, Any]]] = {}  # by test: what the metric keeps of each image
        if self.data is not None and self.learner.needs_masks and not getattr(self.data, "has_masks", False):
            raise ValueError(
                "this method learns masks, and the training images have none: choose data with masks, or a method for boxes."
            )

    # ---- training

    def training_losses(self, batch: dict[str, Tensor], seed: int) -> tuple[dict[str, Tensor], Tensor]:
        """The detector's losses, and the largest of its outputs for each image."""
        step = Step(seed, batch["index"], batch["weight"])
        return self.learner.detection_losses(self.model.clip, batch[IMAGE], batch["size"], targets_of(batch), step)

    # ---- evaluation

    def start_evaluation(self, evaluation: Evaluation) -> None:
        """An empty record."""
        evaluation.metrics = {}

    def evaluate_batch(self, evaluation: Evaluation, batch: dict[str, Tensor], first: bool) -> None:
        """Keeps what is found in the batch's readable images. ValueError where an image's maps are not finite."""
        if first:
            self.model.bind(evaluation.classnames)
        found = self.learner.detect(self.model.clip, batch[IMAGE], batch["size"])
        for place, detections in enumerate(found):
            if not batch["weight"][place] > 0:
                continue
            index = int(batch["index"][place])
            if not detections.finite:
                raise ValueError(
                    f"evaluation {evaluation.name}: what is computed of the image {evaluation.items[index].path} is not finite "
                    f"(NaN or infinite), so it has no result: {self.what_to_lower}."
                )
            masks = "masks" in batch and detections.masks is not None
            truth = truth_of(batch, place, masks)
            original = batch["original"][place].tolist()
            evaluation.metrics[index] = entries_of(as_opened(detections, batch["size"][place], original, masks), truth, masks)

    def metrics_of(self, evaluation: Evaluation) -> dict[str, Any]:
        """`box_metrics.summarise` and the number of images. ValueError where no image can be read, or none has an object."""
        records = all_records(self, evaluation)
        if not any((entry["groundtruth_crowds"] == 0).any() for entry in records.values()):
            raise ValueError(f"evaluation {evaluation.name}: none of its images has an object to find, so it has no result.")
        masks = all("detection_mask" in entry for entry in records.values())
        numbers = summarise(records, evaluation.classnames, masks) if self.trainer.is_global_zero else None
        return self.trainer.strategy.broadcast(numbers) | {"images": len(records)}

    def line(self, metrics: Mapping[str, Any]) -> str:
        """mAP of boxes and masks, at IoU 0.5 and 0.75, and the numbers of images and objects."""
        mask = f"   mask mAP {metrics['mask_map']:6.2f} %" if "mask_map" in metrics else ""
        counts = f"({metrics['images']} images, {metrics['objects']} objects)"
        return f"{super().line(metrics)}{mask}   at 0.5 {metrics['map_50']:6.2f} %   0.75 {metrics['map_75']:6.2f} %   {counts}"

    def finish_evaluations(self) -> None:
        """Binds the training classes again, which an evaluation has replaced."""
        self.model.bind(self.train_classnames)

    # ---- files

    def write_files(self, folder: Path) -> None:
        """Writes detections_NAME.json of each evaluation, samples.json and the pictures in samples/."""
        samples = {}
        for evaluation in self.tests:
            name, items, records = evaluation.name, evaluation.items, self.records[evaluation.name]
            dataset: Any = evaluation.loader(0, 1).dataset
            classes = evaluation.classnames, dataset.category_ids
            found = [row for index, entry in records.items() for row in result_rows(items[index].image_id, entry, *classes)]
            write_json(folder / f"detections_{name}.json", found)
            samples[name] = self._samples(evaluation, records)
        write_samples(folder, "detection", self.tests, samples)

    def _samples(self, evaluation: Evaluation, records: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
        index = list(records)
        scores = [image_score(records[i]) for i in index]
        dataset: Any = evaluation.loader(0, 1).dataset
        source = dataset.source
        made = []
        for why, place in choose(scores, self.seed):
            number, entry = index[place], records[index[place]]
            truth, found = boxes_on(source.open(evaluation.items[number]), entry, evaluation.classnames)
            made.append({"why": why, "index": number, "f1": 100 * scores[place], **truth, **found})
        return made


def targets_of(batch: Mapping[str, Tensor]) -> list[Target]:
    """The objects of a training batch, by image."""
    targets = []
    for place, classes in enumerate(batch["classes"]):
        real = classes != NO_CLASS
        masks = batch["masks"][place][real] if "masks" in batch else None
        targets.append(Target(batch["boxes"][place][real], classes[real], masks))
    return targets


def truth_of(batch: Mapping[str, Tensor], place: int, masks: bool) -> dict[str, Tensor]:
    """The objects of an image of an evaluation, as the metric takes them."""
    real = batch["classes"][place] != NO_CLASS
    keys = {"boxes": "boxes", "labels": "classes", "iscrowd": "crowd", "area": "area"}
    truth = {key: batch[name][place][real] for key, name in keys.items()}
    truth["iscrowd"] = truth["iscrowd"].long()
    if masks:
        height, width = batch["original"][place].tolist()
        truth["masks"] = batch["masks"][place][real][:, :height, :width].bool()
    return truth


def as_opened(found: Detections, size: Tensor, original: list[int], masks: bool) -> dict[str, Tensor]:
    """What is found in an image, in the pixels of the image as opened (H,W): boxes, scores, labels, and masks (n,H,W) bool."""
    scale = torch.tensor(original, device=found.boxes.device) / size.to(found.boxes.device)
    boxes = found.boxes * scale.flip(0).repeat(2)
    made = {"boxes": boxes, "scores": found.scores.float(), "labels": found.labels}
    if masks:
        made["masks"] = paste_masks_in_image(found.masks, boxes, tuple(original))[:, 0] >= 0.5
    return made
