"""A sweep: each job is a fresh process with GPUs of its own; a journal says which jobs are done and which failed.

Imports no torch: the process of a sweep starts in half a second.
"""

from __future__ import annotations

import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from runs import jobs, keys, search, signals, worker
from runs.gpus import gpus_of
from runs.journal import JOURNAL, JournalWatch, add_entry, read_entries

SEARCH = "search"  # the sweeper that searches: runs/trials.py
IN_SWEEP = "PROMPTS_IN_SWEEP"  # environment variable of a sweep's job: "alone" or "beside others"


class JobFailed(Exception):
    """A job of a sweep ended with a non-zero status; its process has printed the reason."""


def in_multirun() -> bool:
    """Whether Hydra runs a sweep (-m): the job is then run in a process of its own."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def run_fresh(script: str, cfg: DictConfig) -> float | None:
    """Runs this job as a process of its own, unless it is done, and adds it to the journal.

    Returns:
        The job's objective, for a search.

    Raises:
        JobFailed: its process failed, or left no result.
        KeyboardInterrupt: a signal asked the sweep to stop.
    """
    hydra: Any = HydraConfig.get()
    if hydra.launcher._target_.endswith("JoblibLauncher"):
        worker.follow_sweep()
    try:
        names = jobs.names_of(hydra)
        jobs.complete(cfg, hydra)
        job = jobs.describe(cfg, names)
    except (ValueError, HydraException):
        job = None  # the job's process will print the error
    title = job.title if job else " ".join(hydra.overrides.task)
    command = command_of(script, hydra)
    if job and not cfg.force and (result := job.result()):
        print(f"done already: {title} in {job.folder} (force=true runs it again)", flush=True)
        status, seconds = 0, {}
    else:
        started = time.monotonic()
        status = run_process(command, hydra, cfg)
        seconds = {"seconds": time.monotonic() - started}
        result = job.result() if job else None
        if not status and not result and not (job and job.cuts):  # a debug run (`cuts`) keeps no result
            print(f"error: {title} ended with status 0 and left no result", file=sys.stderr, flush=True)
            status = 1
    value = None
    try:
        value = None if status else judged(hydra, cfg, result)
    except ValueError as error:
        print(f"error: {title}: {error}", file=sys.stderr, flush=True)
        status = 1
    repeat = shlex.join(["python", *command[1:]])
    add_entry(title=title, status=status, command=repeat, **seconds)
    if status:
        raise JobFailed(f"status {status}: {repeat}")
    return value


def run_process(command: list[str], hydra: DictConfig, cfg: DictConfig) -> int:
    """The exit status of a job's process. KeyboardInterrupt where a signal asked the sweep to stop meanwhile."""
    environment = environment_of(alone=hydra.runtime.choices["hydra/launcher"] == "basic")
    with gpus_of(hydra, cfg) as (gpus, locks), worker.busy():
        process = subprocess.Popen(command, env=environment | gpus, pass_fds=locks)
        with forwarding(process) as received:
            status = process.wait()
    if received:
        raise KeyboardInterrupt
    return status


