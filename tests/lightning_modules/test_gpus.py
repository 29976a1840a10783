import tempfile

import pytest
from omegaconf import OmegaConf

from lightning_modules import gpus


@pytest.fixture(autouse=True)
def _own_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


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
