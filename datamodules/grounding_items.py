"""Referring expressions with their proposals, their lists, and the interface of their sources. Needs no torch."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import PIL.Image

from datamodules.boxes import Box

Proposals = Literal["gold", "detected"]  # the annotated boxes of an image, which is easier, or what a detector finds in it


class Expression(NamedTuple):
    """An expression for one object of an image. An image is listed once for each expression for its objects.

    Boxes are those of `datamodules.boxes`, and inside the image.
    """

    path: str  # of the image: POSIX, relative to the source's image root; any stable key where images are not files
    image_id: int | str  # the dataset's own
    expression_id: int | str  # the dataset's own
    text: str
    gold: Box  # of the object that is meant
    proposals: tuple[Box, ...]  # N >= 1, in the order of their file
    regions: tuple[Hashable, ...] = ()  # for each proposal its source's description of its mask, or None; () without masks
    label: int = 0  # unused; loaders need one
    detected: bool = True  # False: a detector found nothing in the image, and its only proposal stands for all of it
    size: tuple[int, int] | None = None  # width and height of the image, where the files say


@dataclass(frozen=True)
class GroundingSplits:
    """The lists of a dataset of referring expressions; a list may be empty, and no image is in two of them."""

    train: list[Expression]
    val: list[Expression]
    test: list[Expression]


class GroundingSource(Protocol):
    """A source of referring expressions. `digest(seed)`, `content_digest(items)` and `in_memory` are as
    `datamodules.items.Source` has them.

    It may also have `lists`, by split the dataset's own name of the list, which results then give, and `detections_file`, the
    path that messages about detections name.
    """

    proposals: Proposals

    def splits(self, seed: int) -> GroundingSplits:
        """Full lists, the same for every seed. ValueError when something is missing."""

    def open(self, item: Expression) -> PIL.Image.Image:
        """The image in RGB. ValueError that names the image when it cannot be decoded."""

    def region_mask(self, item: Expression, number: int) -> np.ndarray | None:
        """The mask of a proposal, (H, W) bool in the size of the image; None where there is none, a box alone."""
