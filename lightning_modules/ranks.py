"""The processes of the other ranks on this machine: none outlives the first, and the loss of one is told. Imports no torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

FIRST = "PROMPTS_FIRST_RANK"  # environment of the other ranks: the process that started them
PATIENCE = 5.0  # seconds that this rank has to find out by itself that another is gone; a collective may wait for ever

_others: list[subprocess.Popen] = []  # of all stages of a method: they are started once


def is_first() -> bool:
    return os.environ.get("LOCAL_RANK", "0") == "0"


class Watch(threading.Thread):
    """Takes the other ranks over from Lightning's launcher, whose own observer would kill this process without a word.

    Args:
        launcher: of the trainer's strategy; one that starts no processes has no `procs`.
        abandon: tidies up before this process is ended from here, where its main thread waits for a rank that is gone.
    """

    def __init__(self, launcher: Any, abandon: Callable[[], None]) -> None:
        super().__init__(daemon=True, name="rank-watch")
        self.launcher, self.abandon, self.over = launcher, abandon, threading.Event()
        if is_first():
            os.environ[FIRST] = str(os.getpid())

    def run(self) -> None:
        since = None
        while not self.over.wait(0.1):
            self.take_over()
            since = (since or time.monotonic()) if lost() else None
            if since and time.monotonic() - since > PATIENCE:
                print(f"error: {lost()}; the same command goes on.", file=sys.stderr, flush=True)
                kill()
                self.abandon()
                os._exit(1)

    def take_over(self) -> None:
        started = getattr(self.launcher, "procs", [])
        while started:  # emptied: what is left in it, Lightning's observer watches
            _others.append(started.pop(0))

    def end(self) -> None:
        self.over.set()
        self.join()
        self.take_over()


def lost(seconds: float = 0.0) -> str:
    """Says which rank was ended by a signal, or with an error; "" while all are well. Waits for one so long."""
    end = time.monotonic() + seconds
    while True:
        for rank, process in enumerate(_others, start=1):
            if status := process.poll():
                how = f"was killed ({signal.Signals(-status).name})" if status < 0 else f"ended with status {status}"
                return f"rank {rank} {how}"
        if time.monotonic() >= end:
            return ""
        time.sleep(0.05)


def kill(processes: Sequence[subprocess.Popen] = _others) -> None:
    """Ends the other ranks and waits until they are gone."""
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
