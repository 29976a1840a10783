"""A worker process of joblib, in which a sweep runs its jobs one after another: it ends with a sweep that was killed.

Left alone, joblib's idle workers would wait for minutes. Imports neither torch nor lightning.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from runs import signals

SWEEP = "PROMPTS_SWEEP"  # environment: the process of the sweep

_jobs = 0  # under way in this process
_following = False


@contextmanager
def busy() -> Iterator[None]:
    """A job under way: it is finished even when the sweep is gone, and the next sweep waits for it."""
    global _jobs
    _jobs += 1
    try:
        yield
    finally:
        _jobs -= 1


def follow_sweep() -> None:
    """Lets this process, if it is a worker, end when its sweep was killed: after its job where it has one, and without
    starting another, though some may have been handed to it."""
    global _following
    sweep = int(os.environ.get(SWEEP, os.getpid()))
    if sweep == os.getpid():  # with one job at a time joblib starts no worker
        return
    if os.getppid() != sweep:
        os._exit(1)
    if not _following:
        _following = True
        signals.end_with(sweep, idle=lambda: not _jobs)
