"""The rows of tables: a label's figures by column, and their summaries, computed as papers do: the harmonic mean of the means,
not the mean of each seed's (or dataset's) harmonic mean."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reports.groups import Group
from reports.published import Published, published_figures
from reports.stats import Spread, spread
from runs.result import Summary
from runs.shots import shots_text
from runs.summaries import summary_value


@dataclass(frozen=True)
class Row:
    """A label's cells by column (none where nothing was run), and the published figures of the same columns."""

    label: str
    cells: dict[str, Spread]
    published: dict[str, Published]
    seeds: tuple[tuple[int, ...], ...]  # the seeds of each of the row's groups

    def difference(self, column: str) -> float | None:
        """Ours minus published; None where one of them is missing."""
        if column not in self.cells or column not in self.published:
            return None
        return self.cells[column].mean - self.published[column].value


def by(groups: Iterable[Group], key: Callable[[Group], Any]) -> dict[Any, list[Group]]:
    """The groups by this key, in order."""
    split: dict[Any, list[Group]] = defaultdict(list)
    for group in groups:
        split[key(group)].append(group)
    return split


# ---- values: of the groups of one label, column -> seed -> main figure

Values = dict[str, dict[int, float]]


@dataclass(frozen=True)
class Figures:
    """The main figure of the groups of one label, and the same after each earlier stage."""

    values: Values
    stages: list[Values] = field(default_factory=list)


def by_shots(groups: list[Group]) -> Figures:
    """Columns are training images per class; of groups that have one evaluation each."""
    ordered = sorted(groups, key=lambda g: g.shots % 10**9)  # shots=-1, all images, comes last
    return Figures({shots_text(g.shots): g.by_seed(g.evaluations[0]) for g in ordered})


def by_evaluation(groups: list[Group]) -> Figures:
    """Columns are evaluations."""
    return Figures({name: group.by_seed(name) for group in groups for name in group.evaluations}, groups[0].stages)


def mean_of(figures: Sequence[Figures]) -> Figures:
    """The mean over datasets, of the columns that all have."""
    stages = [_mean_values(stage) for stage in zip(*(part.stages for part in figures), strict=False)]
    return Figures(_mean_values([part.values for part in figures]), stages)


def _mean_values(values: Sequence[Values]) -> Values:
    columns = dict.fromkeys(column for part in values for column in part)
    return {c: _mean_by_seed([part[c] for part in values]) for c in columns if all(c in part for part in values)}


def _mean_by_seed(by_seed: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The mean over datasets with different seeds: the mean of their means, stored as that of a single seed 0."""
    if len({tuple(part) for part in by_seed}) == 1:
        return {seed: statistics.mean(part[seed] for part in by_seed) for seed in by_seed[0]}
    return {0: statistics.mean(statistics.mean(part.values()) for part in by_seed)}


# ---- rows and their summaries


def summaries(groups: Iterable[Group]) -> dict[str, Summary]:
    """The summaries by name, over the evaluations of all groups together, as averages over fewer targets are not comparable.
    Names that are also an evaluation's, or have two functions, are left out."""
    groups = list(groups)
    united: dict[str, Summary] = {}
    for group in groups:
        for name, entry in group.summary.items():
            known = united.setdefault(name, {**entry, "evaluations": []})
            known["evaluations"] = list(dict.fromkeys([*known["evaluations"], *entry["evaluations"]]))
    functions = {(name, entry["function"]) for group in groups for name, entry in group.summary.items()}
    evaluations = {name for group in groups for name in group.evaluations}
    several = {name for name, count in Counter(name for name, _ in functions).items() if count > 1}
    return {name: entry for name, entry in united.items() if name not in evaluations | several}


def summary_cell(entry: Summary, figures: Figures, higher_is_better: bool) -> Spread | None:
    """The function of the means, with the spread of the seeds' own; None where the row lacks one of the evaluations."""
    names = entry["evaluations"]
    if any(name not in figures.values for name in names):
        return None

    def value(of: Callable[[Mapping[int, float]], float]) -> float:
        stages = [{name: of(by_seed) for name, by_seed in stage.items()} for stage in figures.stages]
        return summary_value(entry["function"], names, {n: of(figures.values[n]) for n in names}, stages, higher_is_better)

    everything = [figures.values[n] for n in names] + [by_seed for stage in figures.stages for by_seed in stage.values()]
    shared = [seed for seed in everything[0] if all(seed in by_seed for by_seed in everything)]
    try:
        of_means = value(lambda by_seed: statistics.mean(by_seed.values()))
        of_seeds = [value(lambda by_seed, seed=seed: by_seed[seed]) for seed in shared]  # type: ignore[misc]
    except ValueError:  # forgetting, where no earlier stage has these evaluations
        return None
    return replace(spread(of_seeds), mean=of_means) if of_seeds else Spread(of_means)


def make_row(label: str, figures: Figures, summary: dict[str, Summary], groups: list[Group], data: str | None) -> Row:
    """The row of one label.

    Args:
        groups: the groups whose figures these are.
        data: as of `published_figures`.
    """
    cells = {column: spread(list(by_seed.values())) for column, by_seed in figures.values.items()}
    for name, entry in summary.items():
        if (cell := summary_cell(entry, figures, groups[0].figure["higher_is_better"])) is not None:
            cells[name] = cell
    return Row(label, cells, published_figures(groups, data), tuple(dict.fromkeys(tuple(group.runs) for group in groups)))
