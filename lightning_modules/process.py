"""The process of a run: warnings, output, random seeds, threads, memory, versions of libraries."""

from __future__ import annotations

import logging
import os
import platform
import random
import resource
import sys
import warnings
from importlib.metadata import version

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only

from runs.sweep import IN_SWEEP

PACKAGES = ("torch", "torchvision", "lightning", "open_clip_torch", "torchmetrics", "hydra-core", "numpy", "pillow")


def quiet() -> None:
    """Silences warnings of libraries that a user can do nothing about. This project's own warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",  # images are in memory or few, and `workers` is a key of this project
        ".*in eval mode at the start of training.*",  # intended: the towers are frozen
        ".*number of training batches .* is smaller than the logging interval.*",
        ".*Experiment logs directory .* exists and is not empty.*",  # resumed runs: older files were renamed
        ".*GPU available but not used.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
        ".*barrier\\(\\).*",
        ".*Total length of .* across ranks is zero.*",
        ".*recommended to use `self.log.*sync_dist=True.*",  # metrics are summed up over the ranks before they are logged
        ".*has zero length.*",  # intended: an evaluation may have fewer images than ranks
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*pkg_resources is deprecated.*",
        ".*but have no `val_dataloader`.*",  # evaluation during training is off unless asked for
        ".*`broadcast_buffers` is deprecated.*",  # its successor is not in the older torch that we allow
        ".*`?srun`? command is available.*",
    ):
        warnings.filterwarnings("ignore", message=message)


def is_first_rank() -> bool:
    """Whether this process is rank 0, or the only one."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


@rank_zero_only
def say(text: str, in_sweep: str = "") -> None:
    """Prints the text or, in a job of a sweep, the shorter text `in_sweep`."""
    text = in_sweep if IN_SWEEP in os.environ else text
    if text:
        print(text, flush=True)


def seed_everything(seed: int) -> None:
    """Seeds the global generators, from which a learner draws its initial tensors. Training and data have other generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def set_threads(threads: int | str, clip: torch.nn.Module) -> None:
    """Sets torch's number of threads. `auto` is one for small towers and torch's choice otherwise: threads that wait for each
    other slow a tiny CLIP down (on two busy cores, 25 ms a step with one and 2 s with two). OMP_NUM_THREADS takes
    precedence."""
    small = sum(p.numel() for p in clip.parameters()) < 20e6
    if isinstance(threads, int):
        torch.set_num_threads(threads)
    elif small and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def peak_memory() -> dict[str, float]:
    """The peak memory of this process (rank 0) in MiB: resident memory, and GPU memory where there is a GPU."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = {"cpu_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)}
    if torch.cuda.is_available():
        peak["gpu_mib"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peak


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
