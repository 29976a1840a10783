"""Loggers of a run: any of Lightning's, several at once. What they show beside numbers: lightning_modules/shown.py."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger
from omegaconf import DictConfig

from lightning_modules.boards import boards_of
from lightning_modules.shown import show_result
from runs.arguments import import_target, make
from runs.identity import configuration
from runs.jobs import RESULT, Job
from runs.shots import shots_text


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
    return [_make_logger(node[name], f"logger.{name}", job) for name in node if node[name] is not None]  # type: ignore[str-bytes-safe]


def _make_logger(node: DictConfig, where: str, job: Job) -> Logger:
    try:
        parameters = inspect.signature(import_target(node["_target_"], f"{where}._target_")).parameters
    except ValueError:  # a builtin type, which has no signature
        parameters = MappingProxyType({})
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
    """A run of W&B. A group is one configuration over its seeds.

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
        group=group_of(job),
        job_type="train" if job.config["fit"] else "evaluate",
        tags=[*names.values(), shots_text(job.config["shots"]), *tags],
        save_dir=str(Path(save_dir).resolve()),  # W&B's own process may have another working directory
        config={**job.config, "names": names, "folder": str(job.folder)},
        project=project,
        entity=entity,
        offline=offline,
        **options,
    )


def group_of(job: Job) -> str:
    """The configuration of a run without its seed, as W&B's group: in words, and by digest, as words leave settings out."""
    title = job.title.removesuffix(f", seed {job.config['seed']}")
    kind = "" if job.config["fit"] else ", evaluated"
    return f"{title}, {job.names['protocol']}{kind} #{configuration(job.config, job.names)[:6]}"[-128:]  # W&B's limit


def finish(exit_code: int, loggers: Sequence[Logger] = (), folder: Path | None = None) -> None:
    """Ends the loggers of a run: shows its result, and gives the job's exit status to W&B, which marks failed runs by it.

    Args:
        folder: the run's, whose result.json is shown if the run has not failed.
    """
    if exit_code == 0 and folder and (folder / RESULT).is_file():
        for board in boards_of(loggers):
            show_result(board, folder / RESULT)
            board.end()
    module = sys.modules.get("wandb")
    if module is not None and getattr(module, "run", None) is not None:
        module.finish(exit_code=exit_code)


def report_to_wandb(project: str, folder: Path, title: str, rows: list[list[Any]], page: str) -> None:
    """Logs a report as a W&B run of its own: its figures as a table, whose columns the first row names, and its page."""
    import wandb as module

    with module.init(project=project, name=title, job_type="report", dir=folder, tags=["report"]) as run:
        run.log({"figures": module.Table(columns=rows[0], data=rows[1:]), "page": module.Html(page, inject=False)})
