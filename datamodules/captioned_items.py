"""Captioned images, questions about images, their lists, and the interface of their sources. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import PIL.Image


class CaptionedImage(NamedTuple):
    """An image and its captions."""

    path: str  # POSIX, relative to the source's image root; any stable key where images are not files
    image_id: int | str  # the dataset's own
    captions: tuple[str, ...]  # empty where they are not public
    domain: str = ""  # the dataset's word for a part of its images, such as "near-domain"
    label: int = 0  # unused; loaders need one


@dataclass(frozen=True)
class CaptionSplits:
    """The lists of a captioned dataset; a list may be empty, and no image is in two of them."""

    train: list[CaptionedImage]
    val: list[CaptionedImage]
    test: list[CaptionedImage]


class CaptionSource(Protocol):
    """A source of captioned images. `digest(seed)`, `content_digest(items)` and `in_memory` are as in
    `datamodules.items.Source`."""

    def splits(self, seed: int) -> CaptionSplits:
        """Full lists, the same for every seed. ValueError when something is missing."""

    def open(self, item: CaptionedImage) -> PIL.Image.Image:
        """The image in RGB. ValueError that names the image when it cannot be decoded."""


class Question(NamedTuple):
    """A question about an image."""

    path: str  # of the image, as in `CaptionedImage`
    image_id: int | str  # the dataset's own
    question_id: int
    question: str
    answers: tuple[str, ...]  # of ten people; empty where they are not public
    captions: tuple[str, ...] = ()  # of the image, where the source has been given them
    answer_type: str = ""  # "yes/no", "number" or "other"
    question_type: str = ""  # the first words of the question, such as "how many"
    label: int = 0  # unused; loaders need one


@dataclass(frozen=True)
class QuestionSplits:
    """The lists of a dataset of questions; a list may be empty, and no image is in two of them."""

    train: list[Question]
    val: list[Question]
    test: list[Question]
