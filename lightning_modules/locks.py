"""Locks between the processes of a machine: who runs a job, who has which GPU. They end with the processes that hold them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from pathlib import Path

_held: dict[Path, int] = {}


def _path(name: str | Path) -> Path:
    folder = Path(tempfile.gettempdir(), f"prompts-locks-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / hashlib.sha256(str(name).encode()).hexdigest()[:16]


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def take(name: str) -> int | None:
    """The open file of a lock that a child process may inherit (`pass_fds`) and that `os.close` gives back; None if taken."""
    file = _open(_path(name))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def wait_for(folder: Path, title: str) -> None:
    """Makes this process the only one of the machine at a run's folder, until it ends or calls `leave`.

    A sweep that was killed leaves jobs behind: the next one waits for them, and finds them done. Of several ranks the first
    speaks for all.
    """
    if any(os.environ.get(key, "0") != "0" for key in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")):
        return
    path = _path(folder.resolve())
    if path in _held:
        return
    file = _open(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process that runs {title}", flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
    _held[path] = file


def leave(folder: Path) -> None:
    if (file := _held.pop(_path(folder.resolve()), None)) is not None:
        os.close(file)
