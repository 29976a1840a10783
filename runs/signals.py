"""SIGTERM and SIGINT (Ctrl-C): a process ends cleanly, with one sentence and status 143 or 130, whatever it is doing.

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

# A terminal sends Ctrl-C to every process of a sweep, and the sweep passes it on: signals this close together count as one.
SAME = 1.0  # seconds

_asked: tuple[int, float] | None = None  # the first signal, and when it came
_held = 0  # how many blocks delay the answer
_process = os.getpid()  # the process that installed the handlers
_raising = False  # False until there is a caller that catches `Interrupted`


class Interrupted(BaseException):
    """A signal asked the process to stop. Not an `Exception`, so that no error handler catches it by mistake.

    Args:
        number: the signal; by default the one that this process received, or SIGTERM where another rank received it.
        where, then: complete the message: "Stopped by SIGTERM in epoch 3; the same command starts over."
    """

    def __init__(self, number: int | None = None, where: str = "", then: str = "the same command starts over") -> None:
        super().__init__()
        self.number = number or (_asked[0] if _asked else signal.SIGTERM)  # unknown where another rank received the signal
        self.where, self.then = where, then

    @property
    def status(self) -> int:
        """The exit status, as shells report a process that ended by this signal."""
        return 128 + self.number

    def __str__(self) -> str:
        where = f" {self.where}" if self.where else ""
        return f"Stopped by {signal.Signals(self.number).name}{where}; {self.then}."


def asked() -> int | None:
    """The signal that asked this process to stop, if one did."""
    return _asked[0] if _asked else None


def note(number: int) -> None:
    """Records a signal that another handler has handled."""
    global _asked
    _asked = _asked or (number, time.monotonic())


def waited() -> float:
    """Seconds since the signal came; 0 without one."""
    return time.monotonic() - _asked[1] if _asked else 0.0


def install(raising: bool = True) -> dict[int, Any]:
    """Handles both signals from now on. Does nothing outside the main thread.

    A signal that is ignored (`nohup`, a job in the background of a script) stays ignored.

    Args:
        raising: raise `Interrupted` where the signal arrives, or at the end of a `held` block; otherwise print the message and
            end the process there.

    Returns:
        The handlers that were installed before, by signal, for `restore`.
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
    """Installs the handlers that `install` returned."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def answer(number: int, frame: Any) -> None:
    """The handler of both signals, as `signal.signal` wants it."""
    global _asked
    if os.getpid() != _process:  # in a data loader's worker, forked from the run: Ctrl-C is for the run alone
        if number != signal.SIGINT:
            _end(number)
    elif _asked is None:
        _asked = number, time.monotonic()
        if not _raising:
            sys.stderr.write(f"{Interrupted()}\n")
            sys.stderr.flush()
            os._exit(Interrupted().status)
        check()
    elif waited() > SAME:  # a second Ctrl-C ends the process at once
        _end(number)


def _end(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def check() -> None:
    """Raises `Interrupted` if a signal came whose answer was delayed, or that a library swallowed."""
    if _asked and not _held:
        raise Interrupted()


def hold() -> None:
    """Delays the answer to a signal until as many calls of `release`."""
    global _held
    _held += 1


def release() -> None:
    """Ends one `hold`; the signal is answered by the next `check`."""
    global _held
    _held -= 1


@contextmanager
def held() -> Iterator[None]:
    """A block that a signal does not interrupt: `Interrupted` is raised at its end."""
    hold()
    try:
        yield
    finally:
        release()
    check()


def end_with(parent: int, idle: Callable[[], bool] = lambda: True) -> None:
    """Ends this process, without a message, within half a second after its parent has ended, once `idle` returns true."""

    def watch() -> None:
        while os.getppid() == parent or not idle():
            time.sleep(0.25)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
