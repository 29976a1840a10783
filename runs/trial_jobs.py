"""A job of a search's trial: runs as a process of its own unless it is done, reports its figures, and is stopped by a signal.

Imports no torch.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig

from files.untrusted import read_json
from files.whole import write_text
from runs import jobs, search, sweep
from runs.gpus import gpus_of
from runs.journal import add_entry

PATIENCE = 120.0  # seconds that a process which was asked to stop has to save its state before it is killed


class JobOfTrial:
    """A job with the config of a trial, for one seed.

    Args:
        cfg: with Hydra's own.
        folder: for the file of its figures while it runs.
    """

    def __init__(self, script: str, cfg: DictConfig, folder: Path) -> None:
        self.cfg, self.hydra, self.folder = cfg, cfg.hydra, folder
        self.command = sweep.command_of(script, self.hydra)
        self.process: subprocess.Popen | None = None
        self.stack = ExitStack()
        self.started = time.monotonic()
        self.stopped_at: float | None = None
        self.result: dict[str, Any] | None = None
        self.failed = False
        try:
            names = jobs.names_of(self.hydra)
            jobs.complete(cfg, self.hydra)
            self.job = jobs.describe(cfg, names)
        except (ValueError, HydraException):
            self.job = None  # the job's process will print the error
        self.title = self.job.title if self.job else " ".join(self.hydra.overrides.task)

    @property
    def is_running(self) -> bool:
        """Whether it has a process, and not a result that was there already."""
        return self.process is not None

    @property
    def followed(self) -> Path:
        """The file of its figures. Its name follows from the job, so that a later search can read a job that is still running
        after its own search was killed."""
        name = f"{self.job.digest}-seed{self.job.config['seed']}" if self.job else "none"
        return self.folder / f"figures-{name}.json"

    def start(self) -> None:
        """Starts its process, unless its result is there."""
        if self.job and not self.cfg.force and (result := self.job.result()):
            print(f"done already: {self.title} in {self.job.folder} (force=true runs it again)", flush=True)
            self.result = result
            return
        environment = sweep.environment_of(alone=False) | {search.FOLLOWED: str(self.followed.resolve())}
        gpus, locks = self.stack.enter_context(gpus_of(self.hydra, self.cfg, beside=True))
        self.process = subprocess.Popen(self.command, env=environment | gpus, pass_fds=locks)

    def scores(self) -> list[tuple[int, float]]:
        """The main figure on the validation images by epoch, as far as it is known; higher ones are better."""
        if self.result:
            return search.scores_of(self.result["history"], self.result["figure"])
        try:
            content = read_json(self.followed, "the figures of a trial", 2**20)
            mine = self.job and content["digest"] == self.job.digest  # and not of an earlier run that it needs
            return search.scores_of(content["history"], content["figure"]) if mine else []
        except (ValueError, KeyError, TypeError):
            return []

    def stop(self) -> None:
        """Asks its process to stop: it saves its state and ends."""
        if self.process is not None and self.process.poll() is None and self.stopped_at is None:
            self.stopped_at = time.monotonic()
            self.process.send_signal(signal.SIGTERM)

    def has_ended(self) -> bool:
        """Whether its process has ended. Kills a process that was asked to stop `PATIENCE` seconds ago."""
        if self.process is None:
            return True
        if self.stopped_at is not None and time.monotonic() - self.stopped_at > PATIENCE:
            self.process.kill()
        return self.process.poll() is not None

    def wait(self) -> None:
        """Waits until its process has ended."""
        while not self.has_ended():
            time.sleep(0.1)
        self.stack.close()

    def close(self, pruned: bool) -> float | None:
        """Records how it ended, in the sweep's journal too. `pruned`: it was asked to stop, and has not failed.

        Returns:
            The value that the search maximises; None where the job has no result.
        """
        self.stack.close()
        status, ran = 0, self.process is not None
        if self.process is not None:
            status = self.process.returncode
            self.result = self.job.result() if self.job and not status else None
            if pruned and self.result is None and status != 1:  # 143, or killed
                status = 0
                self._note_early_end()
            elif not status and self.result is None:
                print(f"error: {self.title} ended with status 0 and left no result", file=sys.stderr, flush=True)
                status = 1
        value = None
        try:
            value = search.value_of(self.result, self.cfg.get("objective")) if self.result else None
        except ValueError as error:
            print(f"error: {self.title}: {error}", file=sys.stderr, flush=True)
            status = 1
        self.failed = bool(status)
        with suppress(OSError):
            os.unlink(self.followed)
        seconds = {"seconds": time.monotonic() - self.started} if ran else {}
        add_entry(title=self.title, status=status, command=shlex.join(["python", *self.command[1:]]), **seconds)
        return value

    def _note_early_end(self) -> None:
        """Leaves a file beside the state of a job that the search has ended: it was not killed."""
        if self.job and self.job.folder.is_dir():
            with suppress(OSError):
                write_text(self.job.folder / jobs.ENDED_EARLY, "ended early by a search\n")
