"""joblib's worker processes, in which a sweep runs its jobs one after another: they end after the sweep was killed.

Without this, idle workers would wait for minutes. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from runs import signals

SWEEP = "PROMPTS_SWEEP"  # environment variable: the id of the sweep's process

_jobs = 0  # number of jobs running in this process
_following = False  # whether a thread watches the sweep's process


@contextmanager
def busy() -> Iterator[None]:
    """A block that runs one job. The job is finished even after the sweep was killed; the next sweep waits for it."""
    global _jobs
    _jobs += 1
    try:
        yield
    finally:
        _jobs -= 1


def follow_sweep() -> None:
    """Makes this process, if it is a worker, end after its sweep was killed: when its present job is done, and without starting
    the next jobs that joblib has given it."""
    global _following
    sweep = int(os.environ.get(SWEEP, os.getpid()))
    if sweep == os.getpid():  # with one job at a time joblib starts no worker
        return
    if os.getppid() != sweep:
        os._exit(1)
    if not _following:
        _following = True
        signals.end_with(sweep, idle=lambda: not _jobs)
