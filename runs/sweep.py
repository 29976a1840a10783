"""A sweep: each job as a fresh process on a GPU of its own, what is done and what failed, how long the rest will take.

Imports neither torch nor lightning: a sweep's parent starts in half a second.
"""

from __future__ import annotations

import json
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

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from runs import jobs, keys, signals, worker
from runs.gpus import gpus_of

IN_SWEEP = "PROMPTS_IN_SWEEP"  # environment of a sweep's job: "alone" or "beside others"
JOURNAL = "PROMPTS_SWEEP_JOURNAL"  # environment: the file to which the sweep's jobs add a line when they end


class JobFailed(Exception):
    """A job of a multirun ended with a non-zero status; it has told why."""


def in_multirun() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


def run_fresh(script: str, cfg: DictConfig) -> float | None:
    """Runs this job as its own process unless it is done, and notes how it ended: its objective, for a search."""
    hydra = HydraConfig.get()
    if hydra.launcher._target_.endswith("JoblibLauncher"):
        worker.follow_sweep()
    try:
        names = jobs.names_of(hydra)
        jobs.complete(cfg, hydra)
        job = jobs.describe(cfg, names)
    except (ValueError, HydraException):
        job = None  # the process says what is wrong
    title = job.title if job else " ".join(hydra.overrides.task)
    if job and not cfg.force and (result := job.result()):
        print(f"done already: {title} in {job.folder} (force=true runs it again)", flush=True)
        note(title=title, status=0)
        return objective(result)

    started, command = time.monotonic(), command_of(script, hydra)
    alone = hydra.runtime.choices["hydra/launcher"] == "basic"
    environment = os.environ | {"PYTHONUNBUFFERED": "1", IN_SWEEP: "alone" if alone else "beside others"}
    if environment.get("SLURM_NTASKS") == "1":  # one task starts its ranks itself: Lightning is not to look for one per rank
        environment = {key: value for key, value in environment.items() if not key.startswith("SLURM_")}
    with gpus_of(hydra, cfg) as (own, files), worker.busy():
        process = subprocess.Popen(command, env=environment | own, pass_fds=files)
        with forwarding(process) as asked:
            status = process.wait()
    if asked:
        raise KeyboardInterrupt
    repeat = shlex.join(["python", *command[1:]])
    result = job.result() if job else None
    if not status and not result and not (job and job.cuts):  # a run that is cut short on purpose keeps none
        print(f"error: {title} ended with status 0 and left no result", file=sys.stderr, flush=True)
        status = 1
    note(title=title, status=status, seconds=time.monotonic() - started, command=repeat)
    if status:
        raise JobFailed(f"status {status}: {repeat}")
    return objective(result)


def command_of(script: str, hydra: DictConfig) -> list[str]:
    """What repeats this job, on its own."""
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    options = [arg for folder in folders for arg in ("--config-dir", folder)]
    if hydra.job.config_name != "config":
        options += ["--config-name", hydra.job.config_name]
    searched = [override for override in hydra.overrides.hydra if override.startswith("hydra.searchpath")]
    return [sys.executable, os.path.abspath(script), *options, *searched, *hydra.overrides.task]


def objective(result: dict[str, Any] | None) -> float | None:
    """The best accuracy on the validation images, in percent; None for a run without such an evaluation."""
    history = result["history"] if result else []
    return max((entry["val"]["accuracy"] for entry in history if "val" in entry), default=None)


@contextmanager
def forwarding(process: subprocess.Popen) -> Iterator[list[int]]:
    """Passes SIGTERM and SIGINT on to a process, and ends it if this one is to end; yields a list of the signals that came."""
    asked: list[int] = []

    def forward(signum: int, frame: Any) -> None:
        asked.append(signum)
        signals.note(signum)
        process.send_signal(signum)

    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield asked
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- the sweep as a whole

_watches: list[Watch] = []


