"""What every source of images hands over: lists of items, and a way to open one."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import PIL.Image


class Item(NamedTuple):
    path: str  # POSIX, relative to the source's image root; any stable key where images are not files
    label: int
    classname: str


@dataclass(frozen=True)
class Splits:
    """The lists of a dataset. A test-only set has no train items; its classes are then those of `test`."""

    train: list[Item]
    val: list[Item]
    test: list[Item]
    fixed: frozenset[str] = frozenset()  # lists that few-shot sampling leaves alone ("val" of ImageNet is its test set)
    rng_state: tuple | None = None  # where a fallback split left the generator: few-shot sampling goes on from there

    @cached_property
    def classnames(self) -> list[str]:
        """One name per label. Raises ValueError where labels are not 0..C-1 or an item has a label without a name."""
        names: dict[int, str] = {}
        for item in self.train or self.test:
            names.setdefault(item.label, item.classname)
        gaps = sorted(set(range(max(names, default=-1) + 1)) - set(names))
        if gaps or not names:
            raise ValueError(f"labels must be 0..C-1, each with an image in the training list: {gaps or 'all'} missing")
        for item in (*self.val, *self.test):
            if item.label not in names:
                raise ValueError(f"{item.path} has label {item.label}, which no training image has (0..{max(names)})")
        return [names[label] for label in range(len(names))]


class Source(Protocol):
    def splits(self, seed: int) -> Splits:
        """Full lists. `seed` matters only where a split has to be made. ValueError when something is missing."""

    def open(self, item: Item) -> PIL.Image.Image:
        """The image in RGB. ValueError that names the image when it cannot be decoded."""


def by_label(items: Iterable[Item]) -> dict[int, list[Item]]:
    """Items per label, labels in order of first appearance."""
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    return groups


def choose(name: str, **sources: Source) -> Source:
    """The source that `source=NAME` asks for, among those that the dataset's yaml offers."""
    if name not in sources:
        raise ValueError(f"source={name} is not offered by this dataset: use source={' or source='.join(sources)}")
    return sources[name]
