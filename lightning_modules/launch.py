"""The entry point's edge: each job of a multirun as a fresh process; one sentence for a user's mistake.

Imports neither torch nor lightning: a sweep's parent starts in half a second.
"""

from __future__ import annotations

import difflib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.types import RunMode
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

IN_SWEEP = "PROMPTS_IN_SWEEP"  # environment of a sweep's job: "alone" or "beside others"
FAILURES = "PROMPTS_SWEEP_FAILURES"  # environment: the file to which failed jobs of a sweep add their command


class Interrupted(Exception):
    """A signal asked the run to stop; its state is in last.ckpt."""


class JobFailed(Exception):
    """A job of a multirun ended with a non-zero status; it has told why."""


def in_multirun() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


def run_fresh(script: str) -> None:
    """Runs this job as its own process, forwards signals to it, and notes its command if it fails."""
    hydra = HydraConfig.get()
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    options = [arg for folder in folders for arg in ("--config-dir", folder)]
    searched = [override for override in hydra.overrides.hydra if override.startswith("hydra.searchpath")]
    if hydra.job.config_name != "config":
        options += ["--config-name", hydra.job.config_name]
    command = [sys.executable, os.path.abspath(script), *options, *searched, *hydra.overrides.task]
    alone = hydra.runtime.choices["hydra/launcher"] == "basic"
    environment = {"PYTHONUNBUFFERED": "1", IN_SWEEP: "alone" if alone else "beside others"}
    process = subprocess.Popen(command, env=os.environ | environment)
    with forwarding(process) as asked:
        status = process.wait()
    if asked:
        raise KeyboardInterrupt
    if status:
        if FAILURES in os.environ:
            with open(os.environ[FAILURES], "a") as file:
                file.write(f"{shlex.join(['python', *command[1:]])}    # status {status}\n")
        raise JobFailed(f"status {status}: {shlex.join(command)}")


@contextmanager
def forwarding(process: subprocess.Popen):
    """Passes SIGTERM and SIGINT on to a process; yields a list of those that came."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def forward(signum: int, frame: Any) -> None:
        asked.append(signum)
        process.send_signal(signum)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- the entry point's edge

_error: list[BaseException] = []


def keeping_error(call: Callable[..., Any], *args: Any) -> None:
    """Calls, and keeps an exception for `guarded`: Hydra would add lines of its own to what it sees pass."""
    try:
        call(*args)
    except BaseException as error:
        _error.append(error)


def guarded(main: Callable[[], Any]) -> int:
    """Runs a Hydra main; the exit status. A user's mistake becomes one message; HYDRA_FULL_ERROR=1 shows tracebacks."""
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors come through: they are shown here
    failures = None
    if FAILURES not in os.environ and {"-m", "--multirun"} & set(sys.argv):
        handle, failures = tempfile.mkstemp(prefix="failed-jobs-")
        os.close(handle)
        os.environ[FAILURES] = failures
    status = 0
    try:
        main()
        if _error:
            raise _error.pop()
    except JobFailed:
        status = 1
    except Interrupted as error:
        status = 0 if os.environ.get("LOCAL_RANK", "0") != "0" else 143  # the first rank speaks for all
        print(error if status else "", end="\n" if status else "", flush=True)
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        status = 1
        message = None if full else told(error)
        if message is None:
            traceback.print_exc()
        else:
            print(f"error: {message}", file=sys.stderr)
    finally:
        if not full:
            del os.environ["HYDRA_FULL_ERROR"]
    if failures:
        failed = Path(failures).read_text()
        os.unlink(failures)
        if failed:
            print(
                f"\n{len(failed.splitlines())} job(s) of the sweep failed; to repeat them:\n{failed}", file=sys.stderr, end=""
            )
            status = status or 1
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
