import os
import stat
import subprocess
import sys

import pytest
from omegaconf import OmegaConf
from toys import ROOT

from runs import gpus, locks


@pytest.fixture(autouse=True)
def _own_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "GPUS", tmp_path / "locks")


def job(number, devices=1, accelerator="auto", launcher="JoblibLauncher"):
    hydra = OmegaConf.create({"launcher": {"_target_": f"somewhere.{launcher}"}, "job": {"num": number}})
    return hydra, OmegaConf.create({"trainer": {"devices": devices, "accelerator": accelerator}})


def given(*args, **kwargs):
    with gpus.gpus_of(*job(*args, **kwargs)) as (environment, _):
        return environment.get("CUDA_VISIBLE_DEVICES")


def test_gpus_go_round(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    assert [given(number) for number in range(5)] == ["4", "5", "7", "4", "5"]
    with gpus.gpus_of(*job(0)) as (first, files):
        assert (first["CUDA_VISIBLE_DEVICES"], len(files)) == ("4", 1)
        assert given(3) == "5"  # it is the first one's turn, but a longer job is still there
        with gpus.gpus_of(*job(1)), gpus.gpus_of(*job(2)):
            assert given(3) == "4"  # more jobs than GPUs share them
    assert given(3) == "4"


def test_jobs_of_several_gpus_and_of_none(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    assert [given(number, devices=2) for number in range(3)] == ["0,1", "2,3", "0,1"]
    assert given(0, devices=8) is None  # the run says that it lacks some
    assert given(0, devices=-1) is None
    assert given(0, accelerator="cpu") is None
    assert given(0, launcher="BasicLauncher") is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert given(0) is None


def test_the_driver_is_asked_for_gpus(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible_gpus() == []
    asked = tmp_path / "nvidia-smi"
    asked.write_text("#!/bin/sh\n[ \"$1\" = -L ] && echo 'GPU 0: A (UUID: x)' && echo 'GPU 1: B (UUID: y)'\n")
    asked.chmod(0o755)
    assert gpus.visible_gpus() == ["0", "1"]


def test_a_gpu_alone_and_as_one_of_several_is_the_same_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    with gpus.gpus_of(*job(1)) as (alone, _):
        assert alone["CUDA_VISIBLE_DEVICES"] == "1"
        assert given(0, devices=2) == "2,3"
    assert given(0, devices=2) == "0,1"


def test_locks_of_gpus_are_for_all_users_and_few():
    for _ in range(3):
        for name in ("gpu-0", "gpu-1", "gpu-GPU-8a/../../x y"):
            file = locks.acquire_gpu(name)
            assert file is not None
            assert locks.acquire_gpu(name) is None
            os.close(file)
    assert stat.S_IMODE(locks.GPUS.stat().st_mode) == 0o1777
    assert sorted(path.name for path in locks.GPUS.iterdir()) == ["gpu-0", "gpu-1", "gpu-GPU-8a_.._.._x_y"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in locks.GPUS.iterdir()} == {0o666}


def test_locks_of_gpus_follow_no_link(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    locks.GPUS.mkdir()
    (locks.GPUS / "gpu-0").symlink_to(victim)
    (locks.GPUS / "gpu-1").symlink_to(tmp_path / "new")
    os.mkfifo(locks.GPUS / "gpu-2")
    assert [locks.acquire_gpu(f"gpu-{i}") for i in range(2)] == [None, None]
    assert victim.read_text() == "mine"
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(locks, "GPUS", tmp_path / "link")
    locks.GPUS.symlink_to(tmp_path / "locks")
    assert locks.acquire_gpu("gpu-3") is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert given(1) == "1"  # without locks GPUs still go round


def test_a_gpu_is_given_back_when_the_last_process_that_has_it_ends():
    """A job outlives the worker that started it, and keeps its GPU."""
    file = locks.acquire_gpu("gpu-0")
    job = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[file], cwd=ROOT)
    os.close(file)
    assert locks.acquire_gpu("gpu-0") is None
    job.communicate(b"\n")
    file = locks.acquire_gpu("gpu-0")
    assert file is not None
    os.close(file)
