"""The content of `result.json`, and the lines that a run prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer

from lightning_modules.assembly import Assembly
from lightning_modules.checkpoints import RELEASED
from lightning_modules.process import peak_memory, versions
from lightning_modules.task import TaskModule
from runs.jobs import Job
from runs.result import VERSION
from runs.shots import shots_text
from runs.stored import CATEGORY_IDS


def about(job: Job, run: Assembly) -> dict[str, Any]:
    """The metadata of prompts.safetensors, beside its classes and its backbone: options, settings, shots, seed, and the data's
    own ids of the classes, where they have some. Those of a released checkpoint, which an evaluation keeps, have neither
    shots nor seed, as it does not say them."""
    settings = {key: value for key, value in job.config["method"].items() if key != "_target_"} | run.settings
    ids = getattr(run.data, CATEGORY_IDS, None)
    return {
        **job.names,
        "settings": settings | dict(run.model.learner.found_settings),
        **({RELEASED: True} if run.of_released else {key: job.config[key] for key in ("shots", "seed")}),
        **({CATEGORY_IDS: list(ids)} if ids is not None else {}),
    }


def result_of(
    job: Job, run: Assembly, bad_images: Sequence[str], seconds: float, stages: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """The content of result.json (`runs.result.Result`).

    Args:
        run: the run, trained and tested.
        bad_images: the images of all ranks that could not be read.
        seconds: how long this process took.
        stages: the main figure by evaluation of each earlier stage, the first one first.
    """
    module, model, data = run.module, run.model, run.data
    trained = sum(p.numel() for p in model.clip.trained_tensors().values())
    targets = [name for name in module.metrics if name in job.config["targets"]]
    return {
        "version": VERSION,
        "task": job.config["task"]["name"],
        "digest": job.digest,
        "names": job.names,
        "backbone": model.clip.identity,
        "seed": job.config["seed"],
        "shots": job.config["shots"],
        **module.lines(),
        "summary": run.protocol.summarise(module.figures, targets, stages, module.figure.higher_is_better, job.names["data"]),
        "stages": list(stages),
        "epoch": module.kept_epoch,
        "train_loss": [total / max(steps, 1) for total, steps in module.losses],
        "trainable_parameters": sum(p.numel() for p in module.trainable.values()),
        "effective_parameters": model.learner.effective_parameters() + trained,
        "seconds": round(module.seconds_before + seconds, 1),
        "peak_memory": peak_memory(),
        "found": dict(model.learner.found_figures),
        "classnames": data.classnames,
        "selected": data.selection(),
        "bad_images": {"count": len(bad_images), "names": list(bad_images[:100])},
        "versions": versions(),
        # saved prompts are evaluated with the settings that they were trained with, not with those of the command line
        "config": job.config | {"method": job.config["method"] | run.settings},
    }


def opening(job: Job, run: Assembly, trainer: Trainer) -> str:
    """The text printed at the start: what is run, what it starts from, and where its results go."""
    config, data, module = job.config, run.data, run.module
    count = sum(p.numel() for p in module.trainable.values())
    trained_on = getattr(data, "trained_on", f"{len(data.classnames)} classes, {len(data.train_items)} training images")
    ranks = f", {trainer.world_size} ranks" if trainer.world_size > 1 else ""
    work = f"{config['epochs']} epochs, batch {config['batch_size']}{ranks}, {config['precision']}"
    if not config["fit"]:
        work = f"evaluation of {config['ckpt']}"
    elif not run.learner.uses_gradients:
        work = "nothing to train by gradients"
    recipes = config["recipes"]["used"] if config["fit"] else []
    lines = [
        f"{job.names['method']} on {job.names['data']} (clip {job.names['clip']}, protocol {job.names['protocol']}), "
        f"{shots_text(config['shots'])}, seed {config['seed']}",
        f"{trained_on}, {count:,} trainable parameters",
        work,
        f"recipes: {', '.join(recipes)}" if recipes else "",
        run.start,
        f"nothing is kept: {', '.join(job.cuts)} runs only a part" if job.cuts else f"results: {job.folder}",
    ]
    return "\n  ".join(filter(None, lines))


def table(module: TaskModule, result: Mapping[str, Any]) -> str:
    """The evaluations of a result as lines, with the protocol's summaries."""
    lines = {name: module.line(numbers) for name, numbers in result["metrics"].items()}
    lines |= {name: module.figure.text(summary["value"]) for name, summary in result["summary"].items()}
    width = max(12, *map(len, lines))
    return "\n".join(f"{name:>{width}}   {line}" for name, line in lines.items())


def brief(result: Mapping[str, Any]) -> str:
    """The main figure of each evaluation, in one line."""
    key, unit = result["figure"]["key"], result["figure"]["unit"]
    return ", ".join(f"{name} {numbers[key]:.1f} {unit}".rstrip() for name, numbers in result["metrics"].items())
