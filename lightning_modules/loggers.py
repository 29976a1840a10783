"""Loggers of a run: any of Lightning's, several at once; and pictures, tables and exit statuses for those that take them."""

from __future__ import annotations

import base64
import inspect
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
from lightning.pytorch.loggers import CSVLogger, Logger
from omegaconf import DictConfig

from prompts.parts.words import context_words
from prompts.prompted_clip import PromptedCLIP
from reports.groups import Run
from runs.arguments import import_target, make
from runs.jobs import RESULT, Job
from runs.result import load_result
from runs.shots import shots_text

CLASSES_DRAWN = 100  # W&B keeps a row per cell of a confusion matrix and draws 10,000 of them


def make_loggers(node: DictConfig, job: Job) -> list[Logger]:
    """The loggers of a run. Nothing is written before the run logs something.

    Args:
        node: one logger (a `_target_` with its arguments), or a mapping of loggers by any name; empty for none.
        job: gives each logger what its constructor takes and the node does not say: `save_dir`, the run's folder; `name`, the
            run's title, unless the constructor has a name of its own; `job` itself.

    Raises:
        ValueError: a package is missing, or what is made is no logger of Lightning's.
    """
    if "_target_" in node:
        return [_make_logger(node, "logger", job)]
    return [_make_logger(node[name], f"logger.{name}", job) for name in node if node[name] is not None]


def _make_logger(node: DictConfig, where: str, job: Job) -> Logger:
    try:
        parameters = inspect.signature(import_target(node["_target_"], f"{where}._target_")).parameters
    except ValueError:  # a builtin type, which has no signature
        parameters = {}
    available = {"save_dir": str(job.folder), "job": job}
    if "name" in parameters and parameters["name"].default in (None, inspect.Parameter.empty):
        available["name"] = job.title
    given = {key: value for key, value in available.items() if key in parameters and node.get(key) is None}
    try:
        logger = make(node, _partial_=True)(**given)  # as arguments of Hydra's the job's own `_target_`s would be made too
    except ValueError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise ValueError(f"{where}._target_={node['_target_']} {_missing_package(error.__cause__)}") from error
        raise
    if not isinstance(logger, Logger):
        raise ValueError(
            f"{where}._target_={node['_target_']} makes a {type(logger).__name__}: name a class of Lightning's Logger."
        )
    return logger


def _missing_package(error: ModuleNotFoundError) -> str:
    """The end of a sentence about a missing package, whose name stands in the text of Lightning's error."""
    names = re.findall(r"[`']([A-Za-z][\w.-]*)", error.name or str(error)) or [error.name or "it"]
    return f"needs the package {names[0]}, which is not installed: pip install {names[0]}"


def csv(save_dir: str) -> Logger:
    """`metrics.csv` in the run's folder. A resumed run starts a new file and keeps the earlier ones, numbered."""
    folder = Path(save_dir)
    metrics = folder / "metrics.csv"
    if metrics.exists():
        metrics.rename(folder / f"metrics-{len(list(folder.glob('metrics-*.csv'))) + 1}.csv")
    return CSVLogger(save_dir, name="", version="")


def wandb(
    job: Job,
    save_dir: str,
    name: str | None = None,
    tags: Sequence[str] = (),
    project: str = "prompts",
    entity: str | None = None,
    offline: bool = False,
    **options: Any,
) -> Logger:
    """A run of W&B, grouped by protocol, data and method, so that seeds and shots of a method stand together.

    Args:
        save_dir: outside the run's folder, which is removed where a run fails: its log stays, marked as failed.
        name: of the run; by default the job's title.
        tags: beside protocol, data, clip, method and shots.
        options: other arguments of Lightning's WandbLogger and of `wandb.init`.

    Raises:
        ValueError: an option that neither of the two takes.
    """
    import wandb as module
    from lightning.pytorch.loggers import WandbLogger

    known = {*inspect.signature(WandbLogger).parameters, *inspect.signature(module.init).parameters}
    if unknown := sorted(set(options) - known):
        raise ValueError(f"logger.{unknown[0]} is no option of Weights & Biases: leave it out.")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    protocol, data, clip, method = job.folder.parts[-6:-2]  # as jobs.describe lays it out: eval- before a protocol
    names = {"protocol": protocol, "data": data, "clip": clip, "method": method}
    return WandbLogger(
        name=name or job.title,
        group=f"{protocol}/{data}/{method}",
        job_type="train" if job.config["fit"] else "evaluate",
        tags=[*names.values(), shots_text(job.config["shots"]), *tags],
        save_dir=str(Path(save_dir).resolve()),  # W&B's own process may have another working directory
        config={**job.config, "names": names, "folder": str(job.folder)},
        project=project,
        entity=entity,
        offline=offline,
        **options,
    )


