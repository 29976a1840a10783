"""Writes files atomically: a reader sees the whole new file, or the old one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it becomes `path` when the block ends, and is removed when the block fails.

    Two processes may write the same path at once: each has its own temporary file, and the last one to finish wins. Makes the
    folder. OSError, which names `path`, when the disk is full or the folder is read-only; an existing file is then unchanged. A
    process that is killed (SIGKILL) leaves its temporary file: see `remove_temporaries`.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        os.close(handle)
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's files are for their owner alone
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename, error.filename2 = str(path), None  # a failed write does not name its file
        raise


def remove_temporaries(folder: str | Path) -> None:
    """Removes temporary files in this folder, left by killed processes. Call it only while nothing writes there."""
    for temporary in Path(folder).glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes bytes atomically."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, **options: Any) -> None:
    """Writes json and a final newline atomically; `options` are `json.dumps`'s."""
    write_text(path, json.dumps(content, **options) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
