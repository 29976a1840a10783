"""SIGTERM and SIGINT (Ctrl-C): a process ends in order, with one sentence and status 143 or 130, whatever it is doing.

Imports only the standard library: `run.py` sets the handlers before anything that takes a while to import.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# A terminal sends Ctrl-C to every process of a sweep, and the sweep passes it on: signals this close together are one.
SAME = 1.0  # seconds

_asked: tuple[int, float] | None = None  # the first signal, and when it came
_held = 0  # how many blocks put the answer off
_process = os.getpid()
_raising = False  # False until there is someone to catch `Interrupted`


class Interrupted(BaseException):
    """A signal asked the process to stop. No `Exception`, so that nothing that handles errors swallows it.

    `where` and `then` complete the sentence: "Stopped by SIGTERM in epoch 3; the same command starts over."
    """

    def __init__(self, number: int | None = None, where: str = "", then: str = "the same command starts over") -> None:
        super().__init__()
        self.number = number or (_asked[0] if _asked else signal.SIGTERM)  # not known where another rank got the signal
        self.where, self.then = where, then

    @property
    def status(self) -> int:
        """As shells report a process that ended by this signal."""
        return 128 + self.number

    def __str__(self) -> str:
        where = f" {self.where}" if self.where else ""
        return f"Stopped by {signal.Signals(self.number).name}{where}; {self.then}."


def asked() -> int | None:
    """The signal that asked this process to stop, if one did."""
    return _asked[0] if _asked else None


def note(number: int) -> None:
    """Keeps a signal that another handler answers."""
    global _asked
    _asked = _asked or (number, time.monotonic())


def waited() -> float:
    """Seconds since the signal came; 0 without one."""
    return time.monotonic() - _asked[1] if _asked else 0.0


def install(raising: bool = True) -> dict[int, Any]:
    """Answers both signals from now on; the handlers that were there before, for `restore`. Only in the main thread.

    A signal that is ignored (`nohup`, a job in the background of a script) stays ignored.

    Args:
        raising: `Interrupted` wherever the signal strikes, or at the end of a `held` block; otherwise the process says its
            sentence and ends there.
    """
    global _asked, _process, _raising
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) != signal.SIG_IGN]
    if all(signal.getsignal(n) is not answer for n in numbers):
        _asked = None
    _process, _raising = os.getpid(), raising
    return {number: signal.signal(number, answer) for number in numbers}


def restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def answer(number: int, frame: Any) -> None:
    """The handler."""
    global _asked
    if os.getpid() != _process:  # in a loader's worker, forked from the run: Ctrl-C is answered by the run alone
        if number != signal.SIGINT:
            _end(number)
    elif _asked is None:
        _asked = number, time.monotonic()
        if not _raising:
            sys.stderr.write(f"{Interrupted()}\n")
            sys.stderr.flush()
            os._exit(Interrupted().status)
        check()
    elif waited() > SAME:  # a second Ctrl-C: at once
        _end(number)


def _end(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def check() -> None:
    """Raises `Interrupted` if a signal came that was put off, or that a library swallowed."""
    if _asked and not _held:
        raise Interrupted()


def hold() -> None:
    """Puts the answer to a signal off, until `release`."""
    global _held
    _held += 1


def release() -> None:
    global _held
    _held -= 1


@contextmanager
def held() -> Iterator[None]:
    """A block that a signal does not cut short: `Interrupted` comes at its end."""
    hold()
    try:
        yield
    finally:
        release()
    check()


def end_with(parent: int, idle: Callable[[], bool] = lambda: True) -> None:
    """Ends this process, without a word, soon after its parent has ended and as soon as it is `idle`."""

    def watch() -> None:
        while os.getppid() == parent or not idle():
            time.sleep(0.25)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