class Progress(Callback):
    """Hydra's hook: opens the sweep's journal, and says at its end which trial of a search was best."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.runtime.choices["hydra/sweeper"] == "optuna":
            if config.select != "best_val":  # Hydra swallows other exceptions of its hooks
                raise SystemExit("error: a search is judged by the validation images: add select=best_val.")
            import optuna

            optuna.logging.set_verbosity(optuna.logging.WARNING)
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
        with suppress(HydraException, ValueError):  # what cannot be read, the sweeper refuses
            total, lanes = count_jobs(config.hydra), count_lanes(config.hydra)
            _watches.append(Watch(Path(os.environ[JOURNAL]), total, lanes))
            _watches[-1].start()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        path = Path(config.hydra.sweep.dir, "optimization_results.yaml")
        if config.hydra.runtime.choices["hydra/sweeper"] == "optuna" and path.exists():
            best = OmegaConf.load(path)
            chosen = " ".join(f"{key}={value}" for key, value in best.best_params.items())
            print(f"best of the search: {chosen}: {best.best_value:.2f} % of the validation images   ({path})", flush=True)


def count_jobs(hydra: DictConfig) -> int:
    if "n_trials" in hydra.sweeper:
        return hydra.sweeper.n_trials
    given = [f"{key}={value}" for key, value in (hydra.sweeper.params or {}).items()] + list(hydra.overrides.task)
    return sum(map(len, BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(given), None)))


def count_lanes(hydra: DictConfig) -> int:
    """How many jobs the launcher runs at once."""
    wanted = hydra.launcher.get("n_jobs") or hydra.launcher.get("array_parallelism") or 1
    if "submitit_folder" in hydra.launcher and "array_parallelism" not in hydra.launcher:
        wanted = os.cpu_count()
    return wanted if wanted > 0 else max(1, (os.cpu_count() or 1) + 1 + wanted)  # joblib: -1 is all, -2 all but one


def note(**entry: Any) -> None:
    """One line of the journal; with several machines per job the first speaks for all."""
    if JOURNAL in os.environ and os.environ.get("SLURM_PROCID", "0") == "0":
        with suppress(OSError), open(os.environ[JOURNAL], "a") as file:  # a full disk: the launcher still hears of a failure
            file.write(json.dumps(entry) + "\n")


def entries(journal: Path) -> list[dict[str, Any]]:
    text, found = journal.read_text() if journal.exists() else "", []
    for line in text.splitlines(keepends=True):
        with suppress(json.JSONDecodeError):  # cut short by a full disk
            found += [json.loads(line)] if line.endswith("\n") else []
    return found


class Watch(threading.Thread):
    """Says how far the sweep is whenever a job has ended that was not done before."""

    def __init__(self, journal: Path, total: int, lanes: int) -> None:
        super().__init__(daemon=True)
        self.journal, self.total, self.lanes, self.over = journal, total, lanes, threading.Event()

    def run(self) -> None:
        told, last = 0, False
        while not last:
            last = self.over.wait(0.2)
            ended = entries(self.journal)
            if any("seconds" in entry for entry in ended[told:]):
                print(far(ended, self.total, self.lanes), flush=True)
            told = len(ended)


def far(ended: list[dict[str, Any]], total: int, lanes: int) -> str:
    """A line such as "job 7 of 24 ended, 3 failed, about 12 min left", from the mean duration of those that went well."""
    failed = sum(entry["status"] != 0 for entry in ended)
    seconds = [entry["seconds"] for entry in ended if "seconds" in entry and not entry["status"]]
    text = f"job {len(ended)} of {total} ended" + (f", {failed} failed" if failed else "")
    if seconds and len(ended) < total:
        text += f", about {spoken(sum(seconds) / len(seconds) * (total - len(ended)) / min(lanes, total - len(ended)))} left"
    return text


def spoken(seconds: float) -> str:
    """Two units: "40 s", "3 min 20 s", "5 h 12 min"."""
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def ending(interrupted: bool) -> str:
    """What a sweep says at its end; empty where all is well. Ends the journal."""
    if JOURNAL not in os.environ:
        return ""
    for watch in _watches:
        watch.over.set()
        watch.join()
    journal = Path(os.environ.pop(JOURNAL))
    failed = [f"{entry['command']}    # status {entry['status']}" for entry in entries(journal) if entry["status"]]
    journal.unlink(missing_ok=True)
    with suppress(OSError):  # where nothing ran, nothing stays
        journal.parent.rmdir()
        journal.parent.parent.rmdir()
    lines = [f"\n{len(failed)} job(s) of the sweep failed; to repeat them:", *failed] if failed else []
    return "\n".join(lines + ["the sweep was stopped: the same command does what is missing"] * interrupted)
