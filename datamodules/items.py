"""The interface of a source of images: lists of items, and a method to open one."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import PIL.Image

from files.untrusted import label_of, path_within, text_of


class Item(NamedTuple):
    """One image of a dataset."""

    path: str  # POSIX, relative to the source's image root; any stable key where images are not files
    label: int
    classname: str


def item_of(row: Any, what: str) -> Item:
    """The item of a row [path, label, class name] from a file that anyone may have made. ValueError that begins with `what`.

    A label may be text of digits, as some split files have it.
    """
    if not isinstance(row, list | tuple) or len(row) != 3:
        raise ValueError(f"{what} is not [path, label, class name].")
    path, label, name = row
    if isinstance(label, str) and label.isascii() and label.isdecimal() and len(label) < 10:
        label = int(label)
    label = label_of(label, f"{what}: the label")
    return Item(path_within(path, f"{what}: the path"), label, text_of(name, f"{what}: the name"))


class ItemTable(Sequence):
    """Millions of items as arrays; an `Item` is made when it is indexed.

    Args:
        rows: (N,) positions in the dataset's index.
        labels: (N,), 0..C-1.
        names: class names by label.
        path_of: the path of a row.
        shards: (N,) which file or folder each row lies in, for orders that read one after the other.
    """

    def __init__(
        self, rows: np.ndarray, labels: np.ndarray, names: list[str], path_of: Callable[[int], str], shards: np.ndarray
    ) -> None:
        self.rows, self.labels, self.names, self.path_of, self.shards = rows, labels, names, path_of, shards

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Item:  # type: ignore[override]
        label = int(self.labels[i])
        return Item(self.path_of(int(self.rows[i])), label, self.names[label])

    def take(self, positions: np.ndarray) -> "ItemTable":
        """The items at those positions (M,), in that order."""
        return ItemTable(self.rows[positions], self.labels[positions], self.names, self.path_of, self.shards[positions])

    def relabelled(self, new_label: dict[int, int]) -> "ItemTable":
        """The items whose labels are in `new_label`, {label: new label}, with their new labels."""
        new_labels = np.full(len(self.names), -1, self.labels.dtype)
        new_labels[list(new_label)] = list(new_label.values())
        chosen = self.take(np.flatnonzero(new_labels[self.labels] >= 0))
        names = [name for _, name in sorted((new, self.names[old]) for old, new in new_label.items())]
        return ItemTable(chosen.rows, new_labels[chosen.labels], names, chosen.path_of, chosen.shards)

    def summary(self) -> dict[str, int | str]:
        """The list's entry in a result: sizes, and a digest that is equal for equal lists of equal data."""
        digest = hashlib.sha256(np.ascontiguousarray(self.rows, np.int64))
        digest.update(np.ascontiguousarray(self.labels, np.int64))
        return {"images": len(self), "classes": len(np.unique(self.labels)), "sha256": digest.hexdigest()}


Items = list[Item] | ItemTable


@dataclass(frozen=True)
class Splits:
    """The lists of a dataset. A test-only set has no train items; its classes are then those of `test`.

    Where `fixed` holds "val", the validation list is the test list, as ImageNet's: nothing may be chosen on it.
    """

    train: Items
    val: Items
    test: Items
    fixed: frozenset[str] = frozenset()  # lists that few-shot sampling leaves unchanged
    rng_state: tuple | None = None  # the generator's state after a fallback split: few-shot sampling continues from it
    pool: Items | None = None  # all training images, where `train` is a stored selection of them; None: `train` itself

    @cached_property
    def classnames(self) -> list[str]:
        """One name per label. Raises ValueError where labels are not 0..C-1 or an item has a label without a name."""
        if isinstance(self.train, ItemTable):  # its labels were checked when the index was built
            return self.train.names
        names: dict[int, str] = {}
        for item in self.train or self.test:
            names.setdefault(item.label, item.classname)
        if not names or (min(names), max(names)) != (0, len(names) - 1):
            raise ValueError(f"labels must be 0..C-1, each with an image in the training list: {_gaps(names)}")
        for item in (*self.val, *self.test):
            if item.label not in names:
                raise ValueError(f"{item.path} has label {item.label}, which no training image has (0..{max(names)})")
        return [names[label] for label in range(len(names))]


def _gaps(labels: Collection[int]) -> str:
    if not labels:
        return "all missing"
    if min(labels) < 0:
        return f"{min(labels)} is below 0"
    count = max(labels) + 1 - len(labels)  # no set of all labels below the largest: a hostile file may have huge labels
    first = list(islice((label for label in range(max(labels)) if label not in labels), 5))
    return f"{first} missing" if count == len(first) else f"{count:,} labels are missing, the first are {first}"


class Source(Protocol):
    """A source of images: reads one dataset.

    A source may also have a method `digest(seed) -> str`, the data's digest (`datamodules.identity`); without it the digest is
    that of the lists of `splits`; an attribute `in_memory`, true where images cost next to nothing to open; and a method
    `content_digest(items) -> str`, a digest of everything that decides what `open` gives for these items beside the
    source's code, without which no image features are stored (`runs.feature_store`).
    """

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


def positions_by_label(items: Items) -> dict[int, Any]:
    """Positions in the list per label, labels in order of first appearance."""
    if isinstance(items, ItemTable):
        order = np.argsort(items.labels, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(items.labels[order])) + 1) if len(order) else []
        return {int(items.labels[group[0]]): group for group in sorted(groups, key=lambda group: group[0])}
    positions: dict[int, Any] = {}
    for position, item in enumerate(items):
        positions.setdefault(item.label, []).append(position)
    return positions


def take(items: Items, positions: Sequence[int] | np.ndarray) -> Items:
    """The items at those positions, in that order, as a list or a table like `items`."""
    return items.take(np.asarray(positions, np.int64)) if isinstance(items, ItemTable) else [items[i] for i in positions]


def choose(name: str, **sources: Source) -> Source:
    """The source that `source=NAME` asks for, among those that the dataset's yaml offers."""
    if name not in sources:
        raise ValueError(f"source={name} is not offered by this dataset: use source={' or source='.join(sources)}")
    return sources[name]
