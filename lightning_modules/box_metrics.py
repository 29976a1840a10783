"""COCO's mean average precision of boxes and masks, by torchmetrics, from all ranks' images in the order of their list.

torchmetrics concatenates the ranks, which changes the order of detections of equal score. Here each image's entries of the
metric's state are gathered and sorted by the list, so that one rank and N ranks get the same number.

Shapes: n boxes found in an image, N objects of it, (H,W) its size.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

BOX_STATE = ("detection_box", "detection_scores", "detection_labels", "groundtruth_box", "groundtruth_labels",
             "groundtruth_crowds", "groundtruth_area")  # fmt: skip
MASK_STATE = ("detection_mask", "groundtruth_mask")
NUMBERS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
MOST = 100  # boxes of an image that count


def metric_of(masks: bool) -> MeanAveragePrecision:
    """COCO's metric of boxes, and of masks with `masks`, on the CPU, without torchmetrics' own synchronisation of ranks."""
    kinds: Any = ("bbox", "segm") if masks else ("bbox",)
    metric = MeanAveragePrecision(
        iou_type=kinds, class_metrics=True, max_detection_thresholds=[1, 10, MOST], sync_on_compute=False
    )
    metric.warn_on_many_detections = False  # the 100 best count, as in COCO
    return metric


def entries_of(found: Mapping[str, Tensor], truth: Mapping[str, Tensor], masks: bool) -> dict[str, Any]:
    """The entries of one image in the metric's state: boxes, scores, labels, crowds, areas, and masks as run-length codes.

    Args:
        found: "boxes" (n,4), "scores" (n,), "labels" (n,), with `masks` "masks" (n,H,W) bool.
        truth: "boxes" (N,4), "labels" (N,), "iscrowd" (N,), "area" (N,) and perhaps "masks" (N,H,W).
    """
    metric = metric_of(masks)
    metric.update([{key: value.cpu() for key, value in found.items()}], [{key: value.cpu() for key, value in truth.items()}])
    return {name: getattr(metric, name)[0] for name in BOX_STATE + (MASK_STATE if masks else ())}


def summarise(records: Mapping[int, Mapping[str, Any]], classnames: Sequence[str], masks: bool) -> dict[str, Any]:
    """The numbers of an evaluation from each image's entries, in percent; null where no object has that size or class.

    `map` is the mean over the thresholds of IoU 0.5, 0.55, ... 0.95 and over the classes that have objects, `map_50` and
    `map_75` at one threshold; small objects have less than 32^2 px, large ones more than 96^2. Those of masks begin with
    "mask_"."""
    metric = metric_of(masks)
    for name in BOX_STATE + (MASK_STATE if masks else ()):
        setattr(metric, name, [records[index][name] for index in sorted(records)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning that `update` was not called: the state was gathered instead
        found = metric.compute()
    objects = torch.cat([(entry["groundtruth_labels"][entry["groundtruth_crowds"] == 0]) for entry in records.values()])
    counts = objects.bincount(minlength=len(classnames)).tolist()
    measured: dict[str, Any] = {}
    for key, prefix in (("bbox_", ""), ("segm_", "mask_")) if masks else (("", ""),):
        measured |= {prefix + name: _percent(found[key + name]) for name in NUMBERS}
    by_class = [{"class": name, "objects": count} for name, count in zip(classnames, counts, strict=True)]
    for key, name in (("bbox_", "map"), ("segm_", "mask_map")) if masks else (("", "map"),):
        by_label = dict(zip(found["classes"].reshape(-1).tolist(), found[f"{key}map_per_class"].reshape(-1), strict=True))
        for label, entry in enumerate(by_class):
            entry[name] = _percent(by_label[label]) if label in by_label else None
    return measured | {"objects": len(objects), "by_class": by_class}


def _percent(value: Tensor) -> float | None:
    """In percent; None for COCO's -1, which means that there is no such object."""
    number = float(value)
    return None if number < 0 or math.isnan(number) else 100 * number


def image_score(entry: Mapping[str, Any]) -> float:
    """F1 of an image's boxes, 0 to 1, by which pictures are chosen: 2 x (objects matched at IoU 0.5 by a box of their class
    with a score of 0.5 or more) / (objects + boxes of such a score). NaN where there are neither."""
    sure, real = entry["detection_scores"] >= 0.5, entry["groundtruth_crowds"] == 0
    boxes, labels = entry["detection_box"].reshape(-1, 4)[sure], entry["detection_labels"][sure]
    objects, classes = entry["groundtruth_box"].reshape(-1, 4)[real], entry["groundtruth_labels"][real]
    if not len(boxes) + len(objects):
        return math.nan
    free, right = torch.ones(len(objects), dtype=torch.bool), 0
    for box, label in zip(boxes, labels, strict=True):
        fits = iou(box, objects) * ((classes == label) & free)
        if len(fits) and fits.max() >= 0.5:
            free[fits.argmax()] = False
            right += 1
    return 2 * right / (len(boxes) + len(objects))


def iou(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union (N,) of a box with others (N,4), all (left, top, width, height)."""
    low, high = torch.maximum(box[:2], others[:, :2]), torch.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    return both / (box[2:].prod() + others[:, 2:].prod(-1) - both).clamp(min=1e-9)
