"""Questions about images with the answers of several people: their lists, the selection of training questions, their loaders.

An item is a question, so an image is listed once for each question about it.
"""

from __future__ import annotations

from typing import ClassVar

from datamodules.captioned import CaptionedData
from datamodules.captioned_items import Question, QuestionSplits

__all__ = ["Question", "QuestionData", "QuestionSplits"]


class QuestionData(CaptionedData):
    """Questions about images: lists, the images that train, loaders. Its arguments are those of `CaptionedData`; with
    `shots=N` all questions about N training images train."""

    offers: ClassVar[tuple[str, ...]] = ("questions about images",)

    def texts_of(self, item: Question) -> tuple[str, ...]:
        """The captions of the image, or else the question."""
        return item.captions or (item.question,)

    @property
    def trained_on(self) -> str:
        """A description of the training data, for the screen."""
        return f"{len(self.train_items):,} questions about {len({item.path for item in self.train_items}):,} training images"
