"""Runs a job once: not if it is done, not twice at the same time, and after the earlier run that it needs.

Imports neither torch nor lightning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from runs import arguments, earlier, jobs, locks
from runs.imports import heavy_imports

Result = dict[str, Any]
Stages = list[dict[str, float]]
Work = Callable[[jobs.Job, DictConfig, Stages], Result]


def run_once(cfg: DictConfig, names: dict[str, str], work: Work) -> Result:
    """The result of a finished run of exactly this, or of `work`.

    Args:
        cfg: the composed config of one run.
        names: the option chosen in each group.
        work: trains and tests; gets the main figure by evaluation of each earlier stage of the protocol, the first one first.

    Raises:
        ValueError: a key or an argument has a wrong value, data are missing, or the run fails.
    """
    job = jobs.describe(cfg, names)
    if result := job.done(cfg.force):
        return result
    with heavy_imports("torch"):  # the check imports whatever the run is made of
        arguments.check_all(cfg)
    with locks.held(job.folder, job.title):  # another process may have done it meanwhile
        return job.done(cfg.force) or work(job, cfg, run_earlier(cfg, names, work))


def run_earlier(cfg: DictConfig, names: dict[str, str], work: Work) -> Stages:
    """Runs the earlier run that `cfg` needs, if any, and sets the key of `cfg` that takes its folder."""
    before = earlier.earlier_of(cfg, names)
    if before is None:
        return []
    folder = jobs.describe(before.cfg, before.names).folder
    result = run_once(before.cfg, before.names, work)
    earlier.take_over(cfg, before.gives, folder)
    return earlier.stages(result) if before.is_stage else []
