"""One run: compose -> data -> clip -> learner -> module -> trainer -> fit / test -> result.json

python run.py                                     CoOp on drawn shapes with the tiny CLIP; --help lists the groups and keys
python run.py -m method=coop,maple seed=1,2,3     a sweep, one fresh process per job
python run.py fit=false ckpt=FOLDER data=digits   evaluate saved prompts on another dataset
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from runs import signals

if __name__ == "__main__":
    signals.install(raising=False)  # what follows takes a while to import

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from runs import jobs, launch, locks, sweep


def run(cfg: DictConfig, names: dict[str, str]) -> dict[str, Any]:
    """Runs one job, or finds it done: the content of its result.json. `names`: the option chosen in each group."""
    job = jobs.describe(cfg, names)
    if result := done_already(job, cfg.force):
        return result
    from runs.arguments import check_all

    check_all(cfg)
    with locks.held(job.folder, job.title):  # another process may have done it meanwhile
        return done_already(job, cfg.force) or train_and_test(job, cfg, names)


def done_already(job: jobs.Job, force: bool) -> dict[str, Any] | None:
    if force or not (result := job.result()):
        return None
    print(f"done already: {job.title} in {job.folder} (force=true runs it again)")
    return result


def train_and_test(job: jobs.Job, cfg: DictConfig, names: dict[str, str]) -> dict[str, Any]:
    started = time.monotonic()
    # imported only now: a sweep's parent and a finished run do without torch and lightning
    from lightning_modules import results
    from lightning_modules.checkpoints import begin_from, check_backbone, prompts_of
    from lightning_modules.features import fit_on_features
    from lightning_modules.loggers import make_loggers
    from lightning_modules.prompt_module import PromptModule
    from lightning_modules.run_folder import RunFolder
    from prompts.learner import TrainInfo
    from prompts.prompted_clip import PromptedCLIP
    from runs.arguments import make

    results.quiet()
    saved = None if cfg.fit else prompts_of(cfg.ckpt, names)  # where there is nothing to evaluate, nothing is read

    # Hydra sees our yaml alone; what a file says goes to the constructor as it stands
    settings = saved.settings(cfg.method) if saved else {}
    learner = make(cfg.method, _partial_=True)(**settings) if saved else make(cfg.method)
    job.config["method"].update(settings)  # what ran is what the result says
    if cfg.fit and learner.uses_gradients and cfg.recipes.missing:
        raise ValueError(cfg.recipes.missing)
    if cfg.fit and learner.first_stage:
        learner.take_over(run_before(cfg, names, learner.first_stage))
    data = make(cfg.data)
    data.setup()
    data.val_batch = learner.val_batch
    clip = make(cfg.clip)
    if saved:
        check_backbone(saved, clip, names["clip"], cfg.other_clip)
    data.image_spec = clip.image_spec
    results.set_threads(cfg.threads, clip)
    model = PromptedCLIP(clip, learner, cfg.shard_classes)
    results.seed_everything(cfg.seed)
    classnames = saved.classnames(data.classnames) if saved else data.classnames
    model.setup(TrainInfo(classnames, len(data.train_items), cfg.fit))
    if saved:
        saved.into(model)
    started_from = begin_from(cfg.init_from, names["clip"], model, cfg.other_clip)

    own = {names["data"] if name == "source" else name: subset for name, subset in cfg.protocol.evaluate.items()}
    data.tests = [data.eval_set(name, "test", subset) for name, subset in own.items()]
    for name, target in cfg.targets.items():
        other = make(target, shots=-1)
        other.setup()
        other.image_spec = clip.image_spec
        data.tests.append(other.eval_set(name, "test", "all"))
    data.vals = [data.eval_set("val", "val", data.subset)] if cfg.select == "best_val" else []
    data.vals += data.tests if cfg.eval_every else []
    tests, vals = ({each.name: each.classnames for each in sets} for sets in (data.tests, data.vals))
    module = PromptModule(model, make(cfg.optim), cfg.epochs, cfg.seed, tests, vals)
    folder = RunFolder(job, cfg.save_every, cfg.save_steps, cfg.select, cfg.force)
    trainer = make(
        cfg.trainer,
        logger=make_loggers(cfg.logger, job),
        callbacks=[*make(cfg.callbacks).values(), *folder.callbacks],
        check_val_every_n_epoch=cfg.eval_every or 1,
    )

    results.say(results.opening(job, data, module, trainer, started_from))
    with folder.guard(trainer):
        if cfg.fit and learner.uses_gradients:
            trainer.fit(module, datamodule=data, ckpt_path=folder.checkpoint(module, trainer), weights_only=True)
        elif cfg.fit:
            fit_on_features(model, data, trainer, cfg.seed)
        trainer.test(module, datamodule=data, verbose=False)
        return folder.finish(module, data, time.monotonic() - started)


def run_before(cfg: DictConfig, names: dict[str, str], settings: Mapping[str, Any]) -> Path:
    """An earlier stage of a method as a run of its own, unless it is done: its folder."""
    first = deepcopy(cfg)
    first.method.update(settings)
    run(first, names)
    return jobs.describe(first, names).folder


def start(cfg: DictConfig) -> None:
    names = jobs.names_of(HydraConfig.get())
    jobs.complete(cfg, HydraConfig.get())
    run(cfg, names)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    if sweep.in_multirun():
        return sweep.run_fresh(__file__, cfg)
    return launch.store_error(start, cfg)


if __name__ == "__main__":
    sys.exit(launch.exit_status_of(main))
