"""An evaluation: the images of one split and class subset, and the class list to classify them against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader


@dataclass
class Evaluation:
    """The images and classes that a task is measured on. Built once per run.

    Args:
        name: names the metrics in result.json and in the loggers.
        classnames: the class list, in the order of the labels.
        images: how many images there are.
        loader: (rank, world) -> that rank's share, over all ranks each image once.
        metrics: the task's torchmetrics; its module makes new ones when the evaluation starts.
    """

    name: str
    classnames: list[str]
    images: int
    loader: Callable[[int, int], DataLoader]
    metrics: Any = None
