"""The processes of the other ranks on this machine: they end with the first rank, and a lost rank is reported.

Imports no torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

FIRST = "PROMPTS_FIRST_RANK"  # environment variable of the other ranks: the id of the first rank's process
PATIENCE = 5.0  # seconds for the main thread to fail by itself after a rank was lost; in a collective it may wait forever

_others: list[subprocess.Popen] = []  # the processes of the other ranks; all stages of a run share them


def is_first() -> bool:
    """Whether this process is the first rank on its machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


class Watch(threading.Thread):
    """A thread of the first rank that ends the process, with a message, after another rank was lost.

    It takes the processes from Lightning's launcher, whose own observer would kill this process without a message.

    Args:
        launcher: of the trainer's strategy; one that starts no processes has no `procs`.
        give_up: cleans up before this thread ends the process, whose main thread waits for a rank that is gone; returns what
            the same command does next.
    """

    def __init__(self, launcher: Any, give_up: Callable[[], str]) -> None:
        super().__init__(daemon=True, name="rank-watch")
        self.launcher, self.give_up, self.over = launcher, give_up, threading.Event()
        if is_first():
            os.environ[FIRST] = str(os.getpid())

    def run(self) -> None:
        """Checks ten times a second, until `end`."""
        since = None
        while not self.over.wait(0.1):
            self.take_over()
            if since is None and (loss := lost()):
                since = time.monotonic(), loss
            if since and time.monotonic() - since[0] > PATIENCE:
                kill()
                print(f"error: {since[1]}; {self.give_up()}.", file=sys.stderr, flush=True)
                os._exit(1)

    def take_over(self) -> None:
        """Moves the processes from the launcher's list to ours."""
        started = getattr(self.launcher, "procs", [])
        while started:  # Lightning's observer watches the processes in its list
            _others.append(started.pop(0))

    def end(self) -> None:
        """Ends the thread; the ranks go on."""
        self.over.set()
        self.join()
        self.take_over()


def lost(seconds: float = 0.0) -> str:
    """Which rank has ended by a signal or with an error, in words; "" while none has. Waits up to `seconds` for one."""
    end = time.monotonic() + seconds
    while True:
        for rank, process in enumerate(_others, start=1):
            if status := process.poll():
                return f"rank {rank} {ending_in_words(status)}"
        if not _others or time.monotonic() >= end:
            return ""
        time.sleep(0.05)


def ending_in_words(status: int) -> str:
    """How a process ended, from its non-zero exit status."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}, by hand or for lack of memory"
    return f"was stopped by {signal.Signals(status - 128).name}" if status > 128 else f"ended with status {status}"


def join(seconds: float = 30.0) -> None:
    """Waits up to `seconds` for the other ranks, which have nothing left to do, then ends them."""
    end = time.monotonic() + seconds
    while _others and time.monotonic() < end and any(process.poll() is None for process in _others):
        time.sleep(0.02)
    kill()


def kill() -> None:
    """Ends the other ranks and waits until they are gone."""
    for process in _others:
        process.kill()
    for process in _others:
        process.wait()
    _others.clear()
