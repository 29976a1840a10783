"""Makes the report again whenever a result is new or has changed, while a sweep goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from runs.jobs import ENDED_EARLY, LAST, RESULT

SWEEP = ".sweep"  # `runs.study` keeps the state of a search in a folder of this name
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
    """The number of runs below the folders that have begun and have no result: they run, or were killed.

    A folder .sweep holds the state of a search, and is no run. Runs that a search has ended early are not counted."""
    begun: set[Path] = set()
    for folder in folders:
        begun |= {file.parent / file.name[1 : -len(".lock")] for file in folder.rglob(LOCKS) if SWEEP not in file.parts}
        begun |= {file.parent for file in folder.rglob(LAST)}
    return sum(_goes_on(run) for run in begun)


def _goes_on(run: Path) -> bool:
    if (run / RESULT).exists() and not (run / LAST).exists():
        return False
    return _changed(run / ENDED_EARLY) is None or (_changed(run / LAST) or 0) > (_changed(run / ENDED_EARLY) or 0)


def _changed(file: Path) -> int | None:
    """The file's time of change in nanoseconds; None where there is none."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None


def watch(folders: list[Path], seconds: float, show: Callable[[], None], wait: Callable[[float], None] = time.sleep) -> None:
    """Calls `show` once there are results, and again after each poll in which a result has changed or the number of
    unfinished runs has. Ends by KeyboardInterrupt.

    Args:
        seconds: between two polls.
        show: may raise ValueError, which is left to the caller; it is called only where there is a result.
        wait: waits for the given number of seconds.
    """
    shown: tuple[Stamps, int] = ({}, 0)
    announced = False
    while True:
        found = stamps(folders)
        seen = (found, unfinished(folders))  # before `show`, so that what changes meanwhile is shown next
        if found and seen != shown:
            show()
            shown = seen
        elif not found and not announced:
            print("no result yet: waiting for the first", flush=True)
            announced = True
        wait(seconds)
