"""Pairs of objects in an image with their relation: lists and loaders, for evaluation alone.

Names and boxes never go through a loader: they are looked up by the index in the batch, in `Evaluation.items`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from datamodules.grounding import GroundingData
from datamodules.loaders import TrainLoader


class PairData(GroundingData):
    """Pairs of objects: lists and loaders. Its arguments are those of `GroundingData`; `shots` is 0, as nothing is learned, and
    the items of a batch are pairs.

    Raises:
        ValueError: a wrong argument, or files are missing on the disk.
    """

    offers: ClassVar[tuple[str, ...]] = ("related pairs",)
    what, why_whole, subset_hint = "pairs", "has no class subsets", "evaluate all its relations"

    def drawn(self, items: list) -> list:
        """The empty list. ValueError for shots other than 0."""
        if self.shots != 0:
            raise ValueError(f"shots={self.shots}: nothing is learned from data={self.name}, so give shots=0.")
        return []

    @property
    def classnames(self) -> list[str]:
        """The relations in words."""
        return self.selected.relations

    @property
    def evaluated_classes(self) -> list[str]:
        """As `classnames`."""
        return self.classnames

    @property
    def trained_on(self) -> str:
        """A description of the training data, for the screen."""
        return f"nothing to learn, {len(self.classnames)} relations"

    def selection(self) -> dict[str, Any]:
        """The empty selection."""
        return {"train": [], "val": []}

    def train_loader(self, rank: int = 0, world: int = 1, accumulate: int = 1) -> TrainLoader:
        """Raises ValueError: there is nothing to learn from."""
        raise ValueError(f"data={self.name} has nothing to learn from: choose a method that trains nothing.")
