"""Tables of a task's main figure: by training images, by evaluation, from one dataset to others, by stage.

The content of the results decides which kinds of table there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from reports.groups import Group, best_of
from reports.published import AVERAGE, Published, dataset_rank, is_published_average, notes
from reports.rows import Figures, Row, by, by_evaluation, by_shots, make_row, mean_of, summaries
from runs.result import Figure, Summary
from runs.shots import shots_text

LOWER_IS_BETTER = ("forgetting",)  # for every figure; other summaries are better where their figure is


@dataclass(frozen=True)
class Table:
    """A table of one main figure, in its unit."""

    title: str
    figure: Figure
    columns: list[str]
    rows: list[Row]
    notes: list[str]
    shots: dict[str, int] = field(default_factory=dict)  # training images per class by column, where columns are these
    summary: dict[str, Summary] = field(default_factory=dict)  # of the columns that are summaries
    is_by_stage: bool = False  # rows are stages of one training, so none is marked as the best
    datasets: int = 0  # for a table of one dataset: number of datasets in the table of averages

    def best(self, column: str) -> float:
        """The best mean of a column; NaN where it is empty."""
        is_lower = column in self.summary and self.summary[column]["function"] in LOWER_IS_BETTER
        choose = min if is_lower else best_of(self.figure)
        return choose((row.cells[column].mean for row in self.rows if column in row.cells), default=float("nan"))

    @property
    def has_published(self) -> bool:
        """Whether a published figure stands beside one of ours."""
        return any(row.difference(column) is not None for row in self.rows for column in self.columns)

    @property
    def shown_published(self) -> list[Published]:
        """The published figures that are shown: of rows where one of them stands beside one of ours."""
        rows = [row for row in self.rows if any(row.difference(column) is not None for column in self.columns)]
        return [row.published[column] for row in rows for column in self.columns if column in row.published]


@dataclass(frozen=True)
class Part:
    """The results of one task with the same main figure, which may share tables and plots."""

    title: str  # empty where there is only one part
    task: str
    figure: Figure
    groups: list[Group]


def parts(groups: Iterable[Group]) -> list[Part]:
    """The groups by task and figure, in order."""
    split = by(groups, lambda g: (g.task, *g.figure.values()))
    tasks = Counter(task for task, *_ in split)
    result = []
    for (task, *_), members in split.items():
        figure = members[0].figure
        title = ", ".join([task] * (len(tasks) > 1) + [figure["title"]] * (tasks[task] > 1))
        result.append(Part(title, task, figure, members))
    return result


def tables(groups: Iterable[Group]) -> list[Table]:
    """All tables: by task, protocol and backbone, averages before the datasets that they are over."""
    result: list[Table] = []
    for part in parts(groups):
        for (protocol, clip), members in by(part.groups, lambda g: (g.protocol, g.names["clip"])).items():
            part_tables = _tables_of(", ".join(filter(None, [part.title, protocol, f"clip {clip}"])), members)
            first = next((at for at, table in enumerate(part_tables) if table.has_published), None)
            if first is not None:  # the sources are named once
                about = notes(figure for table in part_tables for figure in table.shown_published)
                part_tables[first] = replace(part_tables[first], notes=[*part_tables[first].notes, *about])
            result += part_tables
    return result


def _tables_of(title: str, groups: list[Group]) -> list[Table]:
    """The tables of one task, protocol and backbone: `transfer` for results with targets; else by shots where every result has
    one evaluation, and by evaluation otherwise."""
    result = []
    transferred, others = [g for g in groups if g.targets], [g for g in groups if not g.targets]
    for (data, shots), members in by(transferred, lambda g: (g.names["data"], g.shots)).items():
        result.append(transfer(f"{title}, trained on {data}, {shots_text(shots)}", members))
    if all(len(g.evaluations) == 1 and not g.summary and not g.stages for g in others):
        shots = {shots_text(group.shots): group.shots for group in others}
        result += with_average(title, others, "", by_shots, shots) if others else []
    else:
        for shots, members in by(others, lambda g: g.shots).items():
            result += with_average(title, members, f", {shots_text(shots)}", by_evaluation)
    in_stages = [group for group in groups if group.stages]
    for (data, shots), members in by(in_stages, lambda g: (g.names["data"], g.shots)).items():
        result.append(by_stage(f"{title}, {data}, {shots_text(shots)}, by stage", members))
    return result


# ---- kinds of table


def with_average(
    title: str,
    groups: list[Group],
    suffix: str,
    figures_of: Callable[[list[Group]], Figures],
    shots: dict[str, int] | None = None,
) -> list[Table]:
    """A table for each dataset; where there are several, the table of their average comes first."""
    by_data = by(groups, lambda g: g.names["data"])
    result = []
    if len(by_data) > 1:
        summary, rows, notes = summaries(groups), [], []
        for label, members in by(groups, lambda g: g.label).items():
            missing = sorted(set(by_data) - {group.names["data"] for group in members})
            figures = mean_of([figures_of(cell) for cell in by(members, lambda g: g.names["data"]).values()])
            if missing or not figures.values:
                what = f"lacks {', '.join(missing)}" if missing else "has no column for all datasets"
                notes.append(f"{label} {what}: no average.")
                continue
            data = AVERAGE if is_published_average(members[0].protocol, set(by_data)) else None
            rows.append(make_row(label, figures, summary, members, data))
        if rows:
            title_of_average = f"{title}{suffix}, average over {len(by_data)} datasets"
            result.append(make_table(title_of_average, rows, notes, groups, summary, shots))
    for data, cell in sorted(by_data.items(), key=lambda item: dataset_rank(item[0])):
        summary = summaries(cell)
        rows = [make_row(label, figures_of(g), summary, g, data) for label, g in by(cell, lambda g: g.label).items()]
        table = make_table(f"{title}, {data}{suffix}", rows, [], cell, summary, shots)
        result.append(replace(table, datasets=len(by_data)))
    return result


def transfer(title: str, groups: list[Group]) -> Table:
    """Columns: the evaluations on the dataset trained on, the targets, and their summaries."""
    data, summary = groups[0].names["data"], summaries(groups)
    targets = {name: dataset_rank(name) for group in groups for name in group.targets}
    rows = [make_row(group.label, by_evaluation([group]), summary, [group], data) for group in groups]
    table = make_table(title, rows, [], groups, summary)
    evaluations = [column for column in table.columns if column not in summary]
    # sorted() is stable: evaluations that are no targets stay in order
    ordered = sorted(evaluations, key=lambda column: (column in targets, targets.get(column, ())))
    without = [f"The {name} leaves {data} out." for name, entry in summary.items() if data not in entry["evaluations"]]
    columns = [*ordered, *(column for column in table.columns if column in summary)]
    return replace(table, columns=columns, notes=[*table.notes, *without])


def by_stage(title: str, groups: list[Group]) -> Table:
    """Rows: each label after each of its stages. Summaries stand in the row of the last one."""
    summary, rows = summaries(groups), []
    for group in groups:
        figures, count = by_evaluation([group]), len(group.stages) + 1
        for at, stage in enumerate(figures.stages, 1):
            rows.append(make_row(f"{group.label}, stage {at} of {count}", Figures(stage), {}, [group], None))
        rows.append(make_row(f"{group.label}, stage {count} of {count}", figures, summary, [group], None))
    # no notes about missing evaluations, which earlier stages always lack
    return replace(make_table(title, rows, [], groups, {}), summary=summary, is_by_stage=True)


def make_table(
    title: str,
    rows: list[Row],
    notes: list[str],
    groups: Sequence[Group],
    summary: dict[str, Summary],
    shots: dict[str, int] | None = None,
) -> Table:
    """The table of these rows. Its columns are evaluations in their order, or shots by number, and then the summaries."""
    shots, names = shots or {}, dict.fromkeys(column for row in rows for column in row.cells)
    # shots=-1, all images, comes after every number of shots
    columns = sorted(names, key=lambda column: (column in summary, shots.get(column, 0) < 0, shots.get(column, 0)))
    counted = {column: shots[column] for column in columns if shots.get(column, -1) >= 0}
    return Table(
        title, groups[0].figure, columns, rows, [*notes, *_lacking(rows, summary), *_seed_notes(rows)], counted, summary
    )


def _lacking(rows: list[Row], summary: dict[str, Summary]) -> list[str]:
    """A sentence for each row that has some evaluations of a summary and lacks others."""
    return [
        f"{row.label} lacks {', '.join(missing)}: no {name}."
        for row in rows
        for name, entry in summary.items()
        if (missing := [evaluation for evaluation in entry["evaluations"] if evaluation not in row.cells])
    ]


def _seed_notes(rows: list[Row]) -> list[str]:
    common = Counter(seeds for row in rows for seeds in row.seeds).most_common(1)[0][0]
    notes = [f"{_seeds_text(common).capitalize()}."]
    for row in rows:
        if row.seeds != (common,):
            notes.append(f"{row.label}: {'; '.join(_seeds_text(seeds) for seeds in row.seeds)}.")
    return notes


def _seeds_text(seeds: tuple[int, ...]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
