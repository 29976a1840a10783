"""A folder of image features: one safetensors file for each list of images, shared by runs, ranks and processes.

A file is named by the digest of all that its numbers depend on (`runs.feature_key`), written to a temporary file and renamed.
It is used only if it is complete: its size, shape, type, key and checksum are compared when it is opened. Imports no torch.

Shapes: N images, V views of each, d width of a feature.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.numpy import save_file

from files.untrusted import parse_json, regular_file, text_of
from files.whole import remove_temporaries, whole_file

AUTO = "auto"  # the value of features.store that stands for the user's cache
FORMAT = "image features 1"
TENSOR, METADATA, SUFFIX = "features", "__metadata__", ".safetensors"
MOST_HEADER = 2**16  # bytes; ours has a few hundred
DAY = 86_400.0  # seconds
Shape = tuple[int, int, int]


def folder_of(store: str) -> Path:
    """The folder that a value of features.store means; "auto" is in $PROMPT_CACHE or ~/.cache/clip-prompt-features."""
    if store != AUTO:
        return Path(store).expanduser()
    return Path(os.environ.get("PROMPT_CACHE") or Path.home() / ".cache" / "clip-prompt-features") / "images"


@dataclass(frozen=True)
class Entry:
    """Features (N,V,d) float32, memory-mapped from their file. While an entry exists, `file` holds a lock, so that the file is
    not removed to make room."""

    rows: np.ndarray
    file: IO[bytes]


@dataclass(frozen=True)
class StoredFile:
    """A file of the store: its size in bytes, when it was last read (seconds since 1970), and the description stored in it."""

    path: Path
    size: int
    used: float
    about: str


class FeatureStore:
    """The store in a folder, which is made when something is first written.

    Args:
        max_gb: the most that all files may have together, in 10^9 bytes. Those that were not read for the longest time are
            removed first, but none that a process has open.
    """

    def __init__(self, folder: Path, max_gb: float) -> None:
        self.folder, self.most = folder, max_gb * 1e9
        self._said: set[str] = set()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def say(self, text: str) -> None:
        """Prints a sentence, once in this process."""
        if text not in self._said:
            self._said.add(text)
            print(text, flush=True)

    # ---- entries

    def read(self, key: str, shape: Shape) -> Entry | None:
        """The entry of this key. None where there is none, or where its file is damaged or of another shape, with a message."""
        path = self._path(key)
        if not os.path.lexists(path):
            return None
        try:
            with suppress(PermissionError):  # of a store that is shared for reading alone
                os.utime(path)
            return _opened(path, key, shape)
        except FileNotFoundError:  # removed meanwhile
            return None
        except (OSError, ValueError) as error:
            self.say(f"the image features in {path} are not used but computed again: {str(error).rstrip('.')}.")
            return None

    @contextmanager
    def filling(self, key: str, wait: Callable[[], None] | None) -> Iterator[bool]:
        """A block in which no other process fills the same entry, if it yields True.

        Args:
            wait: called about once a second while another process fills it; None: do not wait, and yield False.
        """
        lock = FileLock(self.folder / f".{key}.lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            while not lock.is_locked:
                try:
                    lock.acquire(timeout=1 if wait else 0)
                except Timeout:
                    if wait is None:
                        break
                    wait()
        except OSError as error:
            self._not_kept(error)
            yield True  # without a lock each process computes for itself
            return
        if not lock.is_locked:
            yield False
            return
        try:
            yield True
        finally:
            with suppress(OSError):  # while it is held: a process that waits for this file then makes a new one
                Path(lock.lock_file).unlink()
            lock.release()

    def write(self, key: str, rows: np.ndarray, about: str) -> None:
        """Writes features (N,V,d) with the description `about`. Prints a message where there is no room for them."""
        rows = np.ascontiguousarray(rows, np.float32)
        metadata = {"format": FORMAT, "key": key, "about": about, "sha256": hashlib.sha256(rows.reshape(-1)).hexdigest()}
        try:
            with self._alone():  # nobody else writes now
                remove_temporaries(self.folder)
                if not self._make_room(rows.nbytes + MOST_HEADER, self._path(key)):
                    self.say(f"image features are not kept: {self.folder} may have {self.most / 1e9:g} GB (features.max_gb).")
                    return
                with whole_file(self._path(key)) as temporary:
                    save_file({TENSOR: rows}, temporary, metadata)
        except (OSError, SafetensorError) as error:
            self._not_kept(error)

    def _not_kept(self, error: Exception) -> None:
        why = getattr(error, "strerror", None) or str(error)
        self.say(f"image features are not kept: {self.folder} cannot be written ({why}); features.store=FOLDER names another.")

    def _alone(self) -> FileLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".store.lock")

    # ---- size

    def entries(self) -> list[StoredFile]:
        """All files of the store, the one that was read last first."""
        found = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):
                stat = path.stat()
                found.append(StoredFile(path, stat.st_size, stat.st_mtime, _about(path)))
        return sorted(found, key=lambda entry: -entry.used)

    def _make_room(self, size: int, replaced: Path) -> bool:
        """Removes files until `size` more bytes fit; False where they cannot."""
        entries = [entry for entry in self.entries() if entry.path != replaced]
        total = size + sum(entry.size for entry in entries)
        while total > self.most and size <= self.most and entries:
            oldest = entries.pop()
            total -= oldest.size if removed(oldest.path) else 0
        return total <= self.most

    def clear(self, unused_days: float = 0.0) -> tuple[list[StoredFile], list[StoredFile]]:
        """Removes the files that nobody has read for so many days: (those removed, those that a process has open)."""
        gone, kept = [], []
        if not self.folder.is_dir():
            return gone, kept
        with self._alone():
            remove_temporaries(self.folder)
            for entry in self.entries():
                if time.time() - entry.used >= unused_days * DAY:
                    (gone if removed(entry.path) else kept).append(entry)
        return gone, kept


def removed(path: Path) -> bool:
    """Removes a file of the store unless a process has it open. Returns whether it was removed."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


