"""Datasets without class subsets: the lists of training, validation and test images."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from typing import Any

from datamodules.evaluation import Evaluation
from datamodules.identity import digest_of
from datamodules.loaded import KINDS, LoadedImages, check_shots
from datamodules.validation import check_apart, way_out

LISTED = 10_000  # images, up to which a result lists those that were trained on


class ListedImages(LoadedImages):
    """The base of datamodules without class subsets: the lists of a source, and how many training images are drawn.

    A subclass calls `take_lists` when it is made, and says what its items come with.
    """

    alternating_batch_size = 0  # no validation batches between the training batches
    what = "images"  # the kind of items, in messages
    why_whole = "has no classes"  # in the message that refuses a class subset,
    subset_hint = "evaluate all"  # and its advice

    def take_lists(self, shots: int) -> None:
        """Reads the source's lists into `selected`. Of the training images `shots` are drawn by the seed; 0 or less: all.

        Raises:
            ValueError: a class subset; too many shots; a validation image that is a test image; what the source finds missing.
        """
        if self.subset != "all":
            raise ValueError(
                f"subset={self.subset}: data={self.name} {self.why_whole}, so protocol.train and evaluate must be all."
            )
        full = self.source.splits(self.seed)
        self.shots = shots
        self.selected = replace(full, train=self.drawn(full.train))
        check_apart(self.selected.val, self.selected.test, self.name)

    def drawn(self, items: list) -> list:
        """The selected training items, out of all. ValueError for a wrong number of shots."""
        return draw(items, self.shots, self.seed, self.name)

    def listed(self, split: str, which: str = "all") -> list:
        """The items of a split (train, val, test); perhaps none. ValueError for a class subset."""
        if which != "all":
            raise ValueError(f"data={self.name} {self.why_whole}, so it has no subset={which}: {self.subset_hint}.")
        return getattr(self.selected, split)

    def items(self, split: str, which: str = "all") -> list:
        """The items of a split. ValueError where there are none, so nothing would be measured."""
        if not (items := self.listed(split, which)):
            instead = f": {way_out(val_is_test=False)}" if split == "val" else ""
            raise ValueError(f"data={self.name} has no {KINDS[split]} {self.what}, and this run needs them{instead}.")
        return items

    @property
    def train_items(self) -> list:
        """The training images that were drawn."""
        return self.selected.train

    @property
    def val_items(self) -> list:
        """The validation images; empty where there are none to choose on."""
        return self.selected.val

    @property
    def test_items(self) -> list:
        """The test images."""
        return self.selected.test

    def selection(self) -> dict[str, Any]:
        """The training and validation images: paths below the image root, or for long lists counts and a digest."""
        lists = {"train": self.train_items, "val": self.val_items}
        return {split: _summary(list(dict.fromkeys(item.path for item in items))) for split, items in lists.items()}

    @property
    def classnames(self) -> list[str]:
        """The class names by id; a subclass without classes gives texts that a model can be bound to."""
        return list(self.selected.classnames)

    def class_list(self, which: str = "all") -> list[str]:
        """As `classnames`."""
        return self.classnames

    @property
    def evaluated_classes(self) -> list[str]:
        """The class list of an evaluation; empty where there are no classes."""
        return []

    def evaluation(self, name: str, split: str, subset: str) -> Evaluation:
        """An evaluation of a split, with its items. ValueError where there are none."""
        items = self.items(split, subset)
        return Evaluation(name, self.evaluated_classes, len(items), partial(self.eval_loader, split, subset), items=items)


def draw(items: list, shots: int, seed: int, name: str) -> list:
    """The items of `shots` images, drawn by the seed, in the order of the list; all of them where shots is -1.

    Raises:
        ValueError: there are fewer images, or shots is 0.
    """
    check_shots(shots, name)
    if shots <= 0:
        return items
    paths = list(dict.fromkeys(item.path for item in items))
    if paths and shots > len(paths):
        raise ValueError(f"shots={shots}: data={name} has {len(paths):,} training images; give fewer, or shots=-1 for all.")
    drawn = set(random.Random(seed).sample(paths, min(shots, len(paths))))
    return [item for item in items if item.path in drawn]


def _summary(paths: list[str]) -> list[str] | dict[str, int | str]:
    return paths if len(paths) <= LISTED else {"images": len(paths), "sha256": digest_of(paths)}
