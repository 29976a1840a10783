"""Tables of all numbers that a task measured, for tasks that have more than their main figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from reports import plots
from reports.compare import benchmarks
from reports.groups import Group
from reports.pieces import figures, grid, heading, legend, note
from reports.stats import Spread, spread
from reports.style import Palette

MOST_COLUMNS = 60  # of one table
COUNTS = ("images", "captions", "questions", "expressions", "pairs")  # are no measurement of a method


def numbers(metrics: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """The numbers of an evaluation by name; one within a mapping has the mapping's name in front: "in-domain cider"."""
    found: dict[str, float] = {}
    for key, value in metrics.items():
        name = f"{above} {key}".strip()
        if isinstance(value, Mapping):
            found |= numbers(value, name)
        elif isinstance(value, int | float) and not isinstance(value, bool) and key not in COUNTS:
            found[name] = float(value)
    return found


def spreads(group: Group, evaluation: str) -> dict[str, Spread]:
    """Each number of an evaluation over the seeds that have it."""
    by_seed = [numbers(run.result["metrics"][evaluation]) for run in group.runs.values()]
    names = dict.fromkeys(name for found in by_seed for name in found)
    return {name: spread([found[name] for found in by_seed if name in found]) for name in names}


def all_numbers(groups: Sequence[Group], titles: Mapping[str, str]) -> Markup:
    """A table for each benchmark and evaluation, a row for each method.

    Args:
        titles: of numbers, by their names; others are shown under their names.
    """
    text = Markup()
    for benchmark in benchmarks(groups):
        for evaluation in benchmark.evaluations:
            able = {label: group for label, group in benchmark.groups.items() if evaluation in group.evaluations}
            rows = {label: spreads(group, evaluation) for label, group in able.items()}
            columns = list(dict.fromkeys(name for cells in rows.values() for name in cells))[:MOST_COLUMNS]
            head = ["", *(titles.get(name, name.replace("_", " ")) for name in columns)]
            text += heading(f"{benchmark.title}: {evaluation}")
            text += grid(head, [[label, *(cell(cells.get(name)) for name in columns)] for label, cells in rows.items()])
    return note("Mean ± population standard deviation over seeds.") + text if text else text


def cell(value: Spread | None) -> str:
    """Mean and standard deviation; empty for none."""
    if value is None:
        return ""
    return f"{value.mean:.2f}" + ("" if value.std is None else f" ± {value.std:.2f}")


def against(groups: Sequence[Group], names: Mapping[int, str], palette: Palette, ylabel: str, xlabel: str) -> Markup:
    """Plots of numbers against K, one for each benchmark and evaluation that has several of them.

    Args:
        names: the number's name by K, such as {1: "image_to_text_r1"}.
    """
    drawn, labels = [], []
    for benchmark in benchmarks(groups):
        for evaluation in benchmark.evaluations:
            lines = {}
            for label, group in benchmark.groups.items():
                found = spreads(group, evaluation) if evaluation in group.evaluations else {}
                if len(points := [(k, found[name]) for k, name in names.items() if name in found]) > 1:
                    lines[label] = points
            if lines:
                labels += lines
                drawn.append(plots.against_plot(lines, palette, (xlabel, ylabel), f"{benchmark.title}: {evaluation}"))
    return legend(palette, labels) + figures(drawn) if drawn else Markup()
