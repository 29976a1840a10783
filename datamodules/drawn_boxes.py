"""`data=scenes_boxes`: the pictures of `datamodules.placed` with a box and a mask for each thing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from PIL import Image

from datamodules import placed
from datamodules.detected_items import DetectedImage, DetectedObject, DetectedSplits
from datamodules.identity import digest_of
from datamodules.placed import PlacedThing, draw_placed


@cache  # 3 milliseconds each
def _drawn(key: str) -> tuple[Image.Image, Sequence[PlacedThing]]:
    return draw_placed(key)


class DrawnBoxes:
    """Source of the placed pictures with their things; a path is a picture's key.

    Args:
        classes: "colours" or "shapes" of the things.

    Raises:
        ValueError: another value of `classes`.
    """

    in_memory, has_masks = True, True

    def __init__(self, classes: str = "colours") -> None:
        placed.check_classes(classes)
        self.classes, self.classnames = classes, list(placed.CLASSES[classes])

    def _item(self, key: str) -> DetectedImage:
        things = [
            DetectedObject(box, self.classnames.index(placed.class_of(thing, self.classes)), number, area=float(mask.sum()))
            for number, (thing, mask, box) in enumerate(_drawn(key)[1])
        ]
        return DetectedImage(key, key, tuple(things))

    def splits(self, seed: int) -> DetectedSplits:
        """All pictures, for any seed. They are drawn here, as their boxes depend on the visible pixels."""
        lists = {split: [self._item(key) for key in placed.keys(split)] for split in placed.SIZES}
        return DetectedSplits(lists["train"], lists["val"], lists["test"], list(self.classnames))

    def digest(self, seed: int) -> str:
        """A constant: the data come with the code."""
        return f"placed scenes: boxes of {self.classes}"

    def content_digest(self, items: Iterable[DetectedImage]) -> str:
        """A digest of the keys, which determine the pictures."""
        return digest_of([item.path for item in items])

    def open(self, item: DetectedImage) -> Image.Image:
        """The picture of a key, 64 px RGB. ValueError for an unknown key."""
        return _drawn(item.path)[0]

    def object_masks(self, item: DetectedImage) -> np.ndarray:
        """The visible pixels of each thing, (N,64,64) bool."""
        return np.stack([thing.mask for thing in _drawn(item.path)[1]])
