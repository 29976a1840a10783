"""The digest of a dataset, a part of the digest that names a run's folder.

It changes with the lists (paths, labels, class names of train, val and test) and with the images, as far as the sizes of a few
hundred of them show. It does not change when the data move, and does not depend on file times, the machine or the run's seed:
runs that differ only in the seed are one configuration.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.items import Items, ItemTable, Source, Splits

SIZES = 256  # images whose sizes are compared: one stat call each, milliseconds even on a network file system
CHUNK = 2**20  # numbers that are converted at a time


def data_digest(source: Source, seed: int) -> str:
    """The digest of what `source.splits(seed)` gives: the source's own (`digest(seed)`), or one of its lists.

    ValueError, in the sentence of a run, when the data are not there.
    """
    digest = getattr(source, "digest", None)
    if not callable(getattr(source, "splits", None)):
        raise ValueError(
            f"data.source makes a {type(source).__name__}, which is no source of images: name a class that has `splits`."
        )
    return digest(seed) if digest else lists_digest(source.splits(seed))


def lists_digest(splits: Splits, *others: Any) -> str:
    """A digest of the lists, and of `others`, which json must be able to represent."""
    lists = [_rows(items) for items in (splits.train, splits.val, splits.test)]
    return digest_of(*lists, sorted(splits.fixed), *others)


def _rows(items: Items) -> Sequence:
    if isinstance(items, ItemTable):
        return [items.summary(), items.names, [items[i].path for i in spread_positions(len(items))]]
    return items


def digest_of(*parts: Any) -> str:
    """64 hexadecimal digits for plain data; what json does not know (numpy's integers) counts as its text."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def arrays_digest(holder: Any, names: Mapping[str, type]) -> str:
    """A digest of those arrays of `holder`, whatever type they have been read or built as. Half a second per gigabyte."""
    digest = hashlib.sha256()
    for name, dtype in names.items():
        array = getattr(holder, name)
        digest.update(f"{name} {len(array)}\n".encode())
        for start in range(0, len(array), CHUNK):
            digest.update(np.ascontiguousarray(array[start : start + CHUNK], np.dtype(dtype).newbyteorder("<")))
    return digest.hexdigest()


def file_sizes(root: Path, paths: Iterable[str]) -> list[int]:
    """Bytes of up to `SIZES` files, evenly spread over the sorted paths below `root`; -1 where a file is not there."""
    ordered = sorted(dict.fromkeys(paths))  # keeps the order, unlike a set, so that sorting sorted lists is fast
    return [file_size(root / ordered[i]) for i in spread_positions(len(ordered))]


def files_digest(root: Path, paths: Iterable[str]) -> str:
    """A digest of the paths below `root`, in order, and of every file's size and time of change, as `make` and `rsync` compare
    files. A missing file changes the digest, too. 50,000 files take a tenth of a second on a local disk."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            stat = os.stat(root / path)
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{path}\0absent\n".encode())
    return digest.hexdigest()


def file_size(path: Path) -> int:
    """Bytes of a file; -1 where it is not there."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def spread_positions(count: int) -> list[int]:
    """At most `SIZES` positions, first and last among them, evenly spread over `count`."""
    if count <= SIZES:
        return list(range(count))
    return [i * (count - 1) // (SIZES - 1) for i in range(SIZES)]
