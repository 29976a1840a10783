"""The report's sections for detection: all numbers, the classes, and images with the boxes that each method found.
`conf/task/detection.yaml` names this module."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from files.untrusted import visible
from reports.cards import Lines, Pictures, cards
from reports.compare import Benchmark, benchmarks
from reports.groups import Group
from reports.numbers import all_numbers
from reports.pieces import folded, grid, note
from reports.samples import Sample
from reports.style import Palette
from reports.tables import Table

AT = {
    "map": "{} mAP, %", "map_50": "{} mAP at IoU 0.5, %", "map_75": "{} mAP at IoU 0.75, %", "map_small": "small {}es, mAP, %",
    "map_medium": "medium {}es, mAP, %", "map_large": "large {}es, mAP, %",
}  # fmt: skip
TITLES = {key: text.format("box") for key, text in AT.items()}
TITLES |= {f"mask_{key}": text.format("mask").replace("maskes", "masks") for key, text in AT.items()}
MOST_CLASSES = 1000  # rows of a table


def sections(groups: Sequence[Group], tables: Sequence[Table], palette: Palette) -> list[tuple[str, Markup]]:
    """The sections of detection, each empty where the results have nothing for it."""
    return [
        ("All numbers", all_numbers(groups, TITLES)),
        ("Box mAP by class", by_class(groups)),
        ("Images and their boxes", cards(groups, of_image, of_method, Pictures("truth", "prediction", colours))),
    ]


def colours(sample: Sample) -> list[tuple[str, str]]:
    """The colour and the name of each class that is in the image or was found there."""
    return [(entry[-1], entry[0]) for entry in (*sample.fields["objects"], *sample.fields["found"])]


def of_image(sample: Sample) -> list[str]:
    """The classes of the image's objects."""
    return [", ".join(entry[0] for entry in sample.fields["objects"]) or "no objects"]


def of_method(sample: Sample) -> Lines:
    """F1 of the boxes with a high score, and each of these boxes with its score."""
    lines = [(f"{name} {score:.0f} %", "") for name, score, _ in (entry for entry in sample.fields["found"] if len(entry) == 3)]
    return [(f"F1 {sample.fields['f1']:.0f} %", ""), *lines]


def by_class(groups: Sequence[Group]) -> Markup:
    """A table for each benchmark and evaluation: the box mAP of each class by method, mean over seeds."""
    parts = []
    for benchmark in benchmarks(groups):
        for evaluation in benchmark.evaluations:
            if rows := class_rows(benchmark, evaluation):
                parts.append((f"{benchmark.title}: {evaluation}", grid(["class", "objects", *benchmark.groups], rows)))
    if not parts:
        return Markup()
    return note("In %, mean over seeds. A class without objects has none and is in no mean.") + folded(parts)


def class_rows(benchmark: Benchmark, evaluation: str) -> list[list[str]]:
    """Class, number of objects, and mAP by method; empty without classes, or where the methods' classes differ."""
    columns = [of_group(group, evaluation) for group in benchmark.groups.values()]
    names = [[name for name, _, _ in column] for column in columns]
    if not columns or not names[0] or any(other != names[0] for other in names):
        return []
    values = zip(*([value for _, _, value in column] for column in columns), strict=True)
    counts = [f"{count:,}" if type(count) is int else "" for _, count, _ in columns[0]]
    cells = [["" if value is None else f"{value:.2f}" for value in row] for row in values]
    return [[name, count, *row] for name, count, row in zip(names[0], counts, cells, strict=True)][:MOST_CLASSES]


def of_group(group: Group, evaluation: str) -> list[tuple[str, int | None, float | None]]:
    """Class name, number of objects and mAP in percent, mean over the seeds that have one."""
    if evaluation not in group.evaluations:
        return []
    rows = [_entries(run.result["metrics"][evaluation].get("by_class")) for run in group.runs.values()]
    if len({len(row) for row in rows}) > 1:
        return []
    found = []
    for entries in zip(*rows, strict=True):
        values = [entry["map"] for entry in entries if type(entry.get("map")) in (int, float)]
        found.append((entries[0]["class"], entries[0].get("objects"), statistics.mean(values) if values else None))
    return found


def _entries(value: Any) -> list[dict[str, Any]]:
    """The classes of a result, which anyone may have made; empty where the value is not a list of classes."""
    rows = value if isinstance(value, list) else []
    named = [row for row in rows if isinstance(row, dict) and isinstance(row.get("class"), str)]
    return [{**row, "class": visible(row["class"][:200])} for row in named]
