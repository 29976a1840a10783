"""Signals, kills and full disks at every moment of a run: the right status, one sentence, nothing left over, and a rerun that
equals the undisturbed run bit for bit.

`KILLS=40 pytest tests/test_interruptions.py` adds as many kills at random moments of random runs.
"""

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch
from forked import ROOT, Forks, alive, none_alive
from safetensors.torch import load_file

from runs import launch

TOY = ["clip=toy", "data=toy", "optim.lr=0.2", "shots=4", "batch_size=6", "epochs=3", "eval_batch_size=5", "trainer=cpu"]
DOOMED = [*TOY, "method=doomed"]
DPL = [*TOY, "method=dpl", "method.lengths=[0,2]", "method.alpha_lr=0.1", "method.val_batch_size=6", "epochs=2"]
PROBE = [*TOY, "method=linear_probe"]
STATUS = {"SIGTERM": 143, "SIGINT": 130, "SIGKILL": -9}


@pytest.fixture(scope="module")
def forks():
    server = Forks()
    yield server
    server.close()


@pytest.fixture(scope="module")
def undisturbed(forks, tmp_path_factory):
    """What runs that nothing disturbs leave; each is made once."""
    found = {}

    def of(*overrides):
        if overrides not in found:
            folder = tmp_path_factory.mktemp("whole")
            assert forks.run(folder, *overrides) == 0, (folder / "log").read_text()
            found[overrides] = left(folder / "outputs")
        return found[overrides]

    return of


