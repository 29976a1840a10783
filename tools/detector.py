"""torchvision's detectors with weights from a file of the user's, and the boxes that they find, of any class."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import nms

from datamodules.boxes import clamp
from datamodules.referred import MAX_BOXES
from prompts.engine.weights import read_weights

MODELS = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
)
NO_EPSILON = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn")  # as torchvision's COCO_V1
COUNTED = "num_batches_tracked"  # a buffer of batch normalisation that the frozen one lacks; nothing is computed from it
CLASS_LAYERS = ("roi_heads.box_predictor.cls_score.bias", "head.classification_head.cls_logits.bias")
MASK_PARTS = ("mask_roi_pool", "mask_head", "mask_predictor")
ANCHORS = 9  # RetinaNet's at a position; it scores all classes for each
MOST_CLASSES = 10_000  # detection datasets have up to a few thousand; the layers that follow from it stay small
Found = list[tuple[list[float], int, float]]  # [left, top, width, height], class and score, by falling score


class Detector(NamedTuple):
    """A detector with its weights."""

    model: nn.Module  # called with a list of images (3,H,W) float32, 0 to 1
    classes: int  # class 0 is nothing


def detector(
    name: str, weights: Path, state: Mapping[str, Tensor], threshold: float, overlap: float, size: int | None = None
) -> Detector:
    """A model on the CPU, for inference.

    Args:
        name: one of `MODELS`.
        weights: their file, for messages; `state` is what it holds.
        threshold: boxes with a lower score are left out.
        overlap: IoU above which of two boxes of a class one stays.
        size: px that the shorter side of an image is resized to; None: as torchvision has it.

    Raises:
        ValueError: the weights are none of that model, or not finite.
    """
    lead, todo = f"{weights} holds no weights of {name}", "give the file of that model, or its name by --model"
    retina = name.startswith("retinanet")
    scores = next((state[layer] for layer in CLASS_LAYERS if layer in state), torch.empty(0))
    classes = scores.numel() // (ANCHORS if retina else 1)
    if not 2 <= classes <= MOST_CLASSES:
        raise ValueError(f"{lead}: it scores {classes:,} classes; {todo}.")
    limits = {"score_thresh": threshold, "nms_thresh": overlap, "detections_per_img": MAX_BOXES}
    settings = {("" if retina else "box_") + key: value for key, value in limits.items()} | ({"min_size": size} if size else {})
    model = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=classes, **settings)
    try:
        missing, other = model.load_state_dict(state, strict=False)  # it knows the names of earlier versions
    except RuntimeError as error:  # tensors of another shape
        raise ValueError(f"{lead}: {' '.join(str(error).split())[:200]}; {todo}.") from error
    if wrong := [f"lacks {key}" for key in missing] + [f"has {key[:80]!r}" for key in other]:
        raise ValueError(f"{lead}: it {wrong[0]}; {todo}.")
    if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
        raise ValueError(f"{weights} holds numbers that are not finite: download it again.")
    if name in NO_EPSILON and not any(COUNTED in key for key in state):  # frozen, which torchvision runs so with its weights
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    for part in () if retina else MASK_PARTS:  # masks take time and are not used
        setattr(model.roi_heads, part, None)
    return Detector(model.eval().requires_grad_(False), classes)


def opened(name: str, weights: Path, threshold: float, overlap: float, size: int | None = None) -> tuple[Detector, str]:
    """The `detector` of a file, and a digest of the weights. ValueError for a file that is none."""
    state, digest = read_weights(weights, what="detector weights").state, hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(f"{key} {tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes())
    return detector(name, weights, state, threshold, overlap, size), digest.hexdigest()


def detections(model: nn.Module, image: Tensor, overlap: float, most: int) -> Found:
    """At most `most` boxes inside an image (3,H,W) uint8. Of boxes of any class that overlap by an IoU of more than `overlap`
    only the one with the highest score is kept."""
    out = model([image / 255])[0]
    keep = nms(out["boxes"], out["scores"], overlap)[:most]
    found: Found = []
    for box, label, score in zip(*(out[key][keep].tolist() for key in ("boxes", "labels", "scores")), strict=True):
        x1, y1, x2, y2 = (round(number, 2) for number in clamp(box, (image.shape[2], image.shape[1])))
        found.append(([x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)], label, round(score, 4)))
    return found
