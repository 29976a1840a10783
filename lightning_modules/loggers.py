"""Loggers; each is made from the run's folder, title and resolved config. W&B is imported only when it is chosen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger


def none(folder: Path, title: str, settings: dict[str, Any]) -> bool:
    return False


def csv(folder: Path, title: str, settings: dict[str, Any]) -> Logger:
    """`metrics.csv` in the run's folder. A resumed run starts a new file and keeps the earlier ones, numbered."""
    metrics = folder / "metrics.csv"
    if metrics.exists():
        metrics.rename(folder / f"metrics-{len(list(folder.glob('metrics-*.csv'))) + 1}.csv")
    return CSVLogger(str(folder), name="", version="")


def wandb(folder: Path, title: str, settings: dict[str, Any], save_dir: str, **options: Any) -> Logger:
    """Kept outside the run's folder, which a failed run takes away: its log has to stay, marked as failed."""
    from lightning.pytorch.loggers import WandbLogger

    Path(save_dir).mkdir(parents=True, exist_ok=True)
    return WandbLogger(name=title, save_dir=save_dir, config=settings, **options)


def finish(exit_code: int) -> None:
    """Ends a W&B run, if there is one, inside the job and with its status: a failed job is marked failed."""
    module = sys.modules.get("wandb")
    if module is not None and getattr(module, "run", None) is not None:
        module.finish(exit_code=exit_code)
