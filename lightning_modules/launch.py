"""The entry point's edge: exit statuses, signals, one sentence for a user's mistake. Imports neither torch nor lightning."""

from __future__ import annotations

import difflib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from lightning_modules import ranks, signals, sweep

BRIEF = "PROMPTS_BRIEF_ERRORS"  # environment of jobs and ranks: HYDRA_FULL_ERROR was set here and not by the user


_error: list[BaseException] = []


def keeping_error(call: Callable[..., Any], *args: Any) -> None:
    """Calls, and keeps an exception for `guarded`: Hydra would add lines of its own to what it sees pass."""
    try:
        call(*args)
    except BaseException as error:
        _error.append(error)


def guarded(main: Callable[[], Any]) -> int:
    """Runs a Hydra main; the exit status. A user's mistake becomes one message; HYDRA_FULL_ERROR=1 shows tracebacks."""
    full = os.environ.get("HYDRA_FULL_ERROR") == "1" and BRIEF not in os.environ
    if not full:
        os.environ |= {"HYDRA_FULL_ERROR": "1", BRIEF: "1"}  # let errors come through: they are shown here
    is_sweep = bool({"-m", "--multirun"} & set(sys.argv))
    handlers, status, stopped = signals.install(), 0, None  # in a sweep, launchers end their jobs after an interruption
    if not ranks.is_first() and ranks.FIRST in os.environ:
        signals.end_with(int(os.environ[ranks.FIRST]))
    try:
        main()
        if _error:
            raise _error.pop()
    except sweep.JobFailed:
        status = 1
    except signals.Interrupted as error:
        status, stopped = error.status, str(error)
    except KeyboardInterrupt:  # a launcher's worker passes on what its job was asked
        stopped = signals.Interrupted(signals.asked() or signal.SIGINT)
        status, stopped = stopped.status, str(stopped)
    except Exception as error:
        status = 1
        message = None if full else told(error)
        if message is None:
            traceback.print_exc()
        else:
            print(f"error: {message}", file=sys.stderr)
    finally:
        signals.hold()  # what was done stands: only a second signal still hurries the end
        ranks.join()
        signals.restore(handlers)
        if signal.getsignal(signal.SIGTERM) is not signals.answer:  # not run.py, which has nothing left to do
            signals.release()
        if not full:
            del os.environ["HYDRA_FULL_ERROR"], os.environ[BRIEF]
    text = sweep.ending(interrupted=stopped is not None) if is_sweep else ""
    if text:
        status = status or 1
    if (text := text or stopped) and ranks.is_first():  # the first rank speaks for all
        print(text, file=sys.stderr, flush=True)
    return status


def told(error: BaseException) -> str | None:
    """The message of a mistake that we or Hydra name, without what frameworks put around it; None for a bug."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r} as a key and its value: {text.splitlines()[0]}"
    if isinstance(error, HydraException | OmegaConfBaseException):
        cause = error.__cause__ or error
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.parent_node is not None:
            return unknown_key(cause)
        text += f"\n{cause}" if isinstance(error.__cause__, OmegaConfBaseException) else ""
        options = text.split("\nConfig search path:")[0].splitlines()
        return "\n".join(line for line in options if not line.startswith("\t_"))  # _base.yaml and the like are parts
    if isinstance(error, RuntimeError) and "by peer" in text:
        return "another rank ended; the cause is in its message"
    if not isinstance(error, ValueError):
        return None
    if text == "No trials are completed yet.":  # Optuna's
        return "no trial of the search ended well; the reasons stand above."
    if "Original Traceback" in text:  # from a worker process of a loader
        return text.splitlines()[-1].removeprefix("ValueError: ")
    # Ours if a line of this project says `raise`; any other ValueError is a bug, whose traceback is wanted.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    path = Path(frame.filename)
    ours = path.is_relative_to(Path(__file__).parents[1]) and "site-packages" not in path.parts
    return text if ours and (frame.line or "").startswith("raise ") else None


def unknown_key(error: ConfigKeyError | ConfigAttributeError) -> str:
    known = sorted(str(key) for key in error.parent_node if key != "hydra")
    close = difflib.get_close_matches(str(error.key), known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"there is no key {error.full_key!r}.{hint} Keys here: {', '.join(known)}. (+{error.full_key}=... adds one.)"
