"""Pairs of things in an image with the relation between them: lists and loaders. Nothing is learned from them.

Names and boxes never go through a loader: whoever needs them looks them up by the index in the batch, in `Evaluation.items`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from torch.utils.data import DataLoader

from datamodules.evaluation import Evaluation
from datamodules.grounding import padded, whole_image
from datamodules.loaded import KINDS, LoadedImages, OnBadImage
from datamodules.loaders import eval_loader
from datamodules.relation_items import Pair, PairSource
from datamodules.transforms import eval_transform


class PairData(LoadedImages):
    """Pairs of things: lists and loaders. Reads its lists when it is made.

    Args:
        image_spec: what the CLIP wants (`FrozenCLIP.image_spec`); an image is resized after it is marked, not here.
        shots: 0, as nothing is learned.
        subset: "all": the relations are compared with each other, all of them.
        eval_batch_size: pairs.
        workers, decoded_mb, on_bad_image: as `datamodules.module.FewShotData` has them.
        templates: what stands around a relation for a model that puts class names into templates.
        search_only: no table reports these images, so a search may look at its test images (`runs.search`).

    Raises:
        ValueError: a wrong argument, or whatever is missing on disk, in one sentence.
    """

    offers: ClassVar[tuple[str, ...]] = ("related pairs",)
    alternating_batch_size = 0  # no validation batches between the training batches

    def __init__(
        self,
        name: str,
        source: PairSource,
        image_spec: Mapping[str, Any],
        shots: int,
        seed: int,
        subset: str = "all",
        batch_size: int = 16,
        eval_batch_size: int = 16,
        workers: int | Literal["auto"] = 0,
        decoded_mb: int = 1024,
        templates: Sequence[str] = ("{}",),
        on_bad_image: OnBadImage = "raise",
        search_only: bool = False,
    ) -> None:
        super().__init__(
            name, source, image_spec, seed, subset, batch_size, eval_batch_size, workers, decoded_mb, eval_transform,
            on_bad_image=on_bad_image,
        )  # fmt: skip
        if subset != "all":
            raise ValueError(f"subset={subset}: data={name} has no class subsets, so protocol.train and evaluate must be all.")
        if shots != 0:
            raise ValueError(f"shots={shots}: nothing is learned from data={name}, so give shots=0.")
        self.templates, self.search_only = tuple(templates), search_only
        self.lists = source.splits(seed)

    def listed(self, split: str, which: str = "all") -> list[Pair]:
        """The pairs of a split (train, val, test); perhaps none. ValueError for a class subset."""
        if which != "all":
            raise ValueError(f"data={self.name} has no subset={which}: evaluate all its relations.")
        return getattr(self.lists, split)

    @property
    def classnames(self) -> list[str]:
        """The relations in words."""
        return self.lists.relations

    @property
    def train_items(self) -> list[Pair]:
        """None."""
        return []

    @property
    def trained_on(self) -> str:
        """What is trained on, for the screen."""
        return f"nothing to learn, {len(self.lists.relations)} relations"

    def selection(self) -> dict[str, list[str]]:
        """Nothing."""
        return {"train": [], "val": []}

    def train_loader(self, rank: int = 0, world: int = 1, accumulate: int = 1) -> None:
        """ValueError: there is nothing to learn from."""
        raise ValueError(f"data={self.name} has nothing to learn from: choose a method that trains nothing.")

    def evaluation(self, name: str, split: str, subset: str) -> Evaluation:
        """An evaluation of a split, with its pairs. ValueError where there are none."""
        if not (items := self.listed(split, subset)):
            raise ValueError(f"data={self.name} has no {KINDS[split]} pairs, and this run needs them.")
        return Evaluation(name, self.classnames, len(items), partial(self.eval_loader, split, subset), items=items)

    def eval_loader(self, split: str = "test", subset: str | None = None, rank: int = 0, world: int = 1) -> DataLoader:
        """This rank's share of a split (train, val, test): over all ranks, each pair once."""
        dataset = self.dataset(split, subset or self.subset, whole_image)
        return eval_loader(dataset, self.eval_batch_size, self.workers_of(len(dataset), world), rank, world, padded)
