"""Locks between processes: one process per run's folder, one job per GPU. A lock ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

GPUS = Path("/tmp/prompts-gpu-locks")  # shared by all users of a machine, whatever their TMPDIR; its files are not removed

_held: dict[Path, tuple[FileLock, list[Path]]] = {}  # by folder of a run; with the folders to remove where they are empty


def lock_file(folder: Path) -> Path:
    """The lock's file: beside the run's folder, so that the folder can be made and removed while the lock is held."""
    return folder.parent / f".{folder.name}.lock"


def acquire(folder: Path, title: str) -> None:
    """Makes this process the only one at a run's folder, until it ends or calls `release`.

    Waits while another process holds the lock, and says so once: a sweep that was killed leaves jobs behind, and the next
    sweep finds them done. Of several ranks the first alone holds the lock. Processes of all users and machines that see the
    folder see the lock, if its file system supports flock.

    Raises:
        ValueError: the lock's file cannot be made.
    """
    folder = folder.resolve()
    if any(os.environ.get(key, "0") != "0" for key in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")) or folder in _held:
        return
    lock, announced = FileLock(lock_file(folder)), False
    # the five folders above it (protocol to shots) hold nothing but runs; a folder above those is removed only if made here
    removable = [parent for i, parent in enumerate(folder.parents) if i < 5 or not parent.exists()]
    while not lock.is_locked:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=-1 if announced else 0)
        except Timeout:
            print(f"waiting for another process that runs {title}", flush=True)
            announced = True
        except OSError as error:
            if _was_removed(error):
                continue
            _remove_empty(removable)
            raise ValueError(
                f"the lock of this run, {lock_file(folder)}, cannot be made ({error.strerror}): choose another output=FOLDER."
            ) from error
    _held[folder] = lock, removable


def release(folder: Path) -> None:
    """Releases the lock of a run's folder and removes its file, with the folders that only the lock needed."""
    folder = folder.resolve()
    if folder not in _held:
        return
    lock, removable = _held.pop(folder)
    with suppress(OSError):  # while the lock is held: a process that waits for this file then makes a new one
        lock_file(folder).unlink()
    lock.release()
    _remove_empty(removable)


def _was_removed(error: OSError) -> bool:
    """Whether a folder was missing because another run, which was refused, has just removed the folders that it had made."""
    if isinstance(error, FileExistsError):  # from mkdir: the folder was there, and is_dir then found none
        return not os.path.lexists(error.filename) or os.path.isdir(error.filename)
    return isinstance(error, FileNotFoundError)


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):  # stops at the first that is not empty
        for folder in folders:
            folder.rmdir()


def abandon() -> None:
    """Removes the files of all locks of this process, for a process that ends at once: its end releases the locks."""
    for folder, (_, removable) in _held.items():
        with suppress(OSError):
            lock_file(folder).unlink()
        _remove_empty(removable)


@contextmanager
def held(folder: Path, title: str) -> Iterator[None]:
    """A block in which this process holds the lock of a run's folder: `acquire`, then `release`."""
    acquire(folder, title)
    try:
        yield
    finally:
        release(folder)


# ---- GPUs


def acquire_gpu(name: str) -> int | None:
    """Acquires a GPU's lock without waiting.

    Returns:
        The file descriptor that holds the lock: a child process may inherit it (`pass_fds`), and the lock is released when all
        processes have closed it. None if another process holds the lock, or if its file cannot be made: a machine without
        locks still runs jobs.
    """
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
    """The descriptor of a file in `GPUS` that every user may open. OSError where the folder or the file is a link."""
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
