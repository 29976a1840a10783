"""The sections of the page that every task has, each as markup; empty where the results have nothing for it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from markupsafe import Markup

from reports import plots
from reports.compare import ItemTest, benchmarks, comparisons, history_curves, loss_curves
from reports.groups import Group, in_unit
from reports.pieces import code, figures, grid, legend, note, p_value, points
from reports.published import method_rank
from reports.render import lines
from reports.stats import spread
from reports.style import Palette
from reports.tables import Table
from reports.templates import PIECES
from runs.shots import shots_text

NONE, LINE = Markup(), Markup("\n")


def legend_order(group: Group) -> tuple:
    """The sort key of a group: the order of labels in legends."""
    return (method_rank(group.names["method"]), group.label)


def figure_tables(tables: Sequence[Table]) -> Markup:
    """The tables of the main figure, of one task."""
    shown = []
    for table in tables:
        rows = []
        for kind, label, cells in lines(table, 1, lambda cell: f"BEST{cell}"):
            split = [(cell.startswith("BEST"), *cell.removeprefix("BEST").partition(" ± ")) for cell in cells]
            rows.append((kind, label, [(value, std, best) for best, value, _, std in split]))
        shown.append({"title": table.title, "columns": table.columns, "rows": rows, "notes": " ".join(table.notes)})
    unit = tables[0].figure["unit"]
    about = f"{f'In {unit}, mean' if unit else 'Mean'} ± population standard deviation over seeds; a column's best is bold."
    return note(about) + LINE + PIECES.tables(shown)


def shots(tables: Sequence[Table], palette: Palette) -> Markup:
    """The main figure against training images per class."""
    drawn = [table for table in tables if is_by_shots(table)]
    if not drawn:
        return NONE
    labels = legend(palette, (row.label for table in drawn for row in table.rows))
    about = note("The band is one standard deviation over seeds.")
    return labels + about + figures(plots.shots_plot(table, palette, table.title) for table in drawn)


def is_by_shots(table: Table) -> bool:
    """Whether it has several numbers of training images, so that there is a line to draw."""
    return len(table.shots) > 1


def significance(groups: Sequence[Group], item_test: ItemTest | None) -> Markup:
    """Paired tests of all pairs of methods.

    Args:
        item_test: the task's test over items, if it has one.
    """
    pairs = list(comparisons(groups, item_test=item_test))
    if not pairs:
        return NONE
    about = (
        "Pairs on the same seeds, at the largest number of shots: difference in points, and p of the paired t-test over seeds."
    )
    head = ["pair", "where", "difference", "t-test", "seeds"]
    if item_test:
        about = (
            "Pairs on the same seeds and images, at the largest number of shots: difference in points, its 95 % interval over "
            "resampled test images (paired bootstrap), p of the paired t-test over seeds, and p of McNemar's exact test over "
            "images for each seed. With many pairs some are below 0.05 by chance."
        )
        head = ["pair", "where", "difference", "95 % interval", "t-test", "McNemar, by seed", "seeds"]
        if not any(pair.items for pair in pairs):
            about += " The tests over images need predictions.npz beside result.json."
    rows = []
    for pair in pairs:
        items, tests = pair.items, [p_value(pair.t_test)]
        if item_test:
            interval = f"{items.interval[0]:+.2f} to {items.interval[1]:+.2f}" if items else ""
            tests = [interval, *tests, ", ".join(map(p_value, items.mcnemar)) if items else ""]
        rows.append([f"{pair.a} − {pair.b}", pair.where, points(pair.difference, pair.is_gain), *tests, str(len(pair.seeds))])
    return note(about) + grid(head, rows, text_columns=2)


def cost(groups: Sequence[Group], palette: Palette) -> Markup:
    """The main figure against trainable parameters and time."""
    drawn, labels = [], []
    for title, members in _by_place(groups).items():
        figure = in_unit(members[0].figure)
        values = [(group, statistics.mean(group.by_seed(group.evaluations[0]).values())) for group in members]
        sizes = [(g, float(g.first["trainable_parameters"]), v) for g, v in values if "trainable_parameters" in g.first]
        times = [(g, statistics.median(seconds), v) for g, v in values if (seconds := _seconds(g))]
        if len({group.label for group, _, _ in sizes}) > 1:
            drawn.append(plots.cost_plot(sizes, palette, ("trainable parameters", figure), title, may_be_zero=True))
        if len({group.label for group, _, _ in times}) > 1:
            drawn.append(plots.cost_plot(times, palette, ("seconds, median over seeds", figure), title))
        labels += [group.label for group in members]
    if not drawn:
        return NONE
    return note("Larger marks: more shots. Time is of the whole job.") + legend(palette, labels) + figures(drawn)


def _seconds(group: Group) -> list[float]:
    """The seconds of each seed that has them."""
    return [run.result["seconds"] for run in group.runs.values() if "seconds" in run.result]


def _by_place(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """The groups by dataset, protocol and backbone, within which their first evaluations are comparable."""
    by_title: dict[str, list[Group]] = {}
    for group in groups:
        title = f"{group.names['data']}, {group.protocol}, clip {group.names['clip']}"
        title += "" if len(group.evaluations) == 1 else f": {group.evaluations[0]}"
        by_title.setdefault(title, []).append(group)
    return by_title


def curves(groups: Sequence[Group], palette: Palette) -> Markup:
    """Training loss and main figure by epoch."""
    drawn, labels = [], []
    for benchmark in benchmarks(groups):
        losses = loss_curves(benchmark)
        if losses:
            drawn.append(plots.curves_plot(losses, palette, "training loss", benchmark.title))
        labels += [label for label, _, _ in losses]
        for evaluation, history in history_curves(benchmark).items():
            figure = next(iter(benchmark.groups.values())).figure
            drawn.append(plots.curves_plot(history, palette, f"{evaluation} {in_unit(figure)}", benchmark.title))
            labels += [label for label, _, _ in history]
    if not drawn:
        return NONE
    about = "Of the largest number of shots; mean over seeds, the band is one standard deviation."
    return note(about) + legend(palette, labels) + figures(drawn)


def everything(groups: Sequence[Group]) -> Markup:
    """A line for every evaluation of every configuration."""
    rows = [_line(group, evaluation) for group in groups for evaluation in group.evaluations]
    head = ["method", "where", "evaluation", "shots", "mean", "std", "95 %", "by seed", "parameters", "time", "digest"]
    versions = dict.fromkeys(
        ", ".join(f"{k} {v}" for k, v in run.result.get("versions", {}).items()) for g in groups for run in g.runs.values()
    )
    version_notes = Markup().join(note(f"Made with {version}.") for version in versions if version)
    about = "95 %: the half width of the interval over seeds, 1.96 std / √n. Digest: of the configuration without the seed."
    return note(about) + grid(head, rows, text_columns=3) + version_notes


def _line(group: Group, evaluation: str) -> list[str | Markup]:
    by_seed, seconds = group.by_seed(evaluation), _seconds(group)
    over_seeds = spread(list(by_seed.values()))
    return [
        group.label,
        f"{group.names['data']}, {group.protocol}, {group.names['clip']}",
        evaluation,
        shots_text(group.shots),
        f"{over_seeds.mean:.2f}",
        "" if over_seeds.std is None else f"{over_seeds.std:.2f}",
        "" if over_seeds.interval is None else f"± {over_seeds.interval:.2f}",
        ", ".join(f"{seed}: {value:.2f}" for seed, value in by_seed.items()),
        f"{group.first['trainable_parameters']:,}" if "trainable_parameters" in group.first else "",
        f"{statistics.median(seconds):.0f} s" if seconds else "",
        code(group.digest),
    ]
