"""Locks between processes: who runs a job, who has which GPU. They end with the processes that hold them."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

GPUS = Path("/tmp/prompts-gpu-locks")  # one for all users of a machine, whatever their TMPDIR; the files in it stay

_held: dict[Path, tuple[FileLock, list[Path]]] = {}  # by folder of a run; with the folders to remove if empty


def lock_file(folder: Path) -> Path:
    """Beside the run's folder, so that the folder can be made and taken away while the lock is held."""
    return folder.parent / f".{folder.name}.lock"


def acquire(folder: Path, title: str) -> None:
    """Makes this process the only one at a run's folder, until it ends or calls `release`.

    A sweep that was killed leaves jobs behind: the next one waits for them, and finds them done. Of several ranks the first
    speaks for all. Processes of all users and machines that see the folder see the lock, if its file system says so (flock).

    Raises:
        ValueError: the lock's file cannot be made.
    """
    folder = folder.resolve()
    if any(os.environ.get(key, "0") != "0" for key in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")) or folder in _held:
        return
    lock, said = FileLock(lock_file(folder)), False
    # shots, method, clip, data and protocol are made for runs alone, those above only where they were not there before
    made = [parent for i, parent in enumerate(folder.parents) if i < 5 or not parent.exists()]
    while not lock.is_locked:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=-1 if said else 0)
        except Timeout:
            print(f"waiting for another process that runs {title}", flush=True)
            said = True
        except FileNotFoundError:
            continue  # another run, which was refused, has just taken away the folders that it had made
        except OSError as error:
            _remove_empty(made)
            raise ValueError(
                f"the lock of this run, {lock_file(folder)}, cannot be made ({error.strerror}): choose another output=FOLDER."
            ) from error
    _held[folder] = lock, made


def release(folder: Path) -> None:
    """Gives the lock back and leaves nothing of it: folders that only it needed go with it."""
    folder = folder.resolve()
    if folder not in _held:
        return
    lock, made = _held.pop(folder)
    with suppress(OSError):  # while it is held: who waits for this file sees that it is gone and makes a new one
        lock_file(folder).unlink()
    lock.release()
    _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):  # the first that is not empty
        for folder in folders:
            folder.rmdir()


def abandon() -> None:
    """Removes the files of all locks of this process, which ends at once and thereby gives them back."""
    for folder, (_, made) in _held.items():
        with suppress(OSError):
            lock_file(folder).unlink()
        _remove_empty(made)


@contextmanager
def held(folder: Path, title: str) -> Iterator[None]:
    acquire(folder, title)
    try:
        yield
    finally:
        release(folder)


# ---- GPUs


def take(name: str) -> int | None:
    """The open file of a GPU's lock, which a child process may inherit (`pass_fds`) and `os.close` gives back; None if it is
    taken, or if no lock can be had: then nobody is kept from the GPU."""
    try:
        file = _open_for_all(re.sub(r"[^A-Za-z0-9.-]", "_", name)[:100])
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _open_for_all(name: str) -> int:
    """A file in `GPUS` that every user may open, neither the folder nor the file being a link."""
    with suppress(FileExistsError):
        GPUS.mkdir()
        GPUS.chmod(0o1777)
    folder = os.open(GPUS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with suppress(FileExistsError):
            file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder)
            os.fchmod(file, 0o666)
            return file
        # without O_CREAT: Linux refuses to create what another user already made in such a folder
        return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
