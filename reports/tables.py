"""The field's tables: base/new/H, accuracy by shots, transfer from one dataset to others. Figures are percentages."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from reports.collect import Group
from reports.stats import Spread, spread

DATASETS = (
    *("imagenet", "caltech101", "oxford_pets", "stanford_cars", "flowers102", "food101"),
    *("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"),
)  # the eleven of the published averages
SHIFTED = ("imagenet_v2", "imagenet_sketch", "imagenet_a", "imagenet_r")
FIELD = {"cross_dataset": DATASETS[1:], "domain_generalization": SHIFTED}  # targets of the published averages
TRANSFER = tuple(FIELD)
AVERAGE, H = "average", "H"


@dataclass(frozen=True)
class Row:
    label: str
    cells: dict[str, Spread]  # by column; absent: nothing was run
    published: dict[str, float]
    seeds: tuple[tuple[int, ...], ...]  # of the groups behind the row

    def difference(self, column: str) -> float | None:
        if column not in self.cells or column not in self.published:
            return None
        return self.cells[column].mean - self.published[column]


@dataclass(frozen=True)
class Table:
    title: str
    columns: list[str]
    rows: list[Row]
    notes: list[str]
    summed_up: int = 0  # one of so many tables by dataset that an average stands for

    def best(self, column: str) -> float:
        return max((row.cells[column].mean for row in self.rows if column in row.cells), default=float("nan"))

    @property
    def has_published(self) -> bool:
        return any(row.difference(column) is not None for row in self.rows for column in self.columns)


def tables(groups: Iterable[Group]) -> list[Table]:
    """All tables: by protocol and backbone, averages before the datasets that they sum up."""
    found: list[Table] = []
    for (protocol, clip), members in split(groups, lambda g: (g.protocol, g.names["clip"])).items():
        title, before = f"{protocol}, clip {clip}", len(found)
        if protocol in TRANSFER:
            for (data, shots), each in split(members, lambda g: (g.names["data"], g.shots)).items():
                found.append(transfer(f"{title}, trained on {data}, {shots_text(shots)}", each))
        elif all(len(group.evaluations) == 1 for group in members):
            found += with_average(title, members, "", by_shots)
        else:
            for shots, each in split(members, lambda g: g.shots).items():
                found += with_average(title, each, f", {shots_text(shots)}", by_evaluation)
        with_published = [at for at in range(before, len(found)) if found[at].has_published]
        if with_published:  # once says it for all
            first = found[with_published[0]]
            found[with_published[0]] = replace(first, notes=[*first.notes, f"Published: {published()[protocol]['source']}."])
    return found


def split(groups: Iterable[Group], key: Callable[[Group], Any]) -> dict[Any, list[Group]]:
    parts: dict[Any, list[Group]] = defaultdict(list)
    for group in groups:
        parts[key(group)].append(group)
    return parts


def shots_text(shots: int) -> str:
    return "all images" if shots < 1 else f"{shots} shot{'s' * (shots > 1)}"


def shots_of(column: str) -> int | None:
    """The number in what `shots_text` gave; None for other columns, such as evaluations."""
    found = re.fullmatch(r"([0-9]{1,7}) shots?", column)
    return int(found[1]) if found else None


# ---- the kinds of table: each gives the columns, and for the groups of one label their accuracies by seed and column

Values = dict[str, dict[int, float]]  # column -> seed -> percent


def by_shots(groups: list[Group]) -> Values:
    return {shots_text(g.shots): g.accuracy(g.evaluations[0]) for g in sorted(groups, key=lambda g: g.shots % 10**9)}


def by_evaluation(groups: list[Group]) -> Values:
    return {name: group.accuracy(name) for group in groups for name in group.evaluations}


def with_average(title: str, groups: list[Group], suffix: str, values_of: Callable[[list[Group]], Values]) -> list[Table]:
    by_data = split(groups, lambda g: g.names["data"])
    found = []
    if len(by_data) > 1:
        rows, notes = [], []
        for label, members in split(groups, lambda g: g.label).items():
            parts = [values_of(each) for each in split(members, lambda g: g.names["data"]).values()]
            columns = [
                c for c in dict.fromkeys(c for part in parts for c in part) if sum(c in p for p in parts) == len(by_data)
            ]
            missing = sorted(set(by_data) - {group.names["data"] for group in members})
            if not columns:
                what = f"lacks {', '.join(missing)}" if missing else "has no column for all datasets"
                notes.append(f"{label} {what}: no average.")
                continue
            complete = set(by_data) == set(DATASETS)
            rows.append(
                row(label, {c: mean([part[c] for part in parts]) for c in columns}, members, AVERAGE if complete else None)
            )
        if rows:
            found.append(table(f"{title}{suffix}, average over {len(by_data)} datasets", rows, notes))
    for data, each in sorted(by_data.items(), key=lambda item: field_order(item[0])):
        rows = [row(label, values_of(members), members, data) for label, members in split(each, lambda g: g.label).items()]
        found.append(replace(table(f"{title}, {data}{suffix}", rows, []), summed_up=len(by_data)))
    return found


def transfer(title: str, groups: list[Group]) -> Table:
    """Columns: the source, the targets, and the targets' average, which leaves the source out."""
    source = groups[0].names["data"]
    targets = sorted({name for group in groups for name in group.evaluations} - {source}, key=field_order)
    rows, notes = [], []
    for group in groups:
        own = by_evaluation([group])
        values = {name: own[name] for name in (source, *targets) if name in own}
        missing = [name for name in targets if name not in own]
        if missing:
            notes.append(f"{group.label} lacks {', '.join(missing)}: no average.")
        elif targets:
            values[AVERAGE] = mean([own[name] for name in targets])
        rows.append(row(group.label, values, [group], source))
    if targets:
        notes.append(f"The average leaves {source} out.")
    return table(title, rows, notes)


