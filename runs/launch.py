"""Runs an entry point: exit statuses, signals, and one sentence for a user's mistake. Imports no torch."""

from __future__ import annotations

import difflib
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from runs import command_line, keys, ranks, signals, sweep
from runs.arguments import raised_by_us

BRIEF = "PROMPTS_BRIEF_ERRORS"  # environment variable of jobs and ranks: HYDRA_FULL_ERROR was set here and not by the user

# Functions of Hydra (for a run, for a sweep) that read the command line: an error in them is an error of the command line.
READING = ("load_configuration", "split_arguments")
COMPOSING_ERRORS = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)
GROUP_BY_NAME = "give a group one of its options by name, GROUP=NAME; --help lists them"
LONGEST = 800  # characters of a message
NOT_LOGGED = re.compile(r"conditioned on metric `(.+?)` which is not|monitor='(.+?)'\)` could not find the monitored key")
WAYS_OUT = {
    errno.ENOSPC: ". Make room there and start the same command again.",
    errno.EDQUOT: ". Make room there and start the same command again.",
    errno.EACCES: ". Give yourself the rights, or choose another folder (output=PATH, data_root=PATH).",
    errno.EPERM: ". Give yourself the rights, or choose another folder (output=PATH, data_root=PATH).",
    errno.EROFS: ". Choose another folder (output=PATH, data_root=PATH).",
    errno.EMFILE: ". Allow more open files (ulimit -n), or set workers=0.",
}


_error: list[BaseException] = []  # the exception that `store_error` caught, if any


def store_error(call: Callable[..., Any], *args: Any) -> None:
    """Calls `call`, and stores an exception for `exit_status_of`: Hydra would print lines of its own for exceptions."""
    try:
        call(*args)
    except BaseException as error:
        _error.append(error)


def exit_status_of(main: Callable[[], Any]) -> int:
    """Runs a Hydra main and returns its exit status: 0, 1 after an error, 130 or 143 after a signal.

    A user's mistake is printed as one message, a bug as a traceback; HYDRA_FULL_ERROR=1 shows tracebacks of both.
    """
    full = os.environ.get("HYDRA_FULL_ERROR") == "1" and BRIEF not in os.environ
    if not full:
        os.environ |= {"HYDRA_FULL_ERROR": "1", BRIEF: "1"}  # errors pass through Hydra: they are printed here
    is_sweep = bool({"-m", "--multirun"} & set(sys.argv))
    sys.argv[1:] = command_line.quote_paths(sys.argv[1:], is_sweep)
    handlers = signals.install()  # in a sweep, launchers end their jobs after an interruption
    if not ranks.is_first() and ranks.FIRST in os.environ:
        signals.end_with(int(os.environ[ranks.FIRST]))
    try:
        status, stopped = _run(main, full)
    finally:
        signals.hold()  # nothing is left to interrupt; a second signal still ends the process at once
        ranks.join()
        signals.restore(handlers)
        if signal.getsignal(signal.SIGTERM) is not signals.answer:  # not run.py, which has nothing left to do
            signals.release()
        if not full:
            del os.environ["HYDRA_FULL_ERROR"], os.environ[BRIEF]
    text = sweep.ending(interrupted=stopped is not None) if is_sweep else ""
    if text:
        status = status or 1
    if (text := text or stopped) and ranks.is_first():  # only the first rank prints
        print(text, file=sys.stderr, flush=True)
    return status


def _run(main: Callable[[], Any], full: bool) -> tuple[int, str | None]:
    """Runs main and prints its error. Returns the exit status, and the message where a signal stopped it."""
    try:
        main()
        if _error:
            raise _error.pop()
    except sweep.JobFailed:
        return 1, None
    except signals.Interrupted as error:
        return error.status, str(error)
    except KeyboardInterrupt:  # raised by `sweep.run_fresh` in a launcher's worker
        interrupted = signals.Interrupted(signals.asked() or signal.SIGINT)
        return interrupted.status, str(interrupted)
    except Exception as error:
        message = None if full else error_message(error)
        if message is None:
            traceback.print_exc()
        else:
            print(f"error: {message}", file=sys.stderr)
        return 1, None
    return 0, None


