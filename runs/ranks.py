"""The processes of the other ranks on this machine: none outlives the first, and the loss of one is told. Imports no torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
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
        give_up: tidies up before this process is ended from here, where its main thread waits for a rank that is gone; says
            what the same command does next.
    """

    def __init__(self, launcher: Any, give_up: Callable[[], str]) -> None:
        super().__init__(daemon=True, name="rank-watch")
        self.launcher, self.give_up, self.over = launcher, give_up, threading.Event()
        if is_first():
            os.environ[FIRST] = str(os.getpid())

    def run(self) -> None:
        since = None
        while not self.over.wait(0.1):
            self.take_over()
            if since is None and (how := lost()):
                since = time.monotonic(), how
            if since and time.monotonic() - since[0] > PATIENCE:
                kill()
                print(f"error: {since[1]}; {self.give_up()}.", file=sys.stderr, flush=True)
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
    """Which rank was ended by a signal, or with an error that it has told; "" while all are well. Waits so long for one."""
    end = time.monotonic() + seconds
    while True:
        for rank, process in enumerate(_others, start=1):
            if status := process.poll():
                return f"rank {rank} {ended(status)}"
        if not _others or time.monotonic() >= end:
            return ""
        time.sleep(0.05)


def ended(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}, by hand or for lack of memory"
    return f"was stopped by {signal.Signals(status - 128).name}" if status > 128 else f"ended with status {status}"


def join(seconds: float = 30.0) -> None:
    """Waits for the other ranks, which have nothing left to do."""
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
