"""Reads files that other people may have made, as plain data: bounded in size and depth, typed, and never as a path that
leaves its root.

Every function raises `ValueError` with one sentence that names the file, what is wrong in it, and where.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_JSON_BYTES = 512 * 2**20  # the largest published split json (SUN397) is 7 MiB; the result of ImageNet-21K is 2 MiB
MAX_VALUES = (
    20_000_000  # of a JSON file, each of which takes up to 120 bytes of memory; ImageNet's list of images has 5 million
)
MAX_DEPTH = 64  # of nested lists and objects; ours have at most 8
MAX_CLASSES = 1_000_000  # labels lie below: ImageNet-21K has 21,841
MAX_TEXT = 10_000  # characters of a class name, a path, a sentence
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # a terminal obeys them, or no UTF-8 text has them


def regular_file(path: str | Path, what: str) -> Path:
    """The path, if a regular file is there: reading a named pipe or a device would wait for ever or never end."""
    path = Path(path)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ValueError(f"{what} {path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise ValueError(f"{what} {path} is {kind}, not a file.")
    return path


def read_bytes(path: str | Path, what: str, most: int = MAX_JSON_BYTES) -> bytes:
    """The content of a regular file of at most `most` bytes."""
    path = regular_file(path, what)
    try:
        with open(path, "rb") as file:  # the size is checked first, as read(most) would allocate that much memory
            size = os.fstat(file.fileno()).st_size
            content = file.read() if size <= most else b""
    except OSError as error:
        raise ValueError(f"{what} {path} cannot be read ({error.strerror}).") from error
    if max(size, len(content)) > most:
        raise ValueError(f"{what} {path} is larger than {most / 2**20:.0f} MiB, which no such file is.")
    return content


def read_json(path: str | Path, what: str, most: int = MAX_JSON_BYTES, values: int | None = None) -> Any:
    """Plain data from a UTF-8 JSON file (with or without a byte order mark) of at most `most` bytes and `values` values (None:
    `MAX_VALUES`)."""
    return parse_json(read_bytes(path, what, most), f"{what} {path}", values)


def parse_json(content: str | bytes, what: str, values: int | None = None) -> Any:
    """Plain data from JSON text: finite numbers, at most `MAX_DEPTH` deep, integers of at most 400 digits.

    Duplicate keys are refused: readers differ in which of them counts.
    """
    marks = (b",", b"[", b"{") if isinstance(content, bytes) else (",", "[", "{")
    counted: Any = content
    if sum(counted.count(mark) for mark in marks) > (values := values or MAX_VALUES):  # "{}," takes 24 times its size
        raise ValueError(f"{what} has more than {values:,} values, which no such file has.")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        data = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_duplicates)
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} is not UTF-8 (byte {error.start}).") from error
    except RecursionError as error:
        raise ValueError(f"{what} is nested more than {MAX_DEPTH} levels deep.") from error
    except ValueError as error:  # JSONDecodeError, a refusal of ours, an integer of too many digits
        raise ValueError(f"{what} is not JSON: {error}.") from error
    if too_deep(data):
        raise ValueError(f"{what} is nested more than {MAX_DEPTH} levels deep.")
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise ValueError(f"the key {twice[:80]!r} stands twice in one object")
    return content


def too_deep(data: Any, most: int = MAX_DEPTH) -> bool:
    """Whether lists and mappings are nested more than `most` levels deep."""
    level = [data]
    for _ in range(most + 1):
        level = [child for parent in level for child in children(parent)]
        if not level:
            return False
    return True


def children(data: Any) -> Iterator[Any]:
    """The values directly inside a list or a mapping; nothing for other data."""
    if isinstance(data, dict):
        yield from data.values()
    elif isinstance(data, list):
        yield from data


def is_plain(data: Any) -> bool:
    """Whether the data is null, a boolean, a finite number, a string, or a list or object of such, at most `MAX_DEPTH` deep."""
    if too_deep(data):
        return False
    if isinstance(data, dict):
        return all(isinstance(key, str) and is_plain(value) for key, value in data.items())
    if isinstance(data, list):
        return all(map(is_plain, data))
    return data is None or isinstance(data, str | int) or (isinstance(data, float) and math.isfinite(data))


def text_of(value: Any, what: str, most: int = MAX_TEXT) -> str:
    """The value, if it is text that can be shown: a non-empty string of at most `most` characters, none of them a control
    character (which a terminal would obey)."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is {shown(value)}, not text.")
    if not value.strip():
        raise ValueError(f"{what} is empty.")
    if len(value) > most:
        raise ValueError(f"{what} has {len(value):,} characters, more than {most:,}.")
    if bad := CONTROL.search(value):
        raise ValueError(f"{what} holds the control character {bad[0]!r}.")
    return value


def visible(text: str) -> str:
    """The text on one line; control characters, and characters that no encoding can hold, are replaced by "�"."""
    return "".join("�" if ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 else c for c in text)


def label_of(value: Any, what: str) -> int:
    """The value, if it is a class label: an integer from 0 to `MAX_CLASSES` - 1, neither a boolean nor a float."""
    if type(value) is not int:
        raise ValueError(f"{what} is {shown(value)}, not an integer.")
    if not 0 <= value < MAX_CLASSES:
        raise ValueError(f"{what} is {shown(value)}: labels lie between 0 and {MAX_CLASSES - 1:,}.")
    return value


def path_within(value: Any, what: str) -> str:
    """The value, if it is a POSIX path that stays below the folder it is relative to: not absolute, without ".." and drive."""
    path = text_of(value, what)
    parts = path.replace("\\", "/").split("/")
    if path.startswith(("/", "\\", "~")) or ".." in parts or ":" in parts[0][1:2]:
        raise ValueError(f"{what} is {shown(path)}, which leads out of its folder.")
    return path


def shown(value: Any) -> str:
    """A value for a message, in at most 80 characters: lists and objects by their type alone."""
    text = repr(value) if isinstance(value, str | float | bool | None) else f"{type(value).__name__}"
    if type(value) is int:
        text = str(value) if abs(value) < 10**18 else "an integer of more than 18 digits"
    return text if len(text) <= 80 else f"{text[:77]}..."
