"""`data=scenes_masks`: the pictures of `datamodules.placed` with the colour, or the shape, of every pixel's thing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from datamodules import placed
from datamodules.identity import digest_of
from datamodules.placed import PlacedThing, draw_placed
from datamodules.segmented_items import SegmentedImage, SegmentedSplits

BACKGROUND = "background"


class DrawnMasks:
    """Source of the placed pictures with their label maps; a path is a picture's key.

    Args:
        classes: "colours" or "shapes" of the things; background is the first class.

    Raises:
        ValueError: another value of `classes`.
    """

    in_memory = True

    def __init__(self, classes: str = "colours") -> None:
        placed.check_classes(classes)
        self.classes, self.classnames = classes, [BACKGROUND, *placed.CLASSES[classes]]
        self._drawn: dict[str, tuple[Image.Image, Sequence[PlacedThing]]] = {}

    def splits(self, seed: int) -> SegmentedSplits:
        """All pictures, for any seed."""
        lists = {split: [SegmentedImage(key, key) for key in placed.keys(split)] for split in placed.SIZES}
        return SegmentedSplits(lists["train"], lists["val"], lists["test"], list(self.classnames))

    def digest(self, seed: int) -> str:
        """A constant: the data come with the code."""
        return f"placed scenes: masks of {self.classes}"

    def content_digest(self, items: Iterable[SegmentedImage]) -> str:
        """A digest of the keys, which determine the pictures."""
        return digest_of([item.path for item in items])

    def open(self, item: SegmentedImage) -> Image.Image:
        """The picture of a key, 64 px RGB, drawn at the first call. ValueError for an unknown key."""
        return self._draw(item.path)[0]

    def open_mask(self, item: SegmentedImage) -> np.ndarray:
        """The label map (64, 64) uint8 of a key: 0 is background, 1 the first class. ValueError for an unknown key."""
        label_map = np.zeros((placed.SIZE, placed.SIZE), np.uint8)
        for thing in self._draw(item.mask)[1]:
            label_map[thing.mask] = self.classnames.index(placed.class_of(thing.thing, self.classes))
        return label_map

    def _draw(self, key: str) -> tuple[Image.Image, Sequence[PlacedThing]]:
        if key not in self._drawn:
            self._drawn[key] = draw_placed(key)
        return self._drawn[key]
