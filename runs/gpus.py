"""Which GPUs a job of a sweep gets. Imports no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig

from runs import locks


@contextmanager
def gpus_of(hydra: DictConfig, cfg: DictConfig, beside: bool = False) -> Iterator[tuple[dict[str, str], list[int]]]:
    """A block in which a job that runs beside others has `trainer.devices` GPUs of its own.

    Round robin by the job's number; GPUs in use are passed over. Where more jobs run at once than there are GPUs, they share.

    Args:
        beside: whether other jobs run at the same time; with joblib's launcher this is always assumed.

    Yields:
        The environment variables for the job's process, and the descriptors of the locks, which that process inherits. Both
        are empty where nothing is assigned: one job at a time, no GPU, or `devices` is no number.
    """
    devices, visible = cfg.trainer.devices, []
    beside = beside or hydra.launcher._target_.endswith("JoblibLauncher")
    if beside and isinstance(devices, int) and devices > 0 and cfg.trainer.accelerator in ("auto", "gpu", "cuda"):
        visible = visible_gpus()
    shares = [",".join(visible[i : i + devices]) for i in range(0, len(visible) - devices + 1, devices)] if visible else []
    if not shares:
        yield {}, []
        return
    first = hydra.job.num % len(shares)
    for share in shares[first:] + shares[:first]:
        if files := acquire_all(share.split(",")):
            try:
                yield {"CUDA_VISIBLE_DEVICES": share}, files
            finally:
                for file in files:
                    os.close(file)
            return
    yield {"CUDA_VISIBLE_DEVICES": shares[first]}, []


def acquire_all(names: list[str]) -> list[int]:
    """Acquires the locks of all these GPUs and returns their descriptors; an empty list where another job has one of them."""
    files = []
    for name in names:
        if (file := locks.acquire_gpu(f"gpu-{name}")) is None:
            for acquired in files:
                os.close(acquired)
            return []
        files.append(file)
    return files


def visible_gpus() -> list[str]:
    """The GPUs of this machine as CUDA_VISIBLE_DEVICES names them; from `nvidia-smi -L` where it is not set."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name and not name.startswith("-")]
    if not shutil.which("nvidia-smi"):
        return []
    lines = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.splitlines()
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in lines))]
