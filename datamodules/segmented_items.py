"""Images with label maps, their lists, and the interface of their sources. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import PIL.Image

IGNORE = 255  # in a label map: a pixel that neither trains nor counts
MAX_CLASSES = IGNORE  # ids are 0..254


class SegmentedImage(NamedTuple):
    """An image and where its label map is."""

    path: str  # POSIX, relative to the source's image root; any stable key where images are not files
    mask: str  # the label map's path, relative to the source's root of label maps
    label: int = 0  # unused; loaders need one


@dataclass(frozen=True)
class SegmentedSplits:
    """The lists of a segmentation dataset; a list may be empty, and no image is in two of them."""

    train: list[SegmentedImage]
    val: list[SegmentedImage]
    test: list[SegmentedImage]
    classnames: list[str]  # by id
    colours: Sequence[tuple[int, int, int]] | None = None  # RGB by id, as the dataset's authors show the classes


class SegmentationSource(Protocol):
    """A source of segmented images. `digest(seed)`, `content_digest(items)` and `in_memory` are as in
    `datamodules.items.Source`; the content digest speaks of the images, not of their label maps.

    It may also have `size(item)`, width and height of an image before it is opened, or None.
    """

    def splits(self, seed: int) -> SegmentedSplits:
        """Full lists, the same for every seed. ValueError when something is missing."""

    def open(self, item: SegmentedImage) -> PIL.Image.Image:
        """The image in RGB. ValueError that names the image when it cannot be decoded."""

    def open_mask(self, item: SegmentedImage) -> np.ndarray:
        """The label map, (H, W) uint8: ids 0..C-1, or `IGNORE`, one for each pixel of the image as `open` gives it.

        Raises:
            ValueError: the map cannot be decoded, or has a value that is neither.
        """


def check_fits(image: PIL.Image.Image, label_map: np.ndarray, item: SegmentedImage) -> None:
    """ValueError unless the label map (H, W) has one value for each pixel of the image."""
    height, width = label_map.shape
    if (width, height) != image.size:
        raise ValueError(
            f"the label map {item.mask} has {width} x {height} px and its image {item.path} {image.width} x {image.height}: "
            "give the label map that belongs to the image, in its size."
        )
