"""Signals that come early, twice, or to a part of a run."""

import os
import signal
import subprocess
import sys
import time

from disturbed import DOOMED, RANKS, STATUS, log_of, outcome_of, run_disturbed
from forked import ROOT, alive, none_alive


def test_a_loader_whose_worker_is_killed(forks, undisturbed, tmp_path):
    overrides = [*DOOMED, "save_every=0"]
    whole = undisturbed(*overrides)
    process = forks.start(tmp_path, *overrides, "workers=1", DOOM_IMAGE="train/2:6:SIGKILL:0")
    assert forks.wait(process) == 1
    none_alive(process)
    assert "killed" in log_of(tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("*.lock"))
    assert forks.run(tmp_path, *overrides) == 0, log_of(tmp_path)
    assert outcome_of(tmp_path / "outputs") == whole


def test_a_second_signal_ends_the_run_at_once(forks, undisturbed, tmp_path):
    overrides = [*DOOMED, "save_every=0"]
    whole = undisturbed(*overrides)

    def paused():
        process = forks.start(tmp_path, *overrides, DOOM_IMAGE="train/3:3:PAUSE:0")
        while not (tmp_path / "paused").exists():
            time.sleep(0.02)
        (tmp_path / "paused").unlink()
        os.kill(process, signal.SIGINT)
        return process

    process = paused()
    os.kill(process, signal.SIGINT)  # together they are one, as a terminal and a sweep send them
    time.sleep(1.2)
    assert alive(process)  # in training it waits for the end of the step
    began = time.monotonic()
    os.kill(process, signal.SIGINT)
    assert forks.wait(process) == -signal.SIGINT
    assert time.monotonic() - began < 10
    assert forks.run(tmp_path, *overrides) == 0
    assert outcome_of(tmp_path / "outputs") == whole


def test_ctrl_c_before_anything_is_imported(tmp_path):
    """Half a second in which a signal used to end in a traceback, or in nothing."""
    code = "import os, sys; os.kill(os.getpid(), int(sys.argv[1]))"
    (tmp_path / "hydra.py").write_text(code)  # the first of run.py's imports that takes a while
    for signal_name in ("SIGTERM", "SIGINT"):
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        run = [sys.executable, str(ROOT / "run.py"), str(int(getattr(signal, signal_name)))]
        ended = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ended.returncode == STATUS[signal_name]
        assert ended.stderr == f"Stopped by {signal_name}; the same command starts over.\n"


def test_ranks_that_are_stopped_or_killed(forks, undisturbed, tmp_path):
    whole = undisturbed(*RANKS)
    assert outcome_of(tmp_path) == {}
    run_disturbed(forks, tmp_path, *RANKS, signal_name="SIGTERM", DOOM="2:SIGTERM:0:20")  # in training: saved
    process = forks.start(tmp_path, *RANKS, DOOM="2:SIGKILL:1:20")
    assert forks.wait(process) == 1
    none_alive(process)
    text = log_of(tmp_path)
    assert "Traceback" not in text
    assert "error: rank 1 was killed by SIGKILL, by hand or for lack of memory; the same command resumes from" in text
    run_disturbed(forks, tmp_path, *RANKS, signal_name="SIGINT", DOOM_IMAGE="test/2:2:SIGINT:0")
    run_disturbed(forks, tmp_path, *RANKS, signal_name="SIGKILL", DOOM_IMAGE="test/2:4:SIGKILL:0")  # the others end with it
    assert forks.run(tmp_path, *RANKS) == 0, log_of(tmp_path)
    assert "resuming from" in log_of(tmp_path)
    assert outcome_of(tmp_path / "outputs") == whole
