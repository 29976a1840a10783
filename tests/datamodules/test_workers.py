"""How many processes load images."""

import os

import pytest
from toys import IMAGE_SPEC, ToySource

from datamodules import workers
from datamodules.digits import Digits
from datamodules.module import FewShotData
from datamodules.workers import FEW, MOST, cores_of_a_rank, workers_for


@pytest.fixture
def cores(monkeypatch):
    def have(count):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(count)), raising=False)

    return have


def test_workers_are_those_asked_for_or_this_ranks_share_of_the_cores(cores, monkeypatch):
    for name in ("LOCAL_WORLD_SIZE", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    cores(6)
    assert workers_for(3, 1, Digits(), 2) == 3
    assert [workers_for("auto", FEW, object(), world) for world in (1, 2, 3, 6, 7)] == [6, 3, 2, 1, 1]
    assert workers_for("auto", FEW - 1, object(), 1) == 0
    assert workers_for("auto", 10**6, Digits(), 1) == 0
    cores(4 * MOST)
    assert workers_for("auto", FEW, object(), 1) == MOST


@pytest.mark.parametrize(
    ("world", "environment", "expected"),
    [
        (16, {"LOCAL_WORLD_SIZE": "4"}, 6),
        (16, {"SLURM_NTASKS_PER_NODE": "8"}, 3),
        (4, {"SLURM_NTASKS": "4", "SLURM_CPUS_PER_TASK": "24"}, 24),  # each rank is a task, whose cores are its own
        (4, {"SLURM_NTASKS": "4", "SLURM_CPUS_PER_TASK": "7"}, 7),
        (4, {"SLURM_NTASKS": "1", "SLURM_CPUS_PER_TASK": "24"}, 6),  # four ranks within one task
        (1, {"SLURM_NTASKS": "1", "SLURM_CPUS_PER_TASK": "24"}, 24),
        (4, {"LOCAL_WORLD_SIZE": "many", "SLURM_NTASKS_PER_NODE": "4(x2)"}, 6),
        (2, {"LOCAL_WORLD_SIZE": "999"}, 12),
        (100, {}, 1),
    ],
)
def test_cores_of_a_rank(cores, world, environment, expected):
    cores(24)
    assert cores_of_a_rank(world, environment) == expected


def test_loaders_have_the_workers_of_their_lists(cores, monkeypatch):
    class Files(ToySource):
        in_memory = False

    cores(2)
    monkeypatch.setattr(workers, "FEW", 30)
    data = FewShotData("toy", Files(), IMAGE_SPEC, shots=4, seed=1, batch_size=4, workers="auto", eval_batch_size=4)
    assert data.train_loader().loader.num_workers == 0  # 20 images
    assert data.eval_loader("test").num_workers == 2  # 35
    assert FewShotData("toy", ToySource(), IMAGE_SPEC, shots=4, seed=1, workers="auto").eval_loader("test").num_workers == 0