def log_pictures(loggers: Sequence[Logger], files: Sequence[Path]) -> None:
    """Logs the pictures among a learner's files, under their names, to the loggers that take pictures (W&B)."""
    for logger in loggers:
        for file in files:
            if file.suffix == ".png" and hasattr(logger, "log_image"):
                logger.log_image(key=file.stem, images=[str(file)])


def log_words(loggers: Sequence[Logger], model: PromptedCLIP) -> None:
    """Logs the words nearest to the learned context to the loggers that take tables (W&B)."""
    for logger in loggers:
        if hasattr(logger, "log_table") and (rows := context_words(model)):
            logger.log_table("prompt words", columns=["tensor", "vector", "nearest words"], data=[list(row) for row in rows])


def finish(exit_code: int) -> None:
    """Ends the W&B run of this process, if there is one, with the job's exit status: a failed job is marked failed."""
    module = sys.modules.get("wandb")
    if module is not None and getattr(module, "run", None) is not None:
        result = Path(module.run.config.get("folder", ""), RESULT)
        if exit_code == 0 and result.is_file():
            log_result(module.run, result)
        module.finish(exit_code=exit_code)


def log_result(run: Any, path: Path) -> None:
    """Logs a finished job's result.json to a W&B run: its summary, tables of evaluations, of classes and of samples,
    confusion matrices."""
    import wandb as module

    result = load_result(path)
    metrics = result["metrics"]
    run.summary.update({key: result[key] for key in ("trainable_parameters", "seconds", "peak_memory", "epoch", "digest")})
    run.summary.update({name: summary["value"] for name, summary in result["summary"].items()})
    keys = list(dict.fromkeys(key for numbers in metrics.values() for key in numbers if type(numbers[key]) in (int, float)))
    rows = [[name, *map(numbers.get, keys)] for name, numbers in metrics.items()]
    logged = {"evaluations": module.Table(columns=["evaluation", *keys], data=rows)}
    classes = [
        [name, entry["class"], entry["accuracy"], entry["images"]]
        for name, numbers in metrics.items()
        for entry in numbers.get("per_class", [])
    ]
    if classes:
        logged["classes"] = module.Table(columns=["evaluation", "class", "accuracy", "images"], data=classes)
    for name, numbers in metrics.items():
        predictions, per_class = Run(path, result).predictions(name), numbers.get("per_class", [])
        if predictions is not None and 0 < len(per_class) <= CLASSES_DRAWN:
            logged[f"{name}/confusion"] = module.plot.confusion_matrix(
                y_true=predictions.readable().label_N.tolist(),
                preds=predictions.readable().predicted_N.tolist(),
                class_names=[entry["class"] for entry in per_class],
                title=f"{name}: confusion matrix",
            )
    for name in metrics:
        if samples := Run(path, result).samples(name):
            fields = list(samples[0].fields)
            rows = [
                [sample.why, _wandb_picture(module, sample.picture), *map(_wandb_text, map(sample.fields.get, fields))]
                for sample in samples
            ]
            logged[f"{name}/samples"] = module.Table(columns=["why", "image", *fields], data=rows)
    run.log(logged)


def _wandb_text(value: Any) -> str:
    """A sample's entry as a cell: texts of a list beside each other."""
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _wandb_picture(module: Any, uri: str) -> Any:
    """A W&B image from a data URI of `reports.samples`; None where there is no picture."""
    if not uri:
        return None
    with PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return module.Image(image.convert("RGB"))


def report_to_wandb(project: str, folder: Path, title: str, rows: list[list[Any]], page: str) -> None:
    """Logs a report as a W&B run of its own: its figures as a table, whose columns the first row names, and its page."""
    import wandb as module

    with module.init(project=project, name=title, job_type="report", dir=folder, tags=["report"]) as run:
        run.log({"figures": module.Table(columns=rows[0], data=rows[1:]), "page": module.Html(page, inject=False)})
