"""The processes that load images: their number, and the error message when one was killed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

FEW = 256  # a list of so few images is loaded faster than worker processes start
MOST = 16  # processes for one loader
Environment = Mapping[str, str]


class ImageLoader(DataLoader):
    """A DataLoader that raises ValueError, one sentence, where a worker process was killed."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except (RuntimeError, ConnectionError, EOFError) as error:
            if not (self.num_workers and is_killed_worker(error)):
                raise
            raise ValueError(
                "a worker process that loads images was killed: the memory was probably used up (fewer workers=..., a "
                "smaller batch_size=..., or workers=0, which loads images in the run's own process)."
            ) from error


def is_killed_worker(error: Exception) -> bool:
    """Whether a worker process died: torch says so, or the connection to it broke. The error of a living worker brings that
    worker's traceback with it."""
    if isinstance(error, RuntimeError):
        return bool(re.search(r"DataLoader worker \(pid", str(error)))
    return "Original Traceback" not in str(error)


def workers_for(wanted: int | str, images: int, source: Any, world: int) -> int:
    """The number of worker processes for a list of `images` on one of `world` ranks: `wanted`, or what "auto" means.

    None where the source has its images in memory (`in_memory`) or they are few, else one for each core of this rank.
    """
    if isinstance(wanted, int):
        return wanted
    if getattr(source, "in_memory", False) or images < FEW:
        return 0
    return min(cores_of_a_rank(world), MOST)


def cores_of_a_rank(world: int, environment: Environment = os.environ) -> int:
    """CPU cores for each of `world` ranks: those that this process may run on, divided by the ranks of this machine.

    Where each rank is a task of SLURM, which gives cores to tasks, these are the task's own and not divided.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = _number(environment, "SLURM_CPUS_PER_TASK")
    if own and world > 1 and _number(environment, "SLURM_NTASKS") == world:
        return min(cores, own)
    here = _number(environment, "LOCAL_WORLD_SIZE") or _number(environment, "SLURM_NTASKS_PER_NODE") or world
    return max(1, cores // min(here, world))


def _number(environment: Environment, name: str) -> int:
    value = environment.get(name, "")
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else 0
