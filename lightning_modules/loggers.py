"""Loggers; each is made from the run's folder, title and resolved config. W&B is imported only when it is chosen."""

from __future__ import annotations

import inspect
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger

from prompts.parts.words import context_words
from prompts.prompted_clip import PromptedCLIP
from reports.collect import Run
from runs.jobs import RESULT
from runs.result import load_result

CLASSES_DRAWN = 100  # W&B keeps a row per cell of a confusion matrix and draws 10,000 of them


def none(folder: Path, title: str, settings: dict[str, Any]) -> bool:
    return False


def csv(folder: Path, title: str, settings: dict[str, Any]) -> Logger:
    """`metrics.csv` in the run's folder. A resumed run starts a new file and keeps the earlier ones, numbered."""
    metrics = folder / "metrics.csv"
    if metrics.exists():
        metrics.rename(folder / f"metrics-{len(list(folder.glob('metrics-*.csv'))) + 1}.csv")
    return CSVLogger(str(folder), name="", version="")


def wandb(
    folder: Path,
    title: str,
    settings: dict[str, Any],
    save_dir: str,
    tags: Sequence[str] = (),
    project: str = "prompts",
    entity: str | None = None,
    offline: bool = False,
    **options: Any,
) -> Logger:
    """A run grouped by protocol, data and method, so that seeds and shots of a method stand together.

    Kept outside the run's folder, which a failed run takes away: its log has to stay, marked as failed.
    """
    import wandb as module
    from lightning.pytorch.loggers import WandbLogger

    known = {*inspect.signature(WandbLogger).parameters, *inspect.signature(module.init).parameters}
    if unknown := sorted(set(options) - known):
        raise ValueError(f"logger.{unknown[0]} is no option of Weights & Biases: leave it out.")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    protocol, data, clip, method = folder.parts[-6:-2]  # as jobs.describe lays it out
    names = {"protocol": protocol, "data": data, "clip": clip, "method": method}
    return WandbLogger(
        name=title,
        group=f"{protocol}/{data}/{method}",
        job_type="train" if settings["fit"] else "evaluate",
        tags=[*names.values(), f"{settings['shots']} shots", *tags],
        save_dir=str(Path(save_dir).resolve()),  # W&B's own process may stand elsewhere
        config={**settings, "names": names, "folder": str(folder)},
        project=project,
        entity=entity,
        offline=offline,
        **options,
    )


def log_pictures(loggers: Sequence[Logger], files: Sequence[Path]) -> None:
    """What a learner drew, for the loggers that take pictures (W&B), under the file's name."""
    for logger in loggers:
        for file in files:
            if file.suffix == ".png" and hasattr(logger, "log_image"):
                logger.log_image(key=file.stem, images=[str(file)])


def log_words(loggers: Sequence[Logger], model: PromptedCLIP) -> None:
    """The learned context in words, for the loggers that take tables (W&B)."""
    for logger in loggers:
        if hasattr(logger, "log_table") and (rows := context_words(model)):
            logger.log_table("prompt words", columns=["tensor", "vector", "nearest words"], data=[list(row) for row in rows])


def finish(exit_code: int) -> None:
    """Ends a W&B run, if there is one, inside the job and with its status: a failed job is marked failed."""
    module = sys.modules.get("wandb")
    if module is not None and getattr(module, "run", None) is not None:
        result = Path(module.run.config.get("folder", ""), RESULT)
        if exit_code == 0 and result.is_file():
            log_result(module.run, result)
        module.finish(exit_code=exit_code)


def log_result(run: Any, path: Path) -> None:
    """Summary, a table of the evaluations, one of the classes, and confusion matrices, from a finished job's result.json."""
    import wandb as module

    result = load_result(path)
    metrics = result["metrics"]
    run.summary.update({key: result[key] for key in ("trainable_parameters", "seconds", "peak_memory", "epoch", "digest")})
    if {"base", "new"} <= set(metrics):
        run.summary["H"] = statistics.harmonic_mean([metrics[name]["accuracy"] for name in ("base", "new")])
    keys = ("accuracy", "macro_f1", "images")
    rows = [[name, *(each[key] for key in keys)] for name, each in metrics.items()]
    classes = [[name, c["class"], c["accuracy"], c["images"]] for name, each in metrics.items() for c in each["per_class"]]
    logged = {
        "evaluations": module.Table(columns=["evaluation", *keys], data=rows),
        "classes": module.Table(columns=["evaluation", "class", "accuracy", "images"], data=classes),
    }
    for name, each in metrics.items():
        found = Run(path, result).predictions(name)
        if found is not None and len(each["per_class"]) <= CLASSES_DRAWN:
            logged[f"{name}/confusion"] = module.plot.confusion_matrix(
                y_true=found.label_N.tolist(),
                preds=found.predicted_N.tolist(),
                class_names=[c["class"] for c in each["per_class"]],
                title=f"{name}: confusion matrix",
            )
    run.log(logged)


def report_to_wandb(project: str, folder: Path, title: str, rows: list[list[Any]], page: str) -> None:
    """A report as a run of its own: its figures (the first row names the columns) as a table, and the page."""
    import wandb as module

    with module.init(project=project, name=title, job_type="report", dir=folder, tags=["report"]) as run:
        run.log({"figures": module.Table(columns=rows[0], data=rows[1:]), "page": module.Html(page, inject=False)})
