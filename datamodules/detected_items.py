"""Images with boxes around their objects, their lists, and the interface of their sources. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import PIL.Image

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the image as opened; x2 - x1 is the width
CategoryIds = list[int | str] | None  # a dataset's own id of each class, by label; None: it has none


class Region(NamedTuple):
    """A mask as a file has it, packed: `datamodules.coco_instances.drawn` draws it."""

    kind: Literal["polygons", "rle"]
    parts: tuple[bytes, ...]  # each polygon as little-endian float64 x, y, x, y, ...; or one part, uint32 runs of the columns


class DetectedObject(NamedTuple):
    """An object in an image."""

    box: Box
    label: int  # the class, 0..C-1
    mask: Any = None  # what the source draws its mask from (a `Region`, a number); None: it has none
    crowd: bool = False  # it stands for several objects: neither learned nor counted, and what is found there is no mistake
    area: float | None = None  # px^2, by which an object is small, medium or large; None: that of the box


class DetectedImage(NamedTuple):
    """An image and its objects; perhaps none."""

    path: str  # POSIX, relative to the source's image root; any stable key where images are not files
    image_id: int | str  # the dataset's own
    objects: tuple[DetectedObject, ...]
    label: int = 0  # of loaders that want one
    size: tuple[int, int] | None = None  # height and width that the file of objects says; None: it says none


@dataclass(frozen=True)
class DetectedSplits:
    """The lists of a dataset with boxes; a list may be empty, and no image stands in two of them."""

    train: list[DetectedImage]
    val: list[DetectedImage]
    test: list[DetectedImage]
    classnames: list[str]  # by the label of an object
    category_ids: CategoryIds = None  # by label


class DetectionSource(Protocol):
    """A source of images with boxes. `digest(seed)`, `content_digest(items)` and `in_memory` are as `datamodules.items.Source`
    has them."""

    has_masks: bool  # whether each object that is no crowd has a mask

    def splits(self, seed: int) -> DetectedSplits:
        """Full lists, the same for every seed. ValueError when something is missing."""

    def open(self, item: DetectedImage) -> PIL.Image.Image:
        """The image in RGB. ValueError that names the image when it cannot be decoded."""

    def object_masks(self, item: DetectedImage) -> np.ndarray:
        """The masks of an image's objects, (N,H,W) bool. Where `has_masks`."""


def inside(box: Box, height: int, width: int) -> Box:
    """The part of a box that lies inside an image of that size; its width or height is 0 where none does."""
    x1, y1, x2, y2 = box
    x1, y1 = min(max(x1, 0.0), float(width)), min(max(y1, 0.0), float(height))
    return x1, y1, max(x1, min(x2, float(width))), max(y1, min(y2, float(height)))


def has_area(box: Box) -> bool:
    """Whether a box has a width and a height: less than a thousandth of a pixel counts as none."""
    return box[2] - box[0] >= 1e-3 and box[3] - box[1] >= 1e-3
