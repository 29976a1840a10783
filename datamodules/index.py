"""An index of millions of images: where each one lies, so that any of them can be read at any time.

It is built once and kept as memory-mapped arrays. Its folder is named by a digest of what the reader finds cheap to look at
(names, sizes, times of change), so an index of data that have changed since is never found, only built anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock

from files.untrusted import MAX_CLASSES, path_within, read_json, regular_file, text_of

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
            return load(place / name, splits)
    place = next((place for place in places if writable(place)), None) if store else None
    if place is None:
        return build(reader, splits, numbered)
    with lock(place / ".lock"):
        if not (place / name).is_dir():
            log.warning("building an index in %s, this once: a minute or so per million images", place)
            index = build(reader, splits, numbered)
            for other in place.iterdir():  # of data that have changed, or half-written by a process that was killed
                if is_index(other):
                    shutil.rmtree(other, ignore_errors=True)
            try:
                with whole(place / name) as folder:
                    save(index, folder)
            except OSError as error:
                raise ValueError(
                    f"the index cannot be written to {place} ({error.strerror}): free space there, or set data_index=PATH"
                ) from error
    return load(place / name, splits)


def build(reader: Reader, splits: Sequence[str], numbered: Callable[[], list[str]]) -> Index:
    """Reads the data's own listings. Labels are places in the sorted ids of the first split, the training images."""
    listings = {split: reader.listing(split) for split in splits}
    for split, listing in listings.items():
        if len(listing.label) == 0:
            raise ValueError("; ".join([f"there are no images in the {split} split", *listing.broken]))
        if len(listing.ids) > MAX_CLASSES:
            raise ValueError(f"the images of {split} have {len(listing.ids):,} classes, more than {MAX_CLASSES:,}")
        if any(isinstance(each, int) for each in listing.ids):
            if text := next((each for each in listing.ids if not isinstance(each, int)), None):
                raise ValueError(f"some labels of {split} are numbers, others text such as {text!r}: use one or the other")
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


def load(folder: Path, splits: Sequence[str]) -> Index:
    """A kept index. It may lie beside data that somebody else packed, so it is checked: it never leads out of their folder."""
    try:
        about = read_json(folder / "index.json", "the file")
        classes = _texts(about["classes"], text_of, "a class")
        if classes != sorted(set(classes)):
            raise ValueError("its classes are not sorted")
        return Index(classes, {split: _listing(folder, split, about["splits"][split], classes) for split in splits})
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        reason = str(error).rstrip(".") if isinstance(error, ValueError | OSError) else "it has another form"
        raise ValueError(f"the index {folder} cannot be read ({reason}): remove that folder, it is built anew") from error


def _listing(folder: Path, split: str, kept: dict[str, Any], classes: list[str]) -> Listing:
    shards, broken = _texts(kept["shards"], path_within, "a shard"), _texts(kept["broken"], text_of, "a remark")
    arrays = {name: _array(folder / f"{split}-{name}.npy", dtype) for name, dtype in ARRAYS.items()}
    count = len(arrays["label"])
    if not count or any(len(arrays[name]) != count for name in ("shard", "offset", "size")):
        raise ValueError(f"its lists of {split} are not equally long")
    for name, most in (("label", len(classes)), ("shard", len(shards))):  # what the others say is checked where it is used
        if not 0 <= arrays[name].min() <= arrays[name].max() < most:
            raise ValueError(f"a {name} of {split} is not in its list")
    return Listing(shards, *(arrays[name] for name in ("shard", "offset", "size", "label")), classes, arrays["text"], broken)


def _texts(found: Any, check: Callable[[Any, str], str], what: str) -> list[str]:
    if not isinstance(found, list):
        raise TypeError(f"{what} stands in no list")
    return [check(each, what) for each in found]


def _array(path: Path, dtype: type) -> np.ndarray:
    found = np.load(regular_file(path, "the file"), mmap_mode="r", allow_pickle=False)
    if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype != dtype:
        raise ValueError(f"{path.name} is no list of {dtype.__name__}")
    return found


def is_index(folder: Path) -> bool:
    """Whether this is an index, or half of one: what else lies there, or where a link leads, is not ours to remove."""
    if folder.is_symlink() or not folder.is_dir() or not re.fullmatch(r"[0-9a-f]{16}|\.[0-9a-f]+-\w+", folder.name):
        return False
    ours = re.compile(rf"index\.json|.*-({'|'.join(ARRAYS)})\.npy")
    return all(ours.fullmatch(each.name) and each.is_file() for each in folder.iterdir())


def lock(path: Path) -> FileLock:
    """A lock file beside the data; a link there could have any file emptied, and is refused."""
    if path.is_symlink():
        raise ValueError(f"the lock {path} is a link: remove it")
    return FileLock(path)


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
