"""The content of published.json: published figures, and the usual order of methods and datasets in tables."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from files.untrusted import read_json
from runs.summaries import summary_value

if TYPE_CHECKING:
    from reports.groups import Group

AVERAGE = "average"  # stands for a dataset where figures are averages over datasets


@cache
def published() -> dict[str, Any]:
    """The content of published.json."""
    return read_json(Path(__file__).with_name("published.json"), "the published figures")


def method_rank(method: str) -> tuple[int, str]:
    """Sorts methods as the field's tables have them; others follow by name."""
    return _rank(method, published()["methods"])


def dataset_rank(data: str) -> tuple[int, str]:
    """Sorts datasets as the field's tables have them; others follow by name."""
    return _rank(data, published()["datasets"])


def _rank(name: str, order: list[str]) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)


def source(protocol: str) -> str:
    """Where a protocol's published figures are from."""
    return published()["protocols"][protocol]["source"]


def is_published_average(protocol: str, datasets: set[str]) -> bool:
    """Whether the published averages of a protocol are over these datasets."""
    return set(published()["protocols"].get(protocol, {}).get("average_over", [])) == datasets


def published_figures(group: Group, data: str | None) -> dict[str, float]:
    """Column -> published figure, for the group's task, protocol, backbone, shots and method; empty where there is none.

    Args:
        data: the dataset trained on, or `AVERAGE`; None: no published figures.
    """
    known = published()["protocols"].get(group.protocol, {})
    if data is None or (known.get("task"), known.get("figure")) != (group.task, group.figure["key"]):
        return {}
    if (known["clip"], known["shots"]) != (group.names["clip"], group.shots):
        return {}
    figures = dict(known["figures"].get(data, {}).get(group.names["method"], {}))
    for name, summary in group.summary.items():
        evaluations, published_over = summary["evaluations"], known.get("summaries", {}).get(name)
        if published_over and set(evaluations) - {data} != set(published_over) - {data}:
            figures.pop(name, None)  # the published average is over other datasets
        elif name not in figures and set(evaluations) <= set(figures) and not group.stages:
            figures[name] = summary_value(summary["function"], evaluations, figures)
    return figures
