"""Makes the report again whenever a result is new or has changed, while a sweep goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from runs.jobs import LAST, RESULT

LOCKS = ".*.lock"  # `runs.locks.lock_file` puts one beside the folder of a run that has begun

Stamps = dict[Path, tuple[int, int]]


def stamps(folders: Iterable[Path]) -> Stamps:
    """Every result.json below the folders, with its time of change in nanoseconds and its size in bytes."""
    found = {}
    for folder in folders:
        for file in folder.rglob(RESULT):
            try:
                stat = file.stat()
            except OSError:  # removed since it was listed
                continue
            found[file] = (stat.st_mtime_ns, stat.st_size)
    return found


def unfinished(folders: Iterable[Path]) -> int:
    """The number of runs below the folders that have begun and have no result: they run, or were killed."""
    begun: set[Path] = set()
    for folder in folders:
        begun |= {file.parent / file.name[1 : -len(".lock")] for file in folder.rglob(LOCKS)}
        begun |= {file.parent for file in folder.rglob(LAST)}
    return sum(not (run / RESULT).exists() or (run / LAST).exists() for run in begun)


def watch(folders: list[Path], seconds: float, show: Callable[[], None], wait: Callable[[float], None] = time.sleep) -> None:
    """Calls `show` once there are results, and again after each poll that finds a change. Ends by KeyboardInterrupt.

    Args:
        seconds: between two polls.
        show: may raise ValueError, which is left to the caller; it is called only where there is a result.
        wait: waits for the given number of seconds.
    """
    shown: Stamps = {}
    announced = False
    while True:
        if (found := stamps(folders)) and found != shown:
            show()
            shown = found
        elif not found and not announced:
            print("no result yet: waiting for the first", flush=True)
            announced = True
        wait(seconds)
