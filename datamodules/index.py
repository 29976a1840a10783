"""An index of the places of millions of images, so that each can be read by random access.

It is built once and stored as memory-mapped arrays, in a folder named by a digest of the data's names, sizes and times
of change (`Reader.stamp`). Where the data have changed, that folder does not exist and the index is built anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
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
    """One split: N images in S shards. The meaning of `offset` and `size` (N,) depends on the reader."""

    shards: list[str]  # S names, relative to the data's folder
    shard: np.ndarray  # (N,) position in `shards`
    offset: np.ndarray
    size: np.ndarray
    label: np.ndarray  # (N,) position in `ids`
    ids: list[str | int]  # class ids, or class numbers where the list of ids is not in the shards
    text: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))  # file names, one after the other
    broken: list[str] = field(default_factory=list)  # a sentence for each shard that cannot be read to its end


class Reader(Protocol):
    """Reads images that lie on a disk in one form: class folders, tar shards, parquet."""

    def stamp(self) -> Any:
        """A value for json that changes when the data change. Cheap: opens no file."""

    def listing(self, split: str) -> Listing:
        """Where the images of a split lie, and their classes. ValueError for an image without a class."""

    def path(self, listing: Listing, row: int) -> str:
        """Names the image, and is all that `read` needs."""

    def read(self, path: str) -> bytes:
        """The image as encoded. ValueError when it is not there."""


@dataclass(frozen=True)
class Index:
    """The listings of all splits, with one list of classes."""

    classes: list[str]  # ids in the order of labels: sorted
    splits: dict[str, Listing]


def find_index(
    reader: Reader, splits: Sequence[str], folders: Sequence[Path], numbered: Callable[[], list[str]], store: bool = True
) -> Index:
    """The index of the present data, read from, or built in, the first of `folders` that has it or can be written to.

    Args:
        splits: the first is that of the training images.
        numbered: gives the ids by number, for shards whose labels are numbers.
        store: False writes nothing: an index that does not exist is built in memory.

    Several processes may call this at once: one builds, the others wait. A process that is killed leaves no folder that would
    be taken for an index.
    """
    name = hashlib.sha256(json.dumps([VERSION, list(splits), reader.stamp()]).encode()).hexdigest()[:16]
    for folder in folders:
        if (folder / name).is_dir():
            return load_index(folder / name, splits)
    folder = next((folder for folder in folders if make_writable(folder)), None) if store else None
    if folder is None:
        return build_index(reader, splits, numbered)
    with file_lock(folder / ".lock"):
        if not (folder / name).is_dir():
            log.warning("building an index in %s, this once: a minute or so per million images", folder)
            index = build_index(reader, splits, numbered)
            for other in folder.iterdir():  # indexes of data that have changed, and half-written ones
                if is_index(other):
                    shutil.rmtree(other, ignore_errors=True)
            try:
                with whole_folder(folder / name) as temporary:
                    save_index(index, temporary)
            except OSError as error:
                raise ValueError(
                    f"the index cannot be written to {folder} ({error.strerror}): free space there, or set data_index=PATH"
                ) from error
    return load_index(folder / name, splits)


def build_index(reader: Reader, splits: Sequence[str], numbered: Callable[[], list[str]]) -> Index:
    """Reads the data's own listings. Labels are positions in the sorted ids of the first split, the training images.

    Raises:
        ValueError: a split has no images, or classes without a number's name or a training image.
    """
    listings = {split: reader.listing(split) for split in splits}
    for split, listing in listings.items():
        if len(listing.label) == 0:
            raise ValueError("; ".join([f"there are no images in the {split} split", *listing.broken]))
        if len(listing.ids) > MAX_CLASSES:
            raise ValueError(f"the images of {split} have {len(listing.ids):,} classes, more than {MAX_CLASSES:,}")
        if any(isinstance(key, int) for key in listing.ids):
            if text := next((key for key in listing.ids if not isinstance(key, int)), None):
                raise ValueError(f"some labels of {split} are numbers, others text such as {text!r}: use one or the other")
            names, numbers = numbered(), [key for key in listing.ids if isinstance(key, int)]
            if max(numbers) >= len(names) or min(numbers) < 0:
                raise ValueError(f"an image of {split} has label {max(numbers)}, but {len(names)} classes are listed")
            listing.ids = [names[number] for number in numbers]
    first = listings[splits[0]]
    classes = sorted({first.ids[i] for i in np.unique(first.label)})
    labels = {key: label for label, key in enumerate(classes)}
    for split, listing in listings.items():
        new = np.array([labels.get(key, -1) for key in listing.ids], np.int32)
        if unknown := [listing.ids[i] for i in np.unique(listing.label) if new[i] < 0]:
            raise ValueError(f"{split} has {len(unknown)} class(es) without a training image, the first is {unknown[0]}")
        listing.label = new[listing.label]
    return Index(classes, listings)


def save_index(index: Index, folder: Path) -> None:
    """Writes an index into an empty folder: `index.json`, and `SPLIT-NAME.npy` for each of `ARRAYS`."""
    about: dict[str, Any] = {"classes": index.classes, "splits": {}}
    for split, listing in index.splits.items():
        about["splits"][split] = {"shards": listing.shards, "broken": listing.broken}
        for name, dtype in ARRAYS.items():
            np.save(folder / f"{split}-{name}.npy", np.asarray(getattr(listing, name), dtype))
    (folder / "index.json").write_text(json.dumps(about))


def load_index(folder: Path, splits: Sequence[str]) -> Index:
    """A stored index. It may come with data that somebody else packed, so its content is checked, paths included."""
    try:
        about = read_json(folder / "index.json", "the file")
        classes = _texts(about["classes"], text_of, "a class")
        if classes != sorted(set(classes)):
            raise ValueError("its classes are not sorted")
        return Index(classes, {split: _listing(folder, split, about["splits"][split], classes) for split in splits})
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        reason = str(error).rstrip(".") if isinstance(error, ValueError | OSError) else "it has another form"
        raise ValueError(f"the index {folder} cannot be read ({reason}): remove that folder, it is built anew") from error


def _listing(folder: Path, split: str, stored: dict[str, Any], classes: list[str]) -> Listing:
    shards, broken = _texts(stored["shards"], path_within, "a shard"), _texts(stored["broken"], text_of, "a remark")
    arrays = {name: _array(folder / f"{split}-{name}.npy", dtype) for name, dtype in ARRAYS.items()}
    count = len(arrays["label"])
    if not count or any(len(arrays[name]) != count for name in ("shard", "offset", "size")):
        raise ValueError(f"its lists of {split} are not equally long")
    for name, most in (("label", len(classes)), ("shard", len(shards))):  # the other arrays are checked when they are used
        if not 0 <= arrays[name].min() <= arrays[name].max() < most:
            raise ValueError(f"a {name} of {split} is not in its list")
    shard, offset, size, label = (arrays[name] for name in ("shard", "offset", "size", "label"))
    return Listing(shards, shard, offset, size, label, classes, arrays["text"], broken)  # type: ignore[arg-type]


def _texts(values: Any, check: Callable[[Any, str], str], what: str) -> list[str]:
    if not isinstance(values, list):
        raise TypeError(f"{what} stands in no list")
    return [check(value, what) for value in values]


def _array(path: Path, dtype: type) -> np.ndarray:
    array = np.load(regular_file(path, "the file"), mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype != dtype:
        raise ValueError(f"{path.name} is no list of {dtype.__name__}")
    return array


def is_index(folder: Path) -> bool:
    """Whether this is a whole or half-written index, which may be removed; other folders and links may not."""
    if folder.is_symlink() or not folder.is_dir() or not re.fullmatch(r"[0-9a-f]{16}|\.[0-9a-f]+-\w+", folder.name):
        return False
    names = re.compile(rf"index\.json|.*-({'|'.join(ARRAYS)})\.npy")
    return all(names.fullmatch(path.name) and path.is_file() for path in folder.iterdir())


def file_lock(path: Path) -> FileLock:
    """A lock beside the data. ValueError for a link, through which any file could be emptied."""
    if path.is_symlink():
        raise ValueError(f"the lock {path} is a link: remove it")
    return FileLock(path)


def make_writable(folder: Path) -> bool:
    """Makes the folder if it does not exist. Returns whether it can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK)
    except OSError:
        return False


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to write into; it becomes `path` when the block ends, and is removed when the block fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