def error_message(error: BaseException) -> str | None:
    """One line for a user's mistake, without the text that frameworks add; None for a bug, which needs its traceback."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    message = _hydra_message(error) or _message(error)
    return message and one_line(message)


def _hydra_message(error: BaseException) -> str | None:
    """The message for errors of the command line and of the yaml files; None for others."""
    text = str(error).strip()
    if isinstance(error, HydraException | OmegaConfBaseException) or while_composing(error):
        try:
            keys.check_one_option(sys.argv[1:])
        except ValueError as refusal:
            return str(refusal)
    if isinstance(error, OverrideParseException):
        reasons = [line for line in text.splitlines() if not line.startswith("Error parsing override")]
        why = command_line.needs_quotes(error.override) or (reasons or [text])[0]
        return f"cannot read {error.override!r} as a key and its value: {why}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return unknown_option(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        cause = error.__cause__ or error
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.parent_node is not None:
            return unknown_key(cause)
        if isinstance(error.__cause__, OmegaConfBaseException):
            text += f": {keys.unresolved(error.__cause__)}"
        return text.split("\nConfig search path:")[0].split("\n    full_key:")[0]
    if while_composing(error):
        if "Config group override" not in text:
            return f"this command line cannot be composed: {text}"
        named = command_line.group_without_option(sys.argv[1:])
        return named or f"this command line cannot be composed: {GROUP_BY_NAME}"
    return None


def _message(error: BaseException) -> str | None:
    """The message for errors of a run; None for bugs."""
    text = str(error).strip()
    if monitor := NOT_LOGGED.search(text):  # Lightning's EarlyStopping and ModelCheckpoint
        return (
            f"a callback monitors {monitor[1] or monitor[2]}, which this run does not measure while it trains: add "
            "eval_every=1 (and select=best_val for val/...), and name a figure that it then logs, such as val/accuracy."
        )
    if isinstance(error, RuntimeError) and "by peer" in text:
        return "another rank ended; the cause is in its message"
    if isinstance(error, ValueError | OSError) and "Original Traceback" in text:  # from a worker process of a loader
        return text.splitlines()[-1].removeprefix("ValueError: ")
    if isinstance(error, OSError):
        return system_message(error)
    if "No space left on device" in text:  # torch and safetensors have errors of their own for it
        return one_line(text).rstrip(".") + WAYS_OUT[errno.ENOSPC]
    if not isinstance(error, ValueError):
        return None
    # A ValueError that this project raises is a user's mistake; any other is a bug, which needs its traceback.
    return text if raised_by_us(error) else None


def while_composing(error: BaseException) -> bool:
    """Whether the error arose while Hydra read the command line and the yaml files, before any code of a run."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, COMPOSING_ERRORS) and any(frame.name in READING for frame in frames)


def system_message(error: OSError) -> str:
    """One sentence for an OSError: what was refused, for which file, and what to do."""
    where = ", ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    reason = error.strerror or str(error) or type(error).__name__
    return f"{reason}{f': {where}' if where and where not in reason else ''}{WAYS_OUT.get(error.errno, '')}"


def one_line(text: str) -> str:
    """The text in printable characters, without line breaks; the middle of a very long text is left out."""
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in " ".join(text.split()))
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 3 :]}"


def unknown_option(error: MissingConfigException) -> str:
    """One sentence for `group=NAME` without such a file. Files that only options are made from (_base) are not listed."""
    file = str(error.missing_cfg_file)
    group, _, name = file.partition("/") if ".." in file or "//" in file else file.rpartition("/")
    options = [option for option in error.options or [] if not option.startswith("_")]
    if not group:
        return f"there is no config named {name!r}: leave out --config-name, or give --config-dir=FOLDER where it lies."
    close = difflib.get_close_matches(name, options, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    if not options:  # Hydra does not list them where it was given a list of names
        return f"{group}={name} is not known: --help lists the options of {group}."
    return f"{group}={name} is not known.{hint} Options of {group}: {', '.join(options)}."


def unknown_key(error: ConfigKeyError | ConfigAttributeError) -> str:
    """One sentence for a key that the config does not have, with the keys that it has there."""
    known = sorted(str(key) for key in error.parent_node if key != "hydra")
    close = difflib.get_close_matches(str(error.key), known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"there is no key {error.full_key!r}.{hint} Keys here: {', '.join(known)}. (+{error.full_key}=... adds one.)"
