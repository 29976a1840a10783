"""Which GPUs a job of a sweep gets. Imports neither torch nor lightning."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig

from runs import locks


@contextmanager
def gpus_of(hydra: DictConfig, cfg: DictConfig) -> Iterator[tuple[dict[str, str], list[int]]]:
    """The environment that gives a job beside others GPUs of its own, `trainer.devices` of them; the locks to inherit.

    Round robin by the job's number, but those in use are passed over. More jobs at once than GPUs share them.
    """
    devices, found = cfg.trainer.devices, []
    joblib = hydra.launcher._target_.endswith("JoblibLauncher")
    if joblib and isinstance(devices, int) and devices > 0 and cfg.trainer.accelerator in ("auto", "gpu", "cuda"):
        found = visible_gpus()
    shares = [",".join(found[i : i + devices]) for i in range(0, len(found) - devices + 1, devices)] if found else []
    if not shares:
        yield {}, []
        return
    turn = hydra.job.num % len(shares)
    for share in shares[turn:] + shares[:turn]:
        if files := take_all(share.split(",")):
            try:
                yield {"CUDA_VISIBLE_DEVICES": share}, files
            finally:
                for file in files:
                    os.close(file)
            return
    yield {"CUDA_VISIBLE_DEVICES": shares[turn]}, []


def take_all(names: list[str]) -> list[int]:
    """The locks of these GPUs, or of none."""
    files = []
    for name in names:
        if (file := locks.take(f"gpu-{name}")) is None:
            for taken in files:
                os.close(taken)
            return []
        files.append(file)
    return files


def visible_gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES would name them; asked of the driver where it is not set."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name and not name.startswith("-")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.splitlines()
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in listed))]
