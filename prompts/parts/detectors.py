"""torchvision's RetinaNet (Lin et al., ICCV 2017, arXiv 1708.02002) and Mask R-CNN (He et al., ICCV 2017, arXiv 1703.06870)
behind a pyramid that somebody else has made.

Their parts are torchvision's, called image by image: the losses of an image depend on nothing else in its batch, and what is
sampled for it on a seed of its own. docs/detection.md has what that changes.

Shapes: B images of one size, K classes, N objects of an image, n found ones, D_i channels of level i, h x w positions of a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import gcd
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

RATIOS = (0.5, 1.0, 2.0)  # of an anchor's height to its width
OCTAVE = tuple(2 ** (i / 3) for i in range(3))  # RetinaNet's sizes of anchors in a level
GROUPS = 32  # of GroupNorm in the heads, as torchvision's later RetinaNet has it
POOLED = 7  # positions of a side of a region that Mask R-CNN classifies


HeadNorm = Literal["none", "group"]


@dataclass(frozen=True)
class Target:
    """The objects of a training image."""

    boxes: Tensor  # (N,4) float32: x1, y1, x2, y2 in pixels
    labels: Tensor  # (N,) int64, 0..K-1
    masks: Tensor | None = None  # (N,H,W) uint8


@dataclass(frozen=True)
class Detections:
    """What is found in an image, by falling score."""

    boxes: Tensor  # (n,4) float32, inside the image
    scores: Tensor  # (n,) 0 to 1
    labels: Tensor  # (n,) int64, 0..K-1
    masks: Tensor | None = None  # (n,1,m,m) probabilities inside each box
    finite: bool = True  # False: the image's maps held NaN or infinite numbers, so nothing is known of it


@dataclass(frozen=True)
class Seen:
    """A batch as the detector sees it: `levels` of the area `padded`, at whose top left corner the images of `size` stand."""

    levels: Sequence[Tensor]  # (B,D_i,h_i,w_i)
    size: tuple[int, int]
    padded: tuple[int, int]

    def image(self) -> ImageList:
        """One image of it, for torchvision: its pixels are read nowhere, only their number."""
        return ImageList(self.levels[0].new_empty(1, 3, *self.padded), [self.size])


@contextmanager
def drawing(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's generators are seeded inside, and outside as they were: torchvision's samplers draw from them."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def layer_of(norm: HeadNorm, width: int) -> Any:
    """What makes the normalisation of a head's convolutions of so many channels, as torchvision takes it; None: there is
    none."""
    return partial(nn.GroupNorm, gcd(GROUPS, width)) if norm == "group" else None


class Detector(nn.Module):
    """The base: the feature pyramid network and torchvision's module of the rest, `net`."""

    needs_masks = False

    def losses(self, seen: Seen, targets: Sequence[Target], seeds: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """Losses by name, each (B,), and (B,...) outputs they come from.

        Args:
            seeds: of what is sampled, one for each image.
        """
        raise NotImplementedError

    def detect(self, seen: Seen) -> list[Detections]:
        """What is found in each image."""
        raise NotImplementedError

    @property
    def out_channels(self) -> int:
        """The channels of the pyramid."""
        return self.width

    def _make(self, channels: Sequence[int], width: int, extra: nn.Module) -> None:
        self.width = width
        self.fpn = FeaturePyramidNetwork(list(channels), width, extra)

    def maps(self, seen: Seen) -> dict[str, Tensor]:
        """The maps of the feature pyramid network, float32, by name."""
        return self.fpn({str(i): level.float() for i, level in enumerate(seen.levels)})


class Channels(nn.Module):
    """What torchvision's constructors ask of a backbone: the number of its channels. It never runs."""

    def __init__(self, out_channels: int):
        super().__init__()
        self.out_channels = out_channels


class RetinaNetDetector(Detector):
    """RetinaNet.

    Args:
        channels, strides: of the levels.
        scale: the smallest anchor of a level, in strides; the others are 2^(1/3) and 2^(2/3) times as large.
        least: scores up to this are left out.
        most: at most so many boxes of an image are kept.
        norm: of the convolutions of the heads: "none", as published, or "group".
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[float],
        classes: int,
        width: int = 256,
        scale: float = 4.0,
        least: float = 0.05,
        most: int = 100,
        norm: HeadNorm = "none",
    ):
        super().__init__()
        self._make(channels, width, LastLevelP6P7(width, width))
        steps = [*strides, strides[-1] * 2, strides[-1] * 4]
        anchors = AnchorGenerator(tuple(tuple(scale * step * f for f in OCTAVE) for step in steps), (RATIOS,) * len(steps))
        head = RetinaNetHead(width, len(OCTAVE) * len(RATIOS), classes, norm_layer=layer_of(norm, width))
        self.net = RetinaNet(
            Channels(width), classes, anchor_generator=anchors, head=head, score_thresh=least, detections_per_img=most
        )

    def losses(self, seen: Seen, targets: Sequence[Target], seeds: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """Focal loss of the classes and L1 of the boxes, each divided by the number of the image's own anchors with an object,
        as torchvision does. Nothing is sampled."""
        maps = list(self.maps(seen).values())
        out = self.net.head(maps)
        anchors = self.net.anchor_generator(seen.image(), [level[:1] for level in maps])
        rows = []
        for i, target in enumerate(targets):
            own = {key: value[i : i + 1] for key, value in out.items()}
            rows.append(self.net.compute_loss([{"boxes": target.boxes, "labels": target.labels}], own, anchors))
        return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}, out["cls_logits"]

    def detect(self, seen: Seen) -> list[Detections]:
        """What is found in each image."""
        maps = list(self.maps(seen).values())
        out = self.net.head(maps)
        anchors = self.net.anchor_generator(seen.image(), [level[:1] for level in maps])[0]
        each = self.net.anchor_generator.num_anchors_per_location()
        counts = [level.shape[-2] * level.shape[-1] * count for level, count in zip(maps, each, strict=True)]
        parts = {key: list(value.split(counts, 1)) for key, value in out.items()}
        images = len(maps[0])
        found = self.net.postprocess_detections(parts, [list(anchors.split(counts))] * images, [seen.size] * images)
        finite = out["cls_logits"].flatten(1).isfinite().all(1) & out["bbox_regression"].flatten(1).isfinite().all(1)
        return [
            Detections(one["boxes"], one["scores"], one["labels"], finite=bool(known))
            for one, known in zip(found, finite, strict=True)
        ]


class MaskRCNNDetector(Detector):
    """Mask R-CNN.

    Args:
        channels, strides, least, most, norm: as `RetinaNetDetector` has them.
        scale: the side of a level's anchors, in strides.
        hidden: the width of the layers that classify a region.
        regions: how many regions of an image the region proposal network hands on, at most.
        sampled: (anchors, regions) of an image that are drawn for its losses, at most.
    """

    needs_masks = True

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[float],
        classes: int,
        width: int = 256,
        scale: float = 8.0,
        least: float = 0.05,
        most: int = 100,
        norm: HeadNorm = "none",
        hidden: int = 1024,
        regions: int = 1000,
        sampled: tuple[int, int] = (256, 512),
    ):
        super().__init__()
        self._make(channels, width, LastLevelMaxPool())
        steps = [*strides, strides[-1] * 2]
        anchors = AnchorGenerator(tuple((scale * step,) for step in steps), (RATIOS,) * len(steps))
        self.net = MaskRCNN(
            Channels(width),
            rpn_anchor_generator=anchors,
            rpn_pre_nms_top_n_train=2 * regions,
            rpn_pre_nms_top_n_test=regions,
            rpn_post_nms_top_n_train=regions,
            rpn_post_nms_top_n_test=regions,
            rpn_batch_size_per_image=sampled[0],
            box_batch_size_per_image=sampled[1],
            box_head=TwoMLPHead(width * POOLED**2, hidden),
            box_predictor=FastRCNNPredictor(hidden, classes + 1),  # 0 is no object
            box_score_thresh=least,
            box_detections_per_img=most,
            mask_head=MaskRCNNHeads(width, (width,) * 4, 1, layer_of(norm, width)),
            mask_predictor=MaskRCNNPredictor(width, width, classes + 1),
        )

    def losses(self, seen: Seen, targets: Sequence[Target], seeds: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of the region proposals, of the classes, boxes and masks, each a mean over what is sampled in the
        image."""
        maps, rows = self.maps(seen), []
        for i, (target, seed) in enumerate(zip(targets, seeds, strict=True)):
            truth = [{"boxes": target.boxes, "labels": target.labels + 1, "masks": target.masks}]
            own = {name: level[i : i + 1] for name, level in maps.items()}
            with drawing(seed, target.boxes.device):
                regions, of_regions = self.net.rpn(seen.image(), own, truth)
                _, of_objects = self.net.roi_heads(own, regions, [seen.size], truth)
            rows.append(of_regions | of_objects)
        return {name.removeprefix("loss_"): torch.stack([row[name] for row in rows]) for name in rows[0]}, maps["0"]

    def detect(self, seen: Seen) -> list[Detections]:
        """What is found in each image, with masks."""
        maps, found = self.maps(seen), []
        for i in range(len(maps["0"])):
            own = {name: level[i : i + 1] for name, level in maps.items()}
            regions, _ = self.net.rpn(seen.image(), own)
            one = self.net.roi_heads(own, regions, [seen.size])[0][0]
            finite = all(bool(level.isfinite().all()) for level in own.values())
            found.append(Detections(one["boxes"], one["scores"], one["labels"] - 1, one["masks"], finite))
        return found
