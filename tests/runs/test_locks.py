"""One process per run's folder, whoever runs it. Locks of GPUs: test_gpus.py."""

import os
import select
import shutil
import subprocess
import sys

import pytest
from toys import ROOT

from runs import locks

HOLD = """
import sys
from pathlib import Path
from runs import locks

folder = Path(sys.argv[1], "runs", "few_shot", "toy", "toy", "toy", "shots1", "here")
locks.acquire(folder, "a title")
locks.acquire(folder, "a title")  # a second call: no wait for oneself
print("in", flush=True)
sys.stdin.readline()
locks.release(folder)
print("out", flush=True)
sys.stdin.read()
"""


def test_one_process_per_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def start():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], **pipes)

    first = start()
    assert first.stdout.readline() == "in\n"
    second = start()
    assert second.stdout.readline() == "waiting for another process that runs a title\n"
    assert select.select([second.stdout], [], [], 0.3)[0] == []
    first.kill()
    first.communicate()
    assert second.stdout.readline() == "in\n"
    third = start()
    assert third.stdout.readline() == "waiting for another process that runs a title\n"
    second.stdin.write("\n")
    second.stdin.flush()
    assert third.communicate(timeout=30)[0] == "in\nout\n"  # the second lives on, but has left
    second.communicate()
    assert [path.name for path in tmp_path.rglob("*")] == ["runs"]  # made by the first, which did not live to remove it
    monkeypatch.setenv("LOCAL_RANK", "1")
    holder = start()
    assert holder.stdout.readline() == "in\n"
    rank = start()  # ranks but the first neither wait nor hold
    assert rank.stdout.readline() == "in\n"
    for process in (holder, rank):
        process.communicate()


def test_a_lock_leaves_what_was_there(tmp_path):
    levels = ["out", "few_shot", "toy", "toy", "toy", "shots1"]
    folder = tmp_path.joinpath(*levels, "seed1")
    for mine in (True, False):
        if mine:
            (tmp_path / "out").mkdir()
        locks.acquire(folder, "a title")
        assert [path.name for path in tmp_path.rglob("*")] == [*levels, ".seed1.lock"]
        locks.release(folder)
        assert [path.name for path in tmp_path.rglob("*")] == (["out"] if mine else [])
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    with locks.held(folder, "a title"):
        folder.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == [*levels, "seed1"]


def test_a_lock_follows_no_link(tmp_path):
    victim = tmp_path / "victim"
    locks.lock_file(tmp_path / "seed1").symlink_to(victim)
    with pytest.raises(ValueError, match=r"\.seed1\.lock, cannot be made .*: choose another output=FOLDER"):
        locks.acquire(tmp_path / "seed1", "a title")
    assert not victim.exists()


def test_a_run_where_nothing_can_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be made .*: choose another output=FOLDER"):
        locks.acquire(tmp_path / "file" / "shots" / "seed1", "a title")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


RACE = """
import os, sys
from pathlib import Path
from runs import locks

folder, counter = Path(sys.argv[1], "runs", "few_shot", "toy", "toy", "toy", "shots1", "here"), Path(sys.argv[1], "counter")
for _ in range(60):
    with locks.held(folder, "a title"):
        count = int(counter.read_text())
        inside = Path(sys.argv[1], "inside")
        inside.mkdir()  # fails where another is in
        counter.write_text(str(count + 1))
        inside.rmdir()
"""


def test_files_that_come_and_go_with_each_lock_let_nobody_else_in(tmp_path):
    (tmp_path / "counter").write_text("0")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    several = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path)], env=environment, stdout=subprocess.DEVNULL)
        for _ in range(3)
    ]
    assert [process.wait(300) for process in several] == [0, 0, 0]
    assert (tmp_path / "counter").read_text() == "180"
    assert {path.name for path in tmp_path.rglob("*")} <= {"counter", "runs"}
