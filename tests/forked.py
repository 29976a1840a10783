"""Runs run.py in processes forked from one that has imported everything: a start costs tenths of a second instead of five.

As a script it is that process: it reads orders, one JSON object per line, and answers each with a line. A child runs run.py as
`python run.py ...` would: as __main__, with its own arguments, folder, environment and log.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import runpy
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent


def alive(group):
    """The processes of a run, by its process group, that have not ended."""
    results = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, member = (path / "stat").read_text().rsplit(")", 1)[1].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if int(member) == group and state != "Z":
            results.append(path.name)
    return results


def none_alive(group, seconds=10):
    end = time.monotonic() + seconds
    while alive(group):
        assert time.monotonic() < end, f"processes of the run are left: {alive(group)}"
        time.sleep(0.1)


class Forks:
    """Starts runs and waits for them, one at a time."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.server = subprocess.Popen([sys.executable, __file__], env=environment, **pipes)

    def _ask(self, order: dict, seconds: float) -> int:
        self.server.stdin.write(json.dumps(order) + "\n")
        assert select.select([self.server.stdout], [], [], seconds)[0], f"no answer in {seconds} s"
        return int(self.server.stdout.readline())

    def start(self, folder: Path, *overrides: str, **environment: str) -> int:
        """The process of a run in this folder, which writes to `log` there."""
        return self._ask({"folder": str(folder), "overrides": overrides, "environment": environment}, 300)

    def wait(self, process: int, seconds: float = 300) -> int:
        """Its status, negative where a signal ended it."""
        return self._ask({"wait": process}, seconds)

    def run(self, folder: Path, *overrides: str, **environment: str) -> int:
        return self.wait(self.start(folder, *overrides, **environment))

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait(120)


def strike(moment: str) -> None:
    """Sends this process a signal when it renames a file into place: "result.json:before:SIGTERM"."""
    name, when, how = moment.split(":")
    replace = os.replace

    def replaced(source, target, **options):
        here = Path(target).name == name
        if here and when == "before":
            os.kill(os.getpid(), getattr(signal, how))
        replace(source, target, **options)
        if here and when == "after":
            os.kill(os.getpid(), getattr(signal, how))

    os.replace = replaced


def child(order: dict) -> None:
    os.setpgid(0, 0)  # processes that this run leaves behind are recognised by it
    for number in (signal.SIGINT, signal.SIGTERM):  # until run.py answers them, they end the process without a word
        signal.signal(number, signal.SIG_DFL)
    log = os.open(Path(order["folder"], "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for file, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(file, number)
    sys.stdout.reconfigure(line_buffering=True)
    os.chdir(order["folder"])
    os.environ |= order["environment"]
    if moment := os.environ.get("STRIKE"):
        strike(moment)
    if most := os.environ.get("LARGEST_FILE"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), resource.RLIM_INFINITY))
    sys.argv = [str(ROOT / "run.py"), "--config-dir", str(TESTS / "conf"), *order["overrides"]]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status or 0)  # a normal exit of the forked interpreter would take another second


def serve() -> None:
    import matplotlib.pyplot  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import torch
    import toys  # noqa: F401

    import lightning_modules.run_folder  # noqa: F401
    import prompts.dpl  # noqa: F401
    import run  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        elif not (answer := os.fork()):
            child(order)
        print(answer, flush=True)


if __name__ == "__main__":
    serve()
