"""The journal of a sweep: a file to which each job adds a line when it ends, and the progress that is read from it.

Imports no torch.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

JOURNAL = "PROMPTS_SWEEP_JOURNAL"  # environment variable of a sweep's jobs: the path of the journal


def add_entry(**entry: Any) -> None:
    """Adds one line to the journal of the sweep that this process belongs to, if any.

    Args:
        entry: `title` and `status` of the job that ended; `seconds` and `command` where this sweep has run it, and it was not
            done already.
    """
    if JOURNAL in os.environ and os.environ.get("SLURM_PROCID", "0") == "0":  # only the first machine of a job writes
        # on a full disk the launcher still sees a failed job by its exit status
        with suppress(OSError), open(os.environ[JOURNAL], "a") as file:
            file.write(json.dumps(entry) + "\n")


def read_entries(journal: Path) -> list[dict[str, Any]]:
    """The entries of a journal, without lines that a full disk cut short."""
    text, entries = journal.read_text() if journal.exists() else "", []
    for line in text.splitlines(keepends=True):
        with suppress(json.JSONDecodeError):
            entries += [json.loads(line)] if line.endswith("\n") else []
    return entries


class JournalWatch(threading.Thread):
    """Prints the progress of a sweep whenever a job has ended that was not done before.

    Args:
        total: number of jobs of the sweep.
        lanes: how many of them run at once.
    """

    def __init__(self, journal: Path, total: int, lanes: int) -> None:
        super().__init__(daemon=True)
        self.journal, self.total, self.lanes, self.over = journal, total, lanes, threading.Event()

    def run(self) -> None:
        """Reads the journal five times a second, until `end`."""
        count, last = 0, False
        while not last:
            last = self.over.wait(0.2)
            ended = read_entries(self.journal)
            if any("seconds" in entry for entry in ended[count:]):
                print(progress_line(ended, self.total, self.lanes), flush=True)
            count = len(ended)

    def end(self) -> None:
        """Ends the thread after reading the journal a last time."""
        self.over.set()
        self.join()


def progress_line(ended: list[dict[str, Any]], total: int, lanes: int) -> str:
    """A line such as "job 7 of 24 ended, 3 failed, about 12 min left", from the mean duration of the jobs that succeeded."""
    failed = sum(entry["status"] != 0 for entry in ended)
    seconds = [entry["seconds"] for entry in ended if "seconds" in entry and not entry["status"]]
    text = f"job {len(ended)} of {total} ended" + (f", {failed} failed" if failed else "")
    left = total - len(ended)
    if seconds and left > 0:
        text += f", about {duration_text(sum(seconds) / len(seconds) * left / min(lanes, left))} left"
    return text


def duration_text(seconds: float) -> str:
    """A duration in at most two units: "40 s", "3 min 20 s", "5 h 12 min"."""
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"
