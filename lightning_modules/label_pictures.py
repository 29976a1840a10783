"""Pictures of label maps: a colour for each class.

Shapes: (H,W) a label map of class ids or IGNORE.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from datamodules.segmented_items import IGNORE

Colour = tuple[int, int, int]
NO_CLASS: Colour = (255, 255, 255)  # of IGNORE


def colours_of(classes: int, given: Sequence[Colour] | None = None) -> list[Colour]:
    """The colour of each class: those given or, where there are none, Pascal VOC's, whose first is black."""
    return [tuple(map(int, colour)) for colour in given] if given else [_voc(number) for number in range(classes)]


def _voc(number: int) -> Colour:
    """The bits of a class id, dealt to red, green and blue from the highest bit of each on."""
    channels = [0, 0, 0]
    for bit in range(24):
        channels[bit % 3] |= (number >> bit & 1) << (7 - bit // 3)
    return tuple(channels)


def label_picture(ids: np.ndarray, colours: Sequence[Colour]) -> Image.Image:
    """A label map (H,W) as a picture of class ids with a palette; the pixels' values are the ids."""
    picture = Image.fromarray(np.ascontiguousarray(ids, dtype=np.uint8), mode="P")
    palette = np.full((256, 3), NO_CLASS, dtype=np.uint8)
    palette[: len(colours)] = colours
    palette[IGNORE] = NO_CLASS
    picture.putpalette(palette.tobytes())
    return picture


def hex_of(colour: Colour) -> str:
    """A colour as a page names it: #ff0000."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