def mean(parts: Sequence[dict[int, float]]) -> dict[int, float]:
    """Of several datasets' accuracies by seed. Where they have different seeds: of their means, as of a single seed 0."""
    if len({tuple(part) for part in parts}) == 1:
        return {seed: statistics.mean(part[seed] for part in parts) for seed in parts[0]}
    return {0: statistics.mean(statistics.mean(part.values()) for part in parts)}


def row(label: str, values: Values, groups: list[Group], data: str | None) -> Row:
    """`data`: whose published figures belong here, as of `figures`; None: there are none."""
    cells = {column: spread(list(by_seed.values())) for column, by_seed in values.items()}
    if {"base", "new"} <= set(cells):
        # as the field computes it: of the means, not the mean of each seed's (or dataset's) own
        h = statistics.harmonic_mean([cells["base"].mean, cells["new"].mean])
        shared = [seed for seed in values["base"] if seed in values["new"]]
        each = [statistics.harmonic_mean([values["base"][seed], values["new"][seed]]) for seed in shared]
        cells[H] = replace(spread(each), mean=h)
    return Row(label, cells, figures(groups[0], data), tuple(dict.fromkeys(tuple(group.runs) for group in groups)))


def table(title: str, rows: list[Row], notes: list[str]) -> Table:
    names = dict.fromkeys(column for row in rows for column in row.cells)
    columns = sorted(names, key=column_order)
    return Table(title, columns, rows, [*notes, *seed_notes(rows)])


def column_order(column: str) -> tuple:
    """Shots by their number, all images last; the harmonic mean and the average at the end; others as they come."""
    return (column == AVERAGE, column == H, column == "all images", shots_of(column) or 0)


def seed_notes(rows: list[Row]) -> list[str]:
    common = Counter(seeds for row in rows for seeds in row.seeds).most_common(1)[0][0]
    notes = [f"{seeds_text(common).capitalize()}."]
    for each in rows:
        if each.seeds != (common,):
            notes.append(f"{each.label}: {'; '.join(seeds_text(seeds) for seeds in each.seeds)}.")
    return notes


def seeds_text(seeds: tuple[int, ...]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def field_order(data: str) -> tuple[int, str]:
    known = (*DATASETS, *SHIFTED)
    return (known.index(data) if data in known else len(known), data)


# ---- published figures


@cache
def published() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("published.json").read_text())


def figures(group: Group, data: str | None) -> dict[str, float]:
    """Column -> published accuracy, for the group's protocol, backbone, shots and method; empty where there is none.

    `data`: the dataset, AVERAGE, or in the transfer protocols the dataset trained on.
    """
    known = published().get(group.protocol, {})
    if data is None or (known.get("clip"), known.get("shots")) != (group.names["clip"], group.shots):
        return {}
    found = dict(known.get(data, {}).get(group.names["method"], {}))
    if {"base", "new"} <= set(found):
        found.setdefault(H, statistics.harmonic_mean([found["base"], found["new"]]))
    if set(group.evaluations) - {data} != set(FIELD.get(group.protocol, group.evaluations)) - {data}:
        found.pop(AVERAGE, None)  # published over other datasets
    return found
