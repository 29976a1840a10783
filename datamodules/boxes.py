"""Boxes in an image, and how much two of them overlap.

A box is (x1, y1, x2, y2) in pixels of the image as opened, with exclusive far edges: x2 - x1 is its width, and the pixel in
the top left corner is (0, 0, 1, 1). All files that are read have COCO's (x, y, width, height), and readers convert it. CPT's
released code makes inclusive far edges of it, whose width is x2 - x1 + 1; it writes none, and its overlaps are these, but for
boxes that share a single row or column, which it takes for apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Box = tuple[float, float, float, float]


def from_xywh(box: Sequence[float]) -> Box:
    """COCO's (x, y, width, height) as a box."""
    x, y, width, height = box
    return float(x), float(y), float(x) + float(width), float(y) + float(height)


def area(box: Sequence[float]) -> float:
    """Width times height in square pixels; 0 where a box has neither."""
    x1, y1, x2, y2 = box
    return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union, 0 to 1: 0 for boxes that only touch, and where neither has an area."""
    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = area(a) + area(b) - shared
    return shared / union if union > 0 else 0.0


def ious(boxes: Sequence[Sequence[float]], box: Sequence[float]) -> np.ndarray:
    """`iou` of each of N boxes with one, (N,) float64."""
    return np.array([iou(one, box) for one in boxes], np.float64)


def clamp(box: Sequence[float], size: tuple[int, int], what: str = "the box") -> Box:
    """The part of a box that is inside an image of `size` (width, height).

    A side that is then shorter than one pixel is made one pixel long, at its far end, or at its near end where the image
    ends.

    Raises:
        ValueError: the box has numbers that are not finite, a negative width or height, or no part inside the image.
    """
    x1, y1, x2, y2 = map(float, box)
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise ValueError(
            f"{what} has the corners {_written((x1, y1, x2, y2))}, which are not all numbers: correct or remove it."
        )
    if x2 < x1 or y2 < y1:
        raise ValueError(f"{what} {_written((x1, y1, x2, y2))} has a negative width or height: correct or remove it.")
    sides = [_clamped(low, high, most) for low, high, most in ((x1, x2, size[0]), (y1, y2, size[1]))]
    if sides[0] is None or sides[1] is None:
        raise ValueError(
            f"{what} {_written((x1, y1, x2, y2))} is outside the image of {size[0]} x {size[1]} pixels: correct or remove it."
        )
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


def _clamped(low: float, high: float, most: int) -> tuple[float, float] | None:
    """The part of an interval in [0, most], one pixel long at least; None where there is none."""
    start, end = max(low, 0.0), min(high, float(most))
    if end < start or (end == start and high > low):
        return None
    if end - start >= 1:
        return start, end
    start = min(start, most - 1.0)
    return start, start + 1.0


def _written(box: Sequence[float]) -> str:
    return "(" + ", ".join(f"{number:g}" for number in box) + ")"
