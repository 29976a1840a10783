"""`data=scenes_masks`: the pictures of `datamodules.placed` with the shape of every pixel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from datamodules import placed
from datamodules.drawing import SHAPES
from datamodules.identity import digest_of
from datamodules.placed import PlacedThing, draw_placed
from datamodules.segmented_items import SegmentedImage, SegmentedSplits

BACKGROUND = "background"
CLASSNAMES = (BACKGROUND, *SHAPES)


class DrawnMasks:
    """Source of the placed pictures with their label maps; a path is a picture's key. Classes: background, then the shapes."""

    in_memory = True

    def __init__(self) -> None:
        self._drawn: dict[str, tuple[Image.Image, Sequence[PlacedThing]]] = {}

    def splits(self, seed: int) -> SegmentedSplits:
        """All pictures, whatever the seed."""
        lists = {split: [SegmentedImage(key, key) for key in placed.keys(split)] for split in placed.SIZES}
        return SegmentedSplits(lists["train"], lists["val"], lists["test"], list(CLASSNAMES))

    def digest(self, seed: int) -> str:
        """A constant: the data come with the code."""
        return "placed scenes: masks"

    def content_digest(self, items: Iterable[SegmentedImage]) -> str:
        """A digest of the keys, which the pictures follow from."""
        return digest_of([item.path for item in items])

    def open(self, item: SegmentedImage) -> Image.Image:
        """The picture of a key, 64 px RGB, drawn at the first call. ValueError for a key that is none."""
        return self._draw(item.path)[0]

    def open_mask(self, item: SegmentedImage) -> np.ndarray:
        """The label map (64, 64) uint8 of a key: 0 is background, 1 the first shape. ValueError for a key that is none."""
        label_map = np.zeros((placed.SIZE, placed.SIZE), np.uint8)
        for thing in self._draw(item.mask)[1]:
            label_map[thing.mask] = CLASSNAMES.index(thing.thing.shape)
        return label_map

    def _draw(self, key: str) -> tuple[Image.Image, Sequence[PlacedThing]]:
        if key not in self._drawn:
            self._drawn[key] = draw_placed(key)
        return self._drawn[key]
