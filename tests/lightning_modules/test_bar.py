"""The switch of the progress bar, with our callback and without. What the bar shows: test_progress.py."""

import os
import pty
import subprocess

import pytest
from toys import ROOT, TESTS, command

from runs import arguments, jobs


def composed(*overrides):
    search = f"hydra.searchpath=[file://{TESTS / 'conf'}]"
    return jobs.compose_job([search, "clip=toy", "data=toy", "method=toy", *overrides], ROOT / "conf")


@pytest.mark.parametrize("callbacks", ["default", "none"])
def test_without_a_progress_bar_a_terminal_shows_lines_alone(tmp_path, callbacks):
    overrides = ["clip=toy", "data=toy", "method=toy", "trainer=cpu", "epochs=2", f"callbacks={callbacks}"]
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    line = command(*overrides, "+trainer.enable_progress_bar=false")
    process = subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # the process has closed its side
        pass
    os.close(ours)
    assert process.wait() == 0, shown
    assert b"\x1b" not in shown  # no bar is drawn
    assert b"accuracy" in shown


def bar_of(*overrides):
    cfg, _ = composed("trainer=cpu", *overrides)
    callbacks = list(arguments.make(cfg.callbacks).values())
    return arguments.make(cfg.trainer, callbacks=callbacks, logger=False).progress_bar_callback


def test_the_bar_is_ours_lightnings_or_none():
    assert type(bar_of()).__name__ == "RunProgress"
    assert type(bar_of("+trainer.enable_progress_bar=true")).__name__ == "RunProgress"
    assert bar_of("+trainer.enable_progress_bar=false") is None
    assert bar_of("callbacks=none") is None
    assert type(bar_of("callbacks=none", "+trainer.enable_progress_bar=true")).__name__ == "RichProgressBar"