def left(folder):
    """What the finished runs below a folder hold, but for times; by the file's path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "result.json":
            result = json.loads(path.read_text())
            found[name] = {key: value for key, value in result.items() if key not in ("seconds", "peak_memory", "config")}
        elif path.suffix == ".safetensors":
            found[name] = {key: tensor.numpy().tobytes() for key, tensor in load_file(path).items()}
        elif path.suffix == ".npz":
            found[name] = {key: array.tobytes() for key, array in np.load(path).items()}
        elif path.is_file() and not path.name.startswith("metrics"):
            found[name] = path.read_bytes()
    return found


def log_of(folder):
    log = folder / "log"
    text = log.read_text() if log.exists() else ""
    log.unlink(missing_ok=True)
    return text


def ends_well(forks, folder, *overrides, how, **environment):
    """A disturbed run: its status, its one sentence, no process and no file left over; what it said."""
    process = forks.start(folder, *overrides, **environment)
    status = forks.wait(process)
    none_alive(process)
    text = log_of(folder)
    assert status == STATUS[how], text
    assert "Traceback" not in text, text
    assert text.count("Stopped by") == (how != "SIGKILL"), text
    if how != "SIGKILL":
        assert f"Stopped by {how}" in text.splitlines()[-1]
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert not [path for path in files if path.name.startswith(".")], files
    return text


MOMENTS = [  # in this order within one folder; where, and by which variable
    ("DOOM", "setup:{}:0:20"),
    ("STRIKE", "best.safetensors:before:{}"),
    ("DOOM", "2:{}:0:20"),
    ("DOOM_IMAGE", "val/2:3:{}:0"),
    ("STRIKE", "last.ckpt:before:{}"),
    ("DOOM_IMAGE", "test/0/0:1:{}:0"),
    ("DOOM_IMAGE", "test/4/6:1:{}:0"),
    ("STRIKE", "prompts.safetensors:after:{}"),
    ("STRIKE", "result.json:before:{}"),
]


@pytest.mark.parametrize("how", STATUS)
def test_at_every_moment_of_a_run(forks, undisturbed, tmp_path, how):
    overrides = [*DOOMED, "epochs=4", "select=best_val", "save_steps=1"]
    whole = undisturbed(*overrides)
    for variable, where in MOMENTS:
        text = ends_well(forks, tmp_path, *overrides, how=how, **{variable: where.format(how)})
        if "the result stands in" in text:
            break
    assert forks.run(tmp_path, *overrides) == 0, log_of(tmp_path)
    assert ("done already" in log_of(tmp_path)) == (how != "SIGKILL")  # the rest was written before the signal was answered
    assert left(tmp_path / "outputs") == whole


@pytest.mark.parametrize("how", STATUS)
def test_at_every_moment_of_a_method_of_two_stages(forks, undisturbed, tmp_path, how):
    whole = undisturbed(*DPL)
    for variable, where in (
        ("DOOM_IMAGE", "train/1:2:{}:0"),  # the search, and its evaluation
        ("DOOM_IMAGE", "test/2:1:{}:0"),
        ("STRIKE", "dpl.json:before:{}"),
        ("DOOM_IMAGE", "train/1:3:{}:0"),  # the training, where the search is done; else the search again
        ("DOOM_IMAGE", "test/4/6:1:{}:0"),
        ("STRIKE", "dpl.json:after:{}"),
    ):
        text = ends_well(forks, tmp_path, *DPL, how=how, **{variable: where.format(how)})
    assert how == "SIGKILL" or "the result stands in" in text
    assert forks.run(tmp_path, *DPL) == 0, log_of(tmp_path)
    assert left(tmp_path / "outputs") == whole


@pytest.mark.parametrize("how", STATUS)
def test_at_every_moment_of_a_fit_without_gradients(forks, undisturbed, tmp_path, how):
    whole = undisturbed(*PROBE)
    for variable, where in (
        ("DOOM_IMAGE", "train/2:1:{}:0"),
        ("DOOM_IMAGE", "val/4:2:{}:0"),
        ("DOOM_IMAGE", "test/2:2:{}:0"),
        ("STRIKE", "predictions.npz:before:{}"),
    ):
        ends_well(forks, tmp_path, *PROBE, how=how, **{variable: where.format(how)})
    assert forks.run(tmp_path, *PROBE) == 0, log_of(tmp_path)
    assert left(tmp_path / "outputs") == whole


@pytest.mark.parametrize(
    "method",
    [
        ["coop", "select=best_val"],
        ["promptsrc", "method.depth_text=2", "method.depth_image=2", "method.mu=2"],  # averages over epochs
        ["pomp"],  # samples
        ["rpp", "clip@method.teacher=toy", "method.depth_text=2", "method.depth_image=2"],
    ],
    ids=lambda method: method[0],
)
def test_a_training_that_is_over_is_not_lost(run_here, tmp_path, monkeypatch, method):
    overrides = [f"method={method[0]}", *method[1:], "optim.lr=0.1", "shots=2", "batch_size=5", "epochs=3"]
    whole = run_here(*overrides, "output=whole")
    monkeypatch.setenv("DOOM_IMAGE", "test/3:1:raise:0")
    with pytest.raises(ValueError, match="doomed"):
        run_here(*overrides, "output=again")
    monkeypatch.setenv("DOOM_IMAGE", "train:1:raise:0")  # nothing is trained any more
    assert run_here(*overrides, "output=again")["metrics"] == whole["metrics"]
    assert left(tmp_path / "again") == left(tmp_path / "whole")


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
    assert left(tmp_path / "outputs") == whole


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
    assert left(tmp_path / "outputs") == whole


def test_ctrl_c_before_anything_is_imported(tmp_path):
    """Half a second in which a signal used to end in a traceback, or in nothing."""
    code = "import os, sys; os.kill(os.getpid(), int(sys.argv[1]))"
    (tmp_path / "hydra.py").write_text(code)  # the first of run.py's imports that takes a while
    for how in ("SIGTERM", "SIGINT"):
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        run = [sys.executable, str(ROOT / "run.py"), str(int(getattr(signal, how)))]
        ended = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ended.returncode == STATUS[how]
        assert ended.stderr == f"Stopped by {how}; the same command starts over.\n"


# ---- full disks


@pytest.fixture
def small_disk(tmp_path):
    """Makes a file system of so many KiB, where this may be done; what it yields frees its space again."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = []

    def make(kib):
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], capture_output=True)
        if made.returncode:
            pytest.skip("file systems cannot be mounted here")
        mounted.append(folder)
        return folder

    yield make
    for each in mounted:
        subprocess.run(["umount", str(each)], check=True)


