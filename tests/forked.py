"""Runs run.py in processes forked from one that has imported everything: a start costs tenths of a second instead of five.

As a script it is that process: it reads orders, one JSON object per line, and answers each with a line. A child runs run.py as
`python run.py ...` would: as __main__, with its own arguments, folder, environment and log. The processes of run.py that it
starts itself, ranks or the jobs of a sweep, can be such children as well (`Popen`).
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
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, ClassVar

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
        line = [str(ROOT / "run.py"), "--config-dir", str(TESTS / "conf"), *overrides]
        log, ranks = str(folder / "log"), int("trainer=ddp_cpu" in overrides)
        return self.start_line(line, folder=str(folder), output=(log, log), environment=environment, spares=ranks)

    def start_line(self, line: list[str], **order: Any) -> int:
        """The process of a script with its arguments. `output`: the files of its stdout and stderr. `spares`: how many of the
        processes of run.py that it starts are forked; what it starts beyond them, or by other means, is a new interpreter.
        """
        return self._ask({"line": line} | order, 300)

    def wait(self, process: int, seconds: float = 300) -> int:
        """Its status, negative where a signal ended it."""
        return self._ask({"wait": process}, seconds)

    def run(self, folder: Path, *overrides: str, **environment: str) -> int:
        return self.wait(self.start(folder, *overrides, **environment))

    def complete(self, line: list[str], folder: Path, spares: int = 0, **environment: str) -> subprocess.CompletedProcess:
        """Runs a script in this folder to its end, as `subprocess.run` does. `environment`: variables besides pytest's."""
        with tempfile.TemporaryDirectory() as kept:
            output = [str(Path(kept, name)) for name in ("stdout", "stderr")]
            order = {"folder": str(folder), "output": output, "environment": environment, "spares": spares}
            status = self.wait(self.start_line(line, **order))
            return subprocess.CompletedProcess(line, status, *(Path(name).read_text() for name in output))

    def close(self) -> None:
        self.server.stdin.write("{}\n")  # an end of its own: another process may still hold the pipe open
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


class Popen(subprocess.Popen):
    """A process of run.py that a forked run starts: forked early from what imported everything, and told later what to run.

    Everything else about it is the standard library's: it is a child with an id, waited for and killed as any other.
    """

    spares: ClassVar[list[tuple[int, int]]] = []  # the ids of children that wait, and where to write what they are to run

    @classmethod
    def prepare(cls, count: int) -> None:
        """Forks so many children, which wait; with their parent they end."""
        for _ in range(count):
            reading, writing = os.pipe()
            if process := os.fork():
                os.close(reading)
                cls.spares.append((process, writing))
                continue
            for _, other in cls.spares:
                os.close(other)
            os.close(writing)
            cls.spares.clear()
            with open(reading) as pipe:
                order = pipe.read()
            if not order:
                os._exit(0)
            run_script(json.loads(order))

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *others):
        ours = isinstance(args, list) and args[:2] == [sys.executable, str(ROOT / "run.py")]
        if not (ours and self.spares) or pass_fds:
            super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *others)
            return
        self.pid, pipe = self.spares.pop(0)
        self._child_created = True
        environment = dict(os.environ if env is None else env)
        ranks = "trainer=ddp_cpu" in args and "LOCAL_RANK" not in environment
        order = {"line": args[1:], "folder": cwd or os.getcwd(), "environment": environment, "spares": int(ranks)}
        with open(pipe, "w") as writer:
            writer.write(json.dumps(order))


def child(order: dict) -> None:
    os.setpgid(0, 0)  # processes that this run leaves behind are recognised by it
    for number in (signal.SIGINT, signal.SIGTERM):  # until run.py answers them, they end the process without a word
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name, number in zip(order["output"], (1, 2), strict=True):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout.reconfigure(line_buffering=True)
    run_script(order | {"environment": os.environ | order["environment"]})


def run_script(order: dict) -> None:
    """Runs a script in this process, which it ends. `environment`: the whole of it."""
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ |= order["environment"]
    Popen.prepare(order["spares"])
    subprocess.Popen = Popen
    if moment := os.environ.get("STRIKE"):
        strike(moment)
    if most := os.environ.get("LARGEST_FILE"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), resource.RLIM_INFINITY))
    sys.argv = order["line"]
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
        if not order:
            os._exit(0)
        if "wait" in order:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        elif not (answer := os.fork()):
            child(order)
        print(answer, flush=True)


if __name__ == "__main__":
    serve()
