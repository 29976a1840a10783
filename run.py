"""One run: config -> clip -> learner -> data -> task module -> trainer -> result

python run.py                                     CoOp on drawn images with the tiny CLIP; --help lists the groups and keys
python run.py -m method=coop,maple seed=1,2,3     a sweep, one fresh process per job
python run.py fit=false ckpt=FOLDER data=digits   evaluate saved prompts on another dataset
"""

from __future__ import annotations

import sys
import time
from typing import Any

from runs import signals

if __name__ == "__main__":
    signals.install(raising=False)  # before the imports below, which take a while

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from runs import jobs, launch, sweep
from runs.once import run_once


def run(cfg: DictConfig, names: dict[str, str]) -> dict[str, Any]:
    """Runs one job unless it is done, and returns the content of its result.json. `names`: the option chosen in each group."""
    return run_once(cfg, names, train_and_test)


def train_and_test(job: jobs.Job, cfg: DictConfig, stages: list[dict[str, float]]) -> dict[str, Any]:
    """The run itself. `stages`: the figures of earlier stages of its protocol."""
    # imported here: a sweep's parent process and a finished run need neither torch nor lightning
    from lightning_modules import process, results
    from lightning_modules.assembly import Assembly
    from lightning_modules.fitting import fit
    from lightning_modules.run_folder import RunFolder

    started = time.monotonic()
    process.quiet()
    parts = Assembly(cfg, job.names)
    folder = RunFolder(job, cfg.save_every, cfg.save_steps, cfg.select, cfg.force)
    trainer = parts.trainer(job, folder.callbacks)
    process.say(results.opening(job, parts, trainer))
    with folder.guard(trainer):
        fit(parts, trainer, folder)
        trainer.test(parts.module, verbose=False)
        return folder.finish(parts, time.monotonic() - started, stages)


def start(cfg: DictConfig) -> None:
    """One run of the command line."""
    hydra_config: Any = HydraConfig.get()
    names = jobs.names_of(hydra_config)
    jobs.complete(cfg, hydra_config)
    run(cfg, names)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Hydra's entry: one run, or one job of a sweep, as a process of its own."""
    if sweep.in_multirun():
        return sweep.run_fresh(__file__, cfg)
    launch.store_error(start, cfg)
    return None


if __name__ == "__main__":
    sys.exit(launch.exit_status_of(main))