@pytest.mark.parametrize(
    "overrides", [[*DOOMED, "select=best_val", "save_every=0"], DPL, PROBE], ids=["doomed", "dpl", "probe"]
)
def test_a_disk_that_fills_up(forks, undisturbed, tmp_path, small_disk, overrides):
    """It has room for one page more each time, so that each kind of file is once the first that does not fit."""
    whole = undisturbed(*overrides)
    disk, failed = small_disk(4096), 0
    stone = disk / "stone"
    for room in (0, 1, 2, 4, 8, 20, 40):
        stone.write_bytes(b"")
        stat = os.statvfs(disk)
        stone.write_bytes(bytes(stat.f_bavail * stat.f_frsize - room * 4096))
        status = forks.run(tmp_path, *overrides, f"output={disk}/outputs")
        text = log_of(tmp_path)
        assert "Traceback" not in text, text
        files = [path for path in disk.rglob("*") if path.is_file()]
        assert not [path for path in files if path.suffix == ".tmp" or path.name.endswith(".lock")], files
        if not status:
            break
        failed += 1
        assert status == 1
        last = text.splitlines()[-1]
        assert last.startswith(f"error: {disk}/")
        assert "cannot be written (No space left on device): make room; the same command" in last
    assert failed >= 2
    stone.unlink()
    assert forks.run(tmp_path, *overrides, f"output={disk}/outputs") == 0, log_of(tmp_path)
    assert left(disk / "outputs") == whole


def test_a_file_that_may_not_grow(forks, undisturbed, tmp_path):
    """The same where nothing can be mounted: the operating system refuses to write more than so much into one file."""
    whole = undisturbed(*DOOMED)
    for most in (1000, 5000):
        assert forks.run(tmp_path, *DOOMED, LARGEST_FILE=str(most)) == 1
        text = log_of(tmp_path)
        assert "Traceback" not in text
        assert "cannot be written (File too large): make room; the same command" in text.splitlines()[-1]
        assert not list(tmp_path.rglob("*.tmp"))
    assert forks.run(tmp_path, *DOOMED) == 0, log_of(tmp_path)
    assert left(tmp_path / "outputs") == whole


# ---- damaged states


PICKLES = {  # small files that torch.load would take minutes or gigabytes for, weights_only or not
    "keys": b"\x80\x02}q\0(K\1K\1\x86q\1" + b"h\1h\1\x86q\1" * 40 + b"K\1u.",
    "bytes": b"\x80\x02cbuiltins\nbytearray\nq\0\x8a\x05" + (10**11).to_bytes(5, "little") + b"\x85R.",
    "dropped": b"\x80\x02}X\1\0\0\0acbuiltins\nbytearray\nK\1\x85RsX\1\0\0\0aK\1s.",
    "lists": b"\x80\x02]q\0" + b"]q\1(h\0h\0eh\1q\0" * 60 + b".",
}


