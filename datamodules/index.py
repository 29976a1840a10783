"""An index of millions of images: where each one lies, so that any of them can be read at any time.

It is built once and kept as memory-mapped arrays. Its folder is named by a digest of what the reader finds cheap to look at
(names, sizes, times of change), so an index of data that have changed since is never found, only built anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock

log = logging.getLogger(__name__)
VERSION = 1  # of the files written here
ARRAYS = {"shard": np.int32, "offset": np.int64, "size": np.int64, "label": np.int32, "text": np.uint8}


@dataclass
class Listing:
    """One split: N images in S shards. What `offset` and `size` (N,) count is the reader's business."""

    shards: list[str]  # S names, relative to the data's folder
    shard: np.ndarray  # (N,) place in `shards`
    offset: np.ndarray
    size: np.ndarray
    label: np.ndarray  # (N,) place in `ids`
    ids: list[str | int]  # a class's id, or its number in a list of ids that the shards do not hold
    text: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))  # file names, one after the other
    broken: list[str] = field(default_factory=list)  # a sentence for each shard that cannot be read to its end


class Reader(Protocol):
    def stamp(self) -> Any:
        """What changes when the data do; json-able and cheap: nothing is opened."""

    def listing(self, split: str) -> Listing: ...

    def path(self, listing: Listing, row: int) -> str:
        """Names the image, and is all that `read` needs."""

    def read(self, path: str) -> bytes:
        """The image as encoded. ValueError when it is not there."""


@dataclass(frozen=True)
class Index:
    classes: list[str]  # ids in the order of labels: sorted
    splits: dict[str, Listing]


def find(
    reader: Reader, splits: Sequence[str], places: Sequence[Path], numbered: Callable[[], list[str]], store: bool = True
) -> Index:
    """The index of the data as they are now: the one that is kept in the first of `places` that has it or can have it.

    Args:
        numbered: gives the ids by number, for shards whose labels are numbers.
        store: False leaves no trace: an index that is not there is built in memory.

    Several processes may call this at once: one of them builds, the others wait for it. One that is killed leaves nothing
    that would be taken for an index.
    """
    name = hashlib.sha256(json.dumps([VERSION, list(splits), reader.stamp()]).encode()).hexdigest()[:16]
    for place in places:
        if (place / name).is_dir():
            return load(place / name)
    place = next((place for place in places if writable(place)), None) if store else None
    if place is None:
        return build(reader, splits, numbered)
    with FileLock(place / ".lock"):
        if not (place / name).is_dir():
            log.warning("building an index in %s, this once: a minute or so per million images", place)
            index = build(reader, splits, numbered)
            for other in place.iterdir():  # of data that have changed, or half-written by a process that was killed
                if other.is_dir():
                    shutil.rmtree(other, ignore_errors=True)
            with whole(place / name) as folder:
                save(index, folder)
    return load(place / name)


def build(reader: Reader, splits: Sequence[str], numbered: Callable[[], list[str]]) -> Index:
    """Reads the data's own listings. Labels are places in the sorted ids of the first split, the training images."""
    listings = {split: reader.listing(split) for split in splits}
    for split, listing in listings.items():
        if len(listing.label) == 0:
            raise ValueError("; ".join([f"there are no images in the {split} split", *listing.broken]))
        if any(isinstance(each, int) for each in listing.ids):
            names = numbered()
            if max(listing.ids) >= len(names) or min(listing.ids) < 0:
                raise ValueError(f"an image of {split} has label {max(listing.ids)}, but {len(names)} classes are listed")
            listing.ids = [names[each] for each in listing.ids]
    first = listings[splits[0]]
    classes = sorted({first.ids[i] for i in np.unique(first.label)})
    labels = {each: label for label, each in enumerate(classes)}
    for split, listing in listings.items():
        new = np.array([labels.get(each, -1) for each in listing.ids], np.int32)
        if unknown := [listing.ids[i] for i in np.unique(listing.label) if new[i] < 0]:
            raise ValueError(f"{split} has {len(unknown)} class(es) without a training image, the first is {unknown[0]}")
        listing.label = new[listing.label]
    return Index(classes, listings)


def save(index: Index, folder: Path) -> None:
    about: dict[str, Any] = {"classes": index.classes, "splits": {}}
    for split, listing in index.splits.items():
        about["splits"][split] = {"shards": listing.shards, "broken": listing.broken}
        for name, dtype in ARRAYS.items():
            np.save(folder / f"{split}-{name}.npy", np.asarray(getattr(listing, name), dtype))
    (folder / "index.json").write_text(json.dumps(about))


def load(folder: Path) -> Index:
    try:
        about = json.loads((folder / "index.json").read_text())
        splits = {
            split: Listing(
                ids=about["classes"],
                **kept,
                **{name: np.load(folder / f"{split}-{name}.npy", mmap_mode="r") for name in ARRAYS},
            )
            for split, kept in about["splits"].items()
        }
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"the index {folder} cannot be read ({error}): remove that folder, it is built anew") from error
    return Index(about["classes"], splits)


def writable(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
        return os.access(place, os.W_OK)
    except OSError:
        return False


@contextmanager
def whole(path: Path):
    """A folder to write into that becomes `path` at the end, or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
