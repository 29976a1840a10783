"""Pairs of objects in an image with their relation, their lists, and the interface of their sources. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import PIL.Image

from datamodules.boxes import Box


class Pair(NamedTuple):
    """Two objects of an image and their relation: subject "cup", relation "on", object "table". Boxes are those of
    `datamodules.boxes`."""

    path: str  # of the image: POSIX, relative to the source's image root; any stable key where images are not files
    image_id: int | str  # the dataset's own
    pair_id: int | str  # the dataset's own
    subject: str
    subject_box: Box
    object: str
    object_box: Box
    label: int  # the position of the relation in the list of all


@dataclass(frozen=True)
class PairSplits:
    """The lists of a dataset of pairs, and its relations in words; a list may be empty, and no image is in two of them."""

    train: list[Pair]
    val: list[Pair]
    test: list[Pair]
    relations: list[str] = field(default_factory=list)


class PairSource(Protocol):
    """A source of pairs. `digest(seed)`, `content_digest(items)` and `in_memory` are as in `datamodules.items.Source`."""

    def splits(self, seed: int) -> PairSplits:
        """Full lists, the same for every seed. ValueError when something is missing."""

    def open(self, item: Pair) -> PIL.Image.Image:
        """The image in RGB. ValueError that names the image when it cannot be decoded."""
