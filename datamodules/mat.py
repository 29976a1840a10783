"""MATLAB files (version 5) that anyone may have made: checked before scipy reads them, as scipy trusts the sizes in them."""

from __future__ import annotations

import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any

from datamodules import disk
from files.untrusted import read_bytes

MAX_BYTES = 64 * 2**20  # unpacked; Stanford Cars' annotations, the largest of ours, are 0.4 MiB packed and 13 MiB unpacked
MAX_ENTRIES = 10_000_000  # in all arrays together: scipy makes an object for each claimed entry of a cell or structure
MAX_DEPTH = 16
HEADER, MATRIX, COMPRESSED = 128, 14, 15


def load_mat(path: Path, what: str, key: str) -> Any:
    """The variable `key`, as `scipy.io.loadmat(squeeze_me=True)` gives it. ValueError where it cannot be read."""
    content = read_bytes(disk.require(path, what), what, MAX_BYTES)
    try:
        _look_over(content)
        from scipy.io import loadmat

        return loadmat(io.BytesIO(content), squeeze_me=True)[key]
    except Exception as error:  # scipy raises many types for damaged files
        raise ValueError(f"{what} {path} cannot be read ({error!r}): download it again") from error


def _look_over(content: bytes) -> None:
    if len(content) < HEADER or content[126:128] not in (b"IM", b"MI"):
        raise ValueError("it is no MATLAB file of version 5")
    _elements(content[HEADER:], "<" if content[126:128] == b"IM" else ">", {"bytes": MAX_BYTES, "entries": MAX_ENTRIES}, 0)


def _elements(content: bytes, order: str, left: dict[str, int], depth: int) -> None:
    """Walks data elements; ValueError where they claim more than is there or than is `left`."""
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    position, number = 0, 0
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        if kind >> 16:  # a short element: type, size and at most four bytes of data in eight bytes
            kind, size, start, end = kind & 0xFFFF, kind >> 16, position + 4, position + 8
        else:
            start, end = position + 8, position + 8 + size + (0 if kind == COMPRESSED else -size % 8)
        body = content[start : start + size]
        if len(body) < size:
            raise ValueError("it is cut short")
        if kind == COMPRESSED:
            stream = zlib.decompressobj()
            body = stream.decompress(body, left["bytes"])
            left["bytes"] -= len(body)
            if stream.unconsumed_tail or left["bytes"] <= 0:
                raise ValueError(f"it unpacks to more than {MAX_BYTES // 2**20} MiB")
        if kind in (MATRIX, COMPRESSED):
            _elements(body, order, left, depth + 1)
        elif depth and number == 1:  # inside an array: its flags, then its dimensions
            dims = struct.unpack(f"{order}{size // 4}i", body[: size // 4 * 4])
            left["entries"] -= math.prod(dims)
            if min(dims, default=0) < 0 or left["entries"] < 0:
                raise ValueError(f"its arrays claim more than {MAX_ENTRIES:,} entries")
        position, number = end, number + 1
