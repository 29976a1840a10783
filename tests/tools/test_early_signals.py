"""Ctrl-C while a tool still imports its packages is one sentence."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toys import ROOT

TERM = 1 << (signal.SIGTERM - 1)


def handles_term(pid):
    """Whether the process has a handler for SIGTERM, as Python itself has none."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return bool(TERM & int(next(line for line in lines if line.startswith("SigCgt")).split()[1], 16))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the handlers of a process from /proc")
def test_a_tool_that_still_imports_ends_with_one_sentence():
    for tool in ("predict", "export", "share", "convert"):
        line = [sys.executable, "-X", "importtime", "-m", f"tools.{tool}", "nowhere"]
        with subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            end = time.monotonic() + 60
            while not handles_term(process.pid) and time.monotonic() < end:
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            errors = process.communicate()[1].splitlines()
        said = [text for text in errors if not text.startswith("import time:")]
        assert said == ["Stopped by SIGINT; the same command starts over."], tool
        assert process.returncode == 130
        assert not any(text.endswith("tools.classifier") for text in errors)  # nothing had started
