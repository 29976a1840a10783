"""Disturbed runs, and the checks that they must pass afterwards."""

from __future__ import annotations

import json

import numpy as np
from forked import none_alive
from safetensors.torch import load_file

TOY = ["clip=toy", "data=toy", "optim.lr=0.2", "shots=4", "batch_size=6", "epochs=3", "eval_batch_size=5", "trainer=cpu"]
DOOMED = [*TOY, "method=doomed"]
DPL = [
    *TOY, "method=dpl", "epochs=2", "earlier.epochs=2", "earlier.method.lengths=[0,2]", "earlier.method.alpha_lr=0.1",
    "earlier.data.alternating_batch_size=6",
]  # fmt: skip
PROBE = [*TOY, "method=linear_probe"]
RANKS = [*TOY[:-1], "method=doomed", "trainer=ddp_cpu"]
STATUS = {"SIGTERM": 143, "SIGINT": 130, "SIGKILL": -9}  # of a run that this signal ends


def outcome_of(folder):
    """The content of the finished runs below a folder without times, by the file's path."""
    moments = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "result.json":
            result = json.loads(path.read_text())
            moments[name] = {key: value for key, value in result.items() if key not in ("seconds", "peak_memory", "config")}
        elif path.suffix == ".safetensors":
            moments[name] = {key: tensor.numpy().tobytes() for key, tensor in load_file(path).items()}
        elif path.suffix == ".npz":
            moments[name] = {key: array.tobytes() for key, array in np.load(path).items()}
        elif path.is_file() and not path.name.startswith("metrics"):
            moments[name] = path.read_bytes()
    return moments


def log_of(folder):
    log = folder / "log"
    text = log.read_text() if log.exists() else ""
    log.unlink(missing_ok=True)
    return text


def run_disturbed(forks, folder, *overrides, signal_name, **environment):
    """Disturbs a run and checks its status, its one sentence, and that no process or file is left. Returns its output."""
    process = forks.start(folder, *overrides, **environment)
    status = forks.wait(process)
    none_alive(process)
    text = log_of(folder)
    assert status == STATUS[signal_name], text
    assert "Traceback" not in text, text
    assert text.count("Stopped by") == (signal_name != "SIGKILL"), text
    if signal_name != "SIGKILL":
        assert f"Stopped by {signal_name}" in text.splitlines()[-1]
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert not [path for path in files if path.name.startswith(".")], files
    return text
