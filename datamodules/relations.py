"""Pairs of things in an image with the relation between them: lists and loaders. Nothing is learned from them.

Names and boxes never go through a loader: whoever needs them looks them up by the index in the batch, in `Evaluation.items`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from datamodules.grounding import GroundingData
from datamodules.loaders import TrainLoader


class PairData(GroundingData):
    """Pairs of things: lists and loaders. Its arguments are those of `GroundingData`; `shots` is 0, as nothing is learned, and
    batches are of pairs.

    Raises:
        ValueError: a wrong argument, or whatever is missing on disk, in one sentence.
    """

    offers: ClassVar[tuple[str, ...]] = ("related pairs",)
    what, why_whole, subset_hint = "pairs", "has no class subsets", "evaluate all its relations"

    def drawn(self, items: list) -> list:
        """None. ValueError where there should be some."""
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
        """What is trained on, for the screen."""
        return f"nothing to learn, {len(self.classnames)} relations"

    def selection(self) -> dict[str, Any]:
        """Nothing."""
        return {"train": [], "val": []}

    def train_loader(self, rank: int = 0, world: int = 1, accumulate: int = 1) -> TrainLoader:
        """ValueError: there is nothing to learn from."""
        raise ValueError(f"data={self.name} has nothing to learn from: choose a method that trains nothing.")
