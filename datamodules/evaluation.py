"""An evaluation: the images of one split and class subset, and the class list or the texts that they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader


@dataclass
class Evaluation:
    """The images and classes that a task is measured on. Built once per run.

    Args:
        name: names the metrics in result.json and in the loggers.
        classnames: the class list, in the order of the labels; empty where there are no classes.
        images: how many images there are.
        loader: (rank, world) -> that rank's share, over all ranks each image once.
        metrics: the task's torchmetrics; its module makes new ones when the evaluation starts.
        items: the images' annotations, by the index in a batch (`datamodules.captioned.CaptionedImage`,
            `datamodules.questions.Question`); empty where an image has a label alone.
        list_name: the dataset's own name of the list, such as testA; "" where it has none.
    """

    name: str
    classnames: list[str]
    images: int
    loader: Callable[[int, int], DataLoader]
    metrics: Any = None
    items: Sequence = ()
    list_name: str = ""
