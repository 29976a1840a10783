"""The report's sections for segmentation: all numbers, the IoU of each class, and images with the label maps predicted by each
method. `conf/task/segmentation.yaml` names this module."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from markupsafe import Markup

from reports.cards import Lines, Pictures, cards
from reports.compare import Benchmark, benchmarks
from reports.groups import Group
from reports.numbers import all_numbers
from reports.pieces import folded, grid, note
from reports.samples import Sample
from reports.style import Palette
from reports.tables import Table

TITLES = {"miou": "mIoU, %", "macc": "mean accuracy of classes, %", "aacc": "accuracy of pixels, %"}
MOST_CLASSES = 1000  # rows of a table


def sections(groups: Sequence[Group], tables: Sequence[Table], palette: Palette) -> list[tuple[str, Markup]]:
    """The sections of segmentation, each empty where the results have nothing for it."""
    pictures = Pictures("truth", "prediction", colours)
    return [
        ("All numbers", all_numbers(groups, TITLES)),
        ("IoU by class", by_class(groups)),
        ("Images and their classes", cards(groups, lambda sample: [], of_method, pictures)),
    ]


def colours(sample: Sample) -> list[tuple[str, str]]:
    """The colour and the name of each class of an image."""
    return [(colour, name) for name, _, colour in sample.fields["classes"]]


def of_method(sample: Sample) -> Lines:
    """The image's mIoU, and the IoU of each class that is in its truth or its prediction."""
    lines = [(f"{name} {iou:.0f} %", "") for name, iou, _ in sample.fields["classes"]]
    return [(f"mIoU {sample.fields['miou']:.1f} %", ""), *lines]


def by_class(groups: Sequence[Group]) -> Markup:
    """A table for each benchmark and evaluation: the IoU of each class by method, mean over seeds."""
    parts = []
    for benchmark in benchmarks(groups):
        for evaluation in benchmark.evaluations:
            if rows := class_rows(benchmark, evaluation):
                head = ["class", "pixels", *benchmark.groups]
                parts.append((f"{benchmark.title}: {evaluation}", grid(head, rows)))
    if not parts:
        return Markup()
    about = "In %, mean over seeds. A class without any pixel, in the truth or the predictions, has none and is in no mean."
    return note(about) + folded(parts)


def class_rows(benchmark: Benchmark, evaluation: str) -> list[list[str]]:
    """Class, share of the pixels, and IoU by method; empty without classes, or where the methods' classes differ."""
    columns = [ious(group, evaluation) for group in benchmark.groups.values()]
    names = [[name for name, _ in column] for column in columns]
    if not columns or not names[0] or any(other != names[0] for other in names):
        return []
    first = next(iter(next(iter(benchmark.groups.values())).runs.values())).result["metrics"][evaluation]
    pixels = [f"{n:,}" if type(n := entry.get("pixels")) is int else "" for entry in first["per_class"]]
    by_method = zip(*([value for _, value in column] for column in columns), strict=True)
    rows = zip(names[0], pixels, by_method, strict=True)
    return [[name, count, *map(_cell, values)] for name, count, values in rows][:MOST_CLASSES]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def ious(group: Group, evaluation: str) -> list[tuple[str, float | None]]:
    """Class name and IoU in percent, mean over the seeds that have one."""
    if evaluation not in group.evaluations:
        return []
    rows = [run.result["metrics"][evaluation].get("per_class", []) for run in group.runs.values()]
    if len({len(row) for row in rows}) > 1:
        return []
    found = []
    for entries in zip(*rows, strict=True):
        values = [entry["iou"] for entry in entries if type(entry.get("iou")) in (int, float)]
        found.append((entries[0]["class"], statistics.mean(values) if values else None))
    return found
