"""How long a run takes to its first step, and run.py to its help.

    python -m benchmarks.startup                       # three rounds, about a minute on 2 idle cores
    python -m benchmarks.startup --other ../before     # the same in another checkout, in turns

Seconds of the wall clock and of CPU time (user and system) from the start of the process to the end of its first training step:
CoOp on the default data and CLIP. Medians over the rounds, with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lightning.pytorch import Callback

HERE = Path(__file__).resolve().parent.parent
COMMANDS = {
    "to the first step": ["force=true", "logger=none", "+callbacks.stop._target_=first_step.StopAtFirstStep"],
    "--help": ["--help"],
}


class StopAtFirstStep(Callback):
    """Ends the process after the first batch, with status 0."""

    def on_train_batch_end(self, *_, **__) -> None:
        """Called by Lightning."""
        os._exit(0)


def measure(root: Path, arguments: list[str]) -> tuple[float, float]:
    """Seconds, and CPU seconds, of `run.py` of this checkout with these arguments. ValueError where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "first_step.py").symlink_to(__file__)  # a name of its own, as the other checkout may lack this file
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, str(root)])}
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, str(root / "run.py"), *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    if status:
        raise ValueError(f"run.py of {root} ended with status {os.waitstatus_to_exitcode(status)}: its message is above.")
    return seconds, used.ru_utime + used.ru_stime


def main() -> None:
    """Measures both commands in each checkout, in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, help="another checkout to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    roots = {"this": HERE} | ({"other": options.other.resolve()} if options.other else {})
    for command, arguments in COMMANDS.items():
        found = {name: [] for name in roots}
        for number in range(-1, options.rounds):  # the first round fills the caches
            for name, root in roots.items():
                measured = measure(root, arguments)
                if number >= 0:
                    found[name].append(measured)
        for name, values in found.items():
            wall, cpu = (sorted(column) for column in zip(*values, strict=True))
            texts = [f"{statistics.median(c):.2f} s ({c[0]:.2f} to {c[-1]:.2f})" for c in (wall, cpu)]
            print(f"{command:18} {name:6} {texts[0]}, CPU {texts[1]}", flush=True)


if __name__ == "__main__":
    main()
