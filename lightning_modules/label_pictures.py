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


def label_picture(ids: np.ndarray, colours: Sequence[Colour]) -> Image.Image:
    """A label map (H,W) as a picture of class ids with a palette; the pixels' values are the ids."""
    picture = Image.fromarray(np.ascontiguousarray(ids, dtype=np.uint8), mode="P")
    table = np.full((IGNORE + 1, 3), NO_CLASS, dtype=np.uint8)
    table[: len(colours)] = colours
    picture.putpalette(table.tobytes())
    return picture


def hex_of(colour: Colour) -> str:
    """A colour in HTML notation: #ff0000."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
