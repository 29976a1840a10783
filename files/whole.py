"""Writes files that are there whole or not at all."""

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

    Two processes may write the same path at once: each has a temporary file of its own, and the last one to finish stays.
    Makes the folder. OSError when the disk is full or the folder is read-only; the file that was there then stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's files are for their owner alone
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, **options: Any) -> None:
    """Writes json and a final newline, whole or not at all; `options` are `json.dumps`'s."""
    write_text(path, json.dumps(content, **options) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