def environment_of(alone: bool) -> dict[str, str]:
    """The environment of a job's process. `alone`: no other job runs meanwhile."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1", IN_SWEEP: "alone" if alone else "beside others"}
    if environment.get("SLURM_NTASKS") == "1":  # it starts its ranks itself: Lightning must not expect a task per rank
        environment = {key: value for key, value in environment.items() if not key.startswith("SLURM_")}
    return environment


def command_of(script: str, hydra: DictConfig) -> list[str]:
    """The command line that runs this job alone."""
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    options = [arg for folder in folders for arg in ("--config-dir", folder)]
    if hydra.job.config_name != "config":
        options += ["--config-name", hydra.job.config_name]
    searched = [override for override in hydra.overrides.hydra if override.startswith("hydra.searchpath")]
    return [sys.executable, os.path.abspath(script), *options, *searched, *hydra.overrides.task]


def judged(hydra: DictConfig, cfg: DictConfig, result: dict[str, Any] | None) -> float | None:
    """The value that a search maximises (`runs.search`); None without a result or a search. ValueError where the result lacks
    it."""
    searched = cfg.get("objective") is not None or hydra.runtime.choices["hydra/sweeper"] == SEARCH
    return search.value_of(result, cfg.get("objective")) if searched and result else None


@contextmanager
def forwarding(process: subprocess.Popen) -> Iterator[list[int]]:
    """A block in which SIGTERM and SIGINT go on to a process, which is ended if the block fails.

    Yields:
        A list of the signals that came.
    """
    received: list[int] = []

    def forward(number: int, frame: Any) -> None:
        received.append(number)
        signals.note(number)
        process.send_signal(number)

    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield received
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        signals.restore(before)  # type: ignore[arg-type]


# ---- the sweep as a whole

_watches: list[JournalWatch] = []  # the watch of this process's sweep, if any


class SweepProgress(Callback):
    """Hydra's hook: opens the journal of a sweep."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Opens the journal. SystemExit, as Hydra swallows exceptions, for a search without an admissible objective and for a
        folder that cannot be written."""
        if config.hydra.runtime.choices["hydra/sweeper"] == SEARCH:
            try:
                search.check_start(config, varied_keys(config.hydra))
            except ValueError as error:
                raise SystemExit(f"error: {error}") from error
        try:
            keys.check_output(keys.resolved(config, "output"))
        except ValueError as error:
            raise SystemExit(f"error: {error}") from error
        folder = Path(config.hydra.sweep.dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, path = tempfile.mkstemp(".jsonl", "jobs-", folder)  # where all machines of a sweep see it
        except OSError as error:
            raise SystemExit(
                f"error: {folder} cannot be written to ({error.strerror}): choose another output=FOLDER."
            ) from error
        os.close(handle)
        os.environ |= {JOURNAL: path, worker.SWEEP: str(os.getpid())}
        if config.hydra.runtime.choices["hydra/sweeper"] == SEARCH:  # a search prints its own progress
            return
        with suppress(HydraException, ValueError):  # the sweeper itself refuses overrides that cannot be read
            watch = JournalWatch(Path(path), count_jobs(config.hydra), count_lanes(config.hydra))
            watch.start()
            _watches.append(watch)


def varied_keys(hydra: DictConfig) -> set[str]:
    """The keys and groups that the sweeper varies. Empty where it will refuse the overrides."""
    try:
        overrides = OverridesParser.create().parse_overrides(overrides_of(hydra))
    except HydraException:
        return set()
    return {override.get_key_element() for override in overrides if override.is_sweep_override()}


def overrides_of(hydra: DictConfig) -> list[str]:
    """The sweeper's own overrides, then those of the command line."""
    return [f"{key}={value}" for key, value in (hydra.sweeper.params or {}).items()] + list(hydra.overrides.task)


def count_jobs(hydra: DictConfig) -> int:
    """How many jobs the sweeper will start. HydraException where it refuses the overrides."""
    values = {}  # by key: the last of several overrides of a key counts
    for override in OverridesParser.create().parse_overrides(overrides_of(hydra)):
        values[override.get_key_element()] = len(list(override.sweep_string_iterator())) if override.is_sweep_override() else 1
    return math.prod(values.values())


def count_lanes(hydra: DictConfig) -> int:
    """How many jobs the launcher runs at once."""
    wanted = hydra.launcher.get("n_jobs") or hydra.launcher.get("array_parallelism") or 1
    if "submitit_folder" in hydra.launcher and "array_parallelism" not in hydra.launcher:
        wanted = os.cpu_count()
    return wanted if wanted > 0 else max(1, (os.cpu_count() or 1) + 1 + wanted)  # joblib: -1 is all, -2 all but one


def ending(interrupted: bool) -> str:
    """Ends the journal and returns the text at the end of a sweep: the commands that repeat failed jobs; "" without any."""
    if JOURNAL not in os.environ:
        return ""
    for watch in _watches:
        watch.end()
    journal = Path(os.environ.pop(JOURNAL))
    failed = [f"{entry['command']}    # status {entry['status']}" for entry in read_entries(journal) if entry["status"]]
    journal.unlink(missing_ok=True)
    with suppress(OSError):  # folders in which nothing was written
        journal.parent.rmdir()
        journal.parent.parent.rmdir()
    lines = [f"\n{len(failed)} job(s) of the sweep failed; to repeat them:", *failed] if failed else []
    return "\n".join(lines + ["the sweep was stopped: the same command does what is missing"] * interrupted)
