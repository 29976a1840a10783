"""The results of many runs as a table and a plot.

    python report.py outputs               # every result.json below the folder
    python report.py outputs --markdown    # the table for a README

Runs that differ in nothing but the seed are one cell: mean and population standard deviation over their seeds, in percent.
The plot of accuracy against shots is written beside the results, as accuracy.png.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

ORDER = ("zeroshot", "linear_probe", "coop", "cocoop", "vpt", "ivlp", "maple")


@dataclass(frozen=True)
class Group:
    """Runs of one configuration over its seeds."""

    names: dict[str, str]  # protocol, data, clip, method
    shots: int
    digest: str  # of the configuration without the seed
    runs: dict[int, dict[str, Any]]  # seed -> result.json

    def accuracy(self, evaluation: str) -> list[float]:
        return [self.runs[seed]["metrics"][evaluation]["accuracy"] for seed in sorted(self.runs)]


def read(folder: Path) -> list[Group]:
    """The groups of all results below a folder; ValueError where there are none."""
    files = sorted(folder.rglob("result.json"))
    if not files:
        raise ValueError(f"there is no result.json below {folder}: give the folder that runs write to (run.py output=...).")
    runs: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for file in files:
        result = json.loads(file.read_text())
        runs[result["digest"]][result["seed"]] = result
    groups = []
    for digest, by_seed in runs.items():
        first = next(iter(by_seed.values()))
        groups.append(Group(first["names"], first["shots"], digest, by_seed))
    return sorted(
        groups, key=lambda g: (g.names["protocol"], g.names["data"], g.names["clip"], rank(g.names["method"]), g.shots)
    )


def rank(method: str) -> tuple[int, str]:
    return (ORDER.index(method) if method in ORDER else len(ORDER), method)


def spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.pstdev(values):.1f}"


@dataclass(frozen=True)
class Row:
    """One line of a table and of the plot: a method (and evaluation) over shots."""

    label: str
    values: dict[int, list[float]]  # shots -> accuracies over the seeds


def tables(groups: list[Group]) -> dict[str, list[Row]]:
    """title -> rows. Settings that share a method's name become rows of their own, told apart by their digest."""
    found: dict[str, dict[str, Row]] = defaultdict(dict)
    for group in groups:
        rows = found[f"{group.names['data']}, {group.names['protocol']}, clip {group.names['clip']}"]
        evaluations = list(next(iter(group.runs.values()))["metrics"])
        for evaluation in evaluations:
            label = group.names["method"] + (f" ({evaluation})" if len(evaluations) > 1 else "")
            if label in rows and group.shots in rows[label].values:
                label += f" #{group.digest}"
            rows.setdefault(label, Row(label, {})).values[group.shots] = group.accuracy(evaluation)
    return {title: list(rows.values()) for title, rows in found.items()}


def show(groups: list[Group], markdown: bool, console: Console) -> None:
    seeds = sorted({seed for group in groups for seed in group.runs})
    for title, rows in tables(groups).items():
        shots = sorted({count for row in rows for count in row.values})
        table = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
        table.add_column(title)
        for count in shots:
            table.add_column("all images" if count < 1 else f"{count} shot{'s' * (count > 1)}", justify="right")
        for row in rows:
            table.add_row(row.label, *(spread(row.values[count]) if count in row.values else "" for count in shots))
        console.print(table)
    console.print(f"accuracy in %, mean ± population standard deviation over seeds {', '.join(map(str, seeds))}")


def plot(groups: list[Group], path: Path) -> None:
    """Accuracy against shots: a line per row of the tables, a band of one standard deviation."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = tables(groups)
    figure, axes = plt.subplots(1, len(found), figsize=(5.5 * len(found), 4.2), squeeze=False, layout="constrained")
    for axis, (title, rows) in zip(axes[0], found.items(), strict=True):
        for row in rows:
            shots = sorted(row.values)
            means = [statistics.mean(row.values[count]) for count in shots]
            stds = [statistics.pstdev(row.values[count]) for count in shots]
            (line,) = axis.plot(shots, means, "--" if row.label.startswith("zeroshot") else "o-", label=row.label)
            low, high = ([m + sign * s for m, s in zip(means, stds, strict=True)] for sign in (-1, 1))
            axis.fill_between(shots, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        ticks = sorted({count for row in rows for count in row.values})
        axis.set_xscale("symlog", base=2)
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.set(title=title, xlabel="training images per class", ylabel="accuracy in %")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--markdown", action="store_true", help="tables as Markdown")
    options = parser.parse_args()
    try:
        groups = read(options.folder)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(groups, options.markdown, Console(width=200 if options.markdown else None))
    path = options.folder / "accuracy.png"
    plot(groups, path)
    if not options.markdown:
        print(f"plot of accuracy against shots: {path}\nresults: result.json in the folders below {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
