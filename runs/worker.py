"""joblib's worker processes, in which a sweep runs its jobs one after another: they end when the sweep was killed.

joblib itself would let idle workers wait for minutes. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from runs import signals

SWEEP = "PROMPTS_SWEEP"  # environment variable: the id of the sweep's process

_jobs = 0  # that run in this process now
_following = False  # whether a thread watches the sweep's process


@contextmanager
def busy() -> Iterator[None]:
    """A block that runs one job: it is finished even when the sweep is gone, and the next sweep waits for it."""
    global _jobs
    _jobs += 1
    try:
        yield
    finally:
        _jobs -= 1


def follow_sweep() -> None:
    """Lets this process, if it is a worker, end when its sweep was killed: after the job that it runs, without starting the
    others that joblib has given it."""
    global _following
    sweep = int(os.environ.get(SWEEP, os.getpid()))
    if sweep == os.getpid():  # with one job at a time joblib starts no worker
        return
    if os.getppid() != sweep:
        os._exit(1)
    if not _following:
        _following = True
        signals.end_with(sweep, idle=lambda: not _jobs)