def damaged(content, how):
    if how in PICKLES:
        with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
            archive.writestr(zipfile.ZipInfo("a/data.pkl"), PICKLES[how])  # of no time: always the same bytes
            archive.writestr(zipfile.ZipInfo("a/version"), "3")
        return buffer.getvalue()
    if how == "random":
        return random.Random(1).randbytes(len(content))
    if how == "truncated":
        return content[: len(content) // 2]
    if how == "empty":
        return b""
    if how == "code":
        return b"cos\nsystem\n(S'touch was-here'\ntR."
    state = torch.load(io.BytesIO(content), weights_only=True)
    if how == "nan":
        state["state_dict"]["model.learner.up"][0, 0] = float("nan")
    elif how == "learner":
        state["state_dict"]["model.learner.down"] = state["state_dict"]["model.learner.down"][:, :2]
    elif how == "seed":
        state["run"]["seed"] = 2
    elif how == "loops":
        state["loops"] = {"fit_loop": [1, 2, 3]}
    elif how == "progress":
        state["progress"]["losses"] = [["many", 3]]
    elif how == "list":
        state = [1, 2, 3]
    elif how == "expanded":  # 24 GB of one number
        state["state_dict"]["model.learner.down"] = torch.ones(1).expand(6 * 10**9)
    elif how == "script":
        torch.jit.script(torch.nn.Linear(2, 2)).save(buffer := io.BytesIO())
        return buffer.getvalue()
    torch.save(state, buffer := io.BytesIO())
    return buffer.getvalue()


def test_a_damaged_state_is_refused_and_stays(run_here, tmp_path, monkeypatch, capsys):
    overrides = ["method=doomed", "shots=4", "batch_size=6", "save_every=0"]
    whole = run_here(*overrides)
    shutil.rmtree(tmp_path / "outputs")
    monkeypatch.setenv("DOOM", "3:raise:0:20")
    with pytest.raises(ValueError, match="doomed"):
        run_here(*overrides)
    monkeypatch.setenv("DOOM", "")
    [last] = tmp_path.rglob("last.ckpt")
    content = last.read_bytes()
    capsys.readouterr()
    kinds = [
        "random",
        "truncated",
        "empty",
        "code",
        "nan",
        "learner",
        "seed",
        "loops",
        "progress",
        "list",
        "script",
        "expanded",
        *PICKLES,
    ]
    for how in kinds:
        last.write_bytes(damaged(content, how))
        told = None
        try:
            run_here(*overrides)
        except Exception as error:
            told = launch.error_message(error)
        assert told, how
        assert "last.ckpt" in told, how
        assert "force=true" in told, how
        assert "\n" not in told, how
        assert last.read_bytes() == damaged(content, how)
        assert not (tmp_path / "was-here").exists()
        assert "loss" not in capsys.readouterr().out
    last.write_bytes(content)
    assert run_here(*overrides)["train_loss"] == whole["train_loss"]
    last.write_bytes(b"garbage")
    assert run_here(*overrides, "force=true")["train_loss"] == whole["train_loss"]


# ---- several ranks


RANKS = [*DOOMED[:-2], "method=doomed", "trainer=ddp_cpu"]


def test_ranks_that_are_stopped_or_killed(forks, undisturbed, tmp_path):
    whole = undisturbed(*RANKS)
    assert left(tmp_path) == {}
    ends_well(forks, tmp_path, *RANKS, how="SIGTERM", DOOM="2:SIGTERM:0:20")  # in training: saved
    process = forks.start(tmp_path, *RANKS, DOOM="2:SIGKILL:1:20")
    assert forks.wait(process) == 1
    none_alive(process)
    text = log_of(tmp_path)
    assert "Traceback" not in text
    assert "error: rank 1 was killed by SIGKILL, by hand or for lack of memory; the same command resumes from" in text
    ends_well(forks, tmp_path, *RANKS, how="SIGINT", DOOM_IMAGE="test/2:2:SIGINT:0")
    ends_well(forks, tmp_path, *RANKS, how="SIGKILL", DOOM_IMAGE="test/2:4:SIGKILL:0")  # the others end with it
    assert forks.run(tmp_path, *RANKS) == 0, log_of(tmp_path)
    assert "resuming from" in log_of(tmp_path)
    assert left(tmp_path / "outputs") == whole


# ---- at random


KILLS = int(os.environ.get("KILLS", "6"))


def test_at_random_moments(forks, undisturbed, tmp_path):
    """KILLS signals to runs of randomly chosen kinds, each at a random moment of the time that such a run takes."""
    rng, kinds, seen, seconds = random.Random(KILLS), [[*DOOMED, "select=best_val"], DPL, PROBE], [], {}
    if KILLS > 20:
        kinds.append(RANKS)
    for trial in range(KILLS):
        overrides, how = rng.choice(kinds), rng.choice(list(STATUS))
        whole, folder = undisturbed(*overrides), tmp_path / f"{trial}"
        folder.mkdir()
        if str(overrides) not in seconds:
            began = time.monotonic()
            assert forks.run(folder, *overrides, "output=timed") == 0
            seconds[str(overrides)] = time.monotonic() - began
            log_of(folder)
        moment = rng.uniform(0, seconds[str(overrides)])
        process = forks.start(folder, *overrides)
        time.sleep(moment)
        os.kill(process, getattr(signal, how))
        status = forks.wait(process)
        none_alive(process)
        text = log_of(folder)
        seen.append((" ".join(overrides[6:9]), how, round(moment, 2), status))
        # 0: it was done before the signal came; or the signal came before the first line of run.py
        before = status == -getattr(signal, how) and not text
        assert before or status in (0, STATUS[how]), (seen[-1], text)
        assert "Traceback" not in text, (seen[-1], text)
        assert text.count("Stopped by") == (status > 0), (seen[-1], text)
        assert forks.run(folder, *overrides) == 0, (seen[-1], log_of(folder))
        assert left(folder / "outputs") == whole, seen[-1]
        shutil.rmtree(folder)
    print(*seen, sep="\n")