# ---- files, which anyone may have made


def _opened(path: Path, key: str, shape: Shape) -> Entry:
    """ValueError, which says what is wrong, unless the file is whole and holds finite features of this key and shape."""
    file = open(regular_file(path, "the file"), "rb")  # noqa: SIM115 - stays open as long as its features are used
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        metadata, stored, offset = _header(file)
        if metadata.get("key") != key or stored != shape:
            raise ValueError("they belong to another key or shape")
        rows = np.memmap(file, np.float32, "c", offset, stored)  # a write would stay in this process
        if hashlib.sha256(rows.reshape(-1)).hexdigest() != metadata.get("sha256"):
            raise ValueError("their checksum differs")
        if not np.isfinite(rows).all():
            raise ValueError("they are not finite")
        return Entry(rows, file)
    except BaseException:
        file.close()
        raise


def _header(file: IO[bytes]) -> tuple[dict[str, Any], Shape, int]:
    """The metadata, the features' shape and where they begin. ValueError where the file is not as `write` makes it."""
    length = int.from_bytes(file.read(8), "little")
    if length > MOST_HEADER:
        raise ValueError("the file's header is too long")
    header = parse_json(file.read(length), "the file's header")
    tensor = header.get(TENSOR) if isinstance(header, dict) else None
    if not isinstance(tensor, dict) or set(header) != {TENSOR, METADATA} or not isinstance(header[METADATA], dict):
        raise ValueError("the file holds something else")
    shape, dtype, offsets = (tensor.get(name) for name in ("shape", "dtype", "data_offsets"))
    if not isinstance(shape, list) or len(shape) != 3 or not all(type(n) is int and 0 < n < 2**40 for n in shape):
        raise ValueError("the file has no shape of features")
    size = 4 * math.prod(shape)
    if dtype != "F32" or offsets != [0, size] or header[METADATA].get("format") != FORMAT:
        raise ValueError("the file is of another format")
    if os.fstat(file.fileno()).st_size != 8 + length + size:
        raise ValueError("the file is cut short")
    return header[METADATA], tuple(shape), 8 + length


def _about(path: Path) -> str:
    """The description stored in a file, in printable characters."""
    try:
        with open(regular_file(path, "the file"), "rb") as file:
            metadata, shape, _ = _header(file)
        return text_of(metadata.get("about"), "what it belongs to") + " (" + " x ".join(map(str, shape)) + ")"
    except (OSError, ValueError):
        return "not readable"
