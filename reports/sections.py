"""The sections of the page, each as markup; empty where the results have nothing for it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from markupsafe import Markup

from reports import plots
from reports.collect import Group, rank
from reports.compare import (
    BASELINE,
    calibrations,
    class_changes,
    comparisons,
    confusions,
    history_curves,
    loss_curves,
    most_confused,
    places,
)
from reports.pieces import code, figures, folded, grid, heading, legend, note, p_value, points
from reports.render import lines
from reports.stats import spread
from reports.style import Palette
from reports.tables import Table, shots_of, shots_text
from reports.templates import PIECES

NONE, LINE = Markup(), Markup("\n")
CLASSES_DRAWN = 200  # above, a confusion matrix is no picture any more


def legend_order(group: Group) -> tuple:
    return (rank(group.names["method"]), group.label)


def accuracy(tables: Sequence[Table]) -> Markup:
    shown = []
    for table in tables:
        rows = []
        for kind, label, cells in lines(table, 1, lambda cell: f"BEST{cell}"):
            parts = [(cell.startswith("BEST"), *cell.removeprefix("BEST").partition(" ± ")) for cell in cells]
            rows.append((kind, label, [(value, std, best) for best, value, _, std in parts]))
        shown.append({"title": table.title, "columns": table.columns, "rows": rows, "notes": " ".join(table.notes)})
    about = note("In %, mean ± population standard deviation over seeds; the best mean of a column is bold.")
    return about + LINE + PIECES.accuracy(shown)


def is_by_shots(table: Table) -> bool:
    return sum(shots_of(column) is not None for column in table.columns) > 1


def shots(tables: Sequence[Table], palette: Palette) -> Markup:
    drawn = [table for table in tables if is_by_shots(table)]
    if not drawn:
        return NONE
    used = legend(palette, (row.label for table in drawn for row in table.rows))
    return (
        used
        + note("The band is one standard deviation over seeds.")
        + figures(plots.shots_plot(table, palette, table.title) for table in drawn)
    )


def base_new(tables: Sequence[Table], palette: Palette) -> Markup:
    drawn = [table for table in tables if {"base", "new"} <= set(table.columns)]
    if not drawn:
        return NONE
    used = legend(palette, (row.label for table in drawn for row in table.rows))
    return (
        used
        + note("Grey curves join equal harmonic means.")
        + figures(plots.base_new_plot(table, palette, table.title) for table in drawn)
    )


def classes(groups: Sequence[Group]) -> Markup:
    text = []
    for place in places(groups):
        baseline = next((g for g in place.groups.values() if g.names["method"] == BASELINE), None)
        drawn = []
        for label, group in place.groups.items() if baseline else ():
            for evaluation in group.evaluations if group is not baseline else ():
                changes = class_changes(group, baseline, evaluation) if evaluation in baseline.evaluations else []
                if changes:
                    which = "" if len(group.evaluations) == 1 else f", {evaluation}"
                    drawn.append(plots.class_change_plot(changes, f"{label}, {shots_text(group.shots)}{which}"))
        if drawn:
            text.append((place.title, figures(drawn)))
    if not text:
        return NONE
    return note("Accuracy per class minus zero-shot's, in points, mean over seeds.") + folded(text)


def confusion(groups: Sequence[Group]) -> Markup:
    drawn, rows = [], []
    for place in places(groups):
        # of each place the best method: one picture per method and dataset would be a book
        evaluations = dict.fromkeys(name for group in place.groups.values() for name in group.evaluations)
        for evaluation in evaluations:
            able = [group for group in place.groups.values() if evaluation in group.evaluations]
            best = max(able, key=lambda group: statistics.mean(group.accuracy(evaluation).values()))
            found = confusions(best, evaluation)
            if found is None:
                continue
            which = f": {evaluation}" if len(evaluations) > 1 else ""
            title = f"{best.label} on {best.names['data']}{which}, {shots_text(best.shots)}"
            if len(found[1]) <= CLASSES_DRAWN:
                drawn.append(plots.confusion_plot(*found, title))
            for true, predicted, share in most_confused(*found):
                rows.append([title, true, predicted, f"{share:.1f}"])
    if not rows:
        return NONE
    table = grid(["", "true class", "taken for", "% of its images"], rows, text_columns=3)
    return (
        note("Of the best method in each place, over all seeds; the opacity is the square root of a share.")
        + figures(drawn)
        + heading("Most often confused")
        + table
    )


def significance(groups: Sequence[Group]) -> Markup:
    rows, images = [], False
    for each in comparisons(groups):
        images = images or each.interval is not None
        interval = "" if each.interval is None else f"{each.interval[0]:+.2f} to {each.interval[1]:+.2f}"
        which = f"{each.a} − {each.b}"
        tests = ", ".join(p_value(p) for p in each.mcnemar)
        rows.append([which, each.where, points(each.difference), interval, p_value(each.t_test), tests, str(len(each.seeds))])
    if not rows:
        return NONE
    about = (
        "Pairs on the same seeds and images, at the largest number of shots: difference in points, its 95 % interval over "
        "resampled test images (paired bootstrap), p of the paired t-test over seeds, and p of McNemar's exact test over "
        "images for each seed. With many pairs some are below 0.05 by chance."
    )
    if not images:
        about += " The tests over images need predictions.npz beside result.json."
    head = ["pair", "where", "difference", "95 % interval", "t-test", "McNemar, by seed", "seeds"]
    return note(about) + grid(head, rows, text_columns=2)


def calibration(groups: Sequence[Group], palette: Palette) -> Markup:
    drawn, rows, labels = [], [], []
    for place in places(groups):
        for evaluation in dict.fromkeys(name for group in place.groups.values() for name in group.evaluations):
            each = calibrations(place, evaluation)
            if each:
                title = f"{place.title}, {evaluation}"
                drawn.append(plots.reliability_plot(each, palette, title))
                rows += [[label, title, f"{found.error:.2f}"] for label, found in each]
                labels += [label for label, _ in each]
    if not rows:
        return NONE
    about = (
        "Accuracy of images by the confidence of their prediction; below the diagonal, a method is too sure. ECE: the expected "
    )
    about += "calibration error, 15 bins of equal width, over all seeds."
    return note(about) + legend(palette, labels) + figures(drawn) + grid(["method", "where", "ECE, %"], rows, text_columns=2)


def cost(groups: Sequence[Group], palette: Palette) -> Markup:
    drawn, labels = [], []
    for title, members in by_place(groups).items():
        known = [(group, group.accuracy(group.evaluations[0])) for group in members]
        known = [(group, statistics.mean(values.values())) for group, values in known]
        sizes = [(g, float(g.first["trainable_parameters"]), a) for g, a in known if "trainable_parameters" in g.first]
        times = [
            (g, statistics.median(run.result["seconds"] for run in g.runs.values()), a)
            for g, a in known
            if "seconds" in g.first
        ]
        if len({g.label for g, _, _ in sizes}) > 1:
            drawn.append(plots.cost_plot(sizes, palette, "trainable parameters", title, zero=True))
        if len({g.label for g, _, _ in times}) > 1:
            drawn.append(plots.cost_plot(times, palette, "seconds, median over seeds", title))
        labels += [group.label for group in members]
    if not drawn:
        return NONE
    return note("Larger marks: more shots. Time is of the whole job.") + legend(palette, labels) + figures(drawn)


def by_place(groups: Sequence[Group]) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in groups:
        title = f"{group.names['data']}, {group.protocol}, clip {group.names['clip']}"
        title += "" if len(group.evaluations) == 1 else f": {group.evaluations[0]}"
        found.setdefault(title, []).append(group)
    return found


def curves(groups: Sequence[Group], palette: Palette) -> Markup:
    drawn, labels = [], []
    for place in places(groups):
        losses = loss_curves(place)
        if losses:
            drawn.append(plots.curves_plot(losses, palette, "training loss", place.title))
        labels += [label for label, _, _ in losses]
        for evaluation, each in history_curves(place).items():
            drawn.append(plots.curves_plot(each, palette, f"{evaluation} accuracy in %", place.title))
    if not drawn:
        return NONE
    about = "Of the largest number of shots; mean over seeds, the band is one standard deviation."
    return note(about) + legend(palette, labels) + figures(drawn)


def everything(groups: Sequence[Group]) -> Markup:
    rows = []
    for group in groups:
        for evaluation in group.evaluations:
            by_seed = group.accuracy(evaluation)
            found = spread(list(by_seed.values()))
            each = ", ".join(f"{seed}: {value:.2f}" for seed, value in by_seed.items())
            seconds = [run.result["seconds"] for run in group.runs.values() if "seconds" in run.result]
            rows.append(
                [
                    group.label,
                    f"{group.names['data']}, {group.protocol}, {group.names['clip']}",
                    evaluation,
                    shots_text(group.shots),
                    f"{found.mean:.2f}",
                    "" if found.std is None else f"{found.std:.2f}",
                    "" if found.interval is None else f"± {found.interval:.2f}",
                    each,
                    f"{group.first['trainable_parameters']:,}" if "trainable_parameters" in group.first else "",
                    f"{statistics.median(seconds):.0f} s" if seconds else "",
                    code(group.digest),
                ]
            )
    head = ["method", "where", "evaluation", "shots", "mean", "std", "95 %", "by seed", "parameters", "time", "digest"]
    versions = dict.fromkeys(
        ", ".join(f"{k} {v}" for k, v in run.result.get("versions", {}).items()) for g in groups for run in g.runs.values()
    )
    made = Markup().join(note(f"Made with {each}.") for each in versions if each)
    about = "95 %: the half width of the interval over seeds, 1.96 std / √n. Digest: of the configuration without the seed."
    return note(about) + grid(head, rows, text_columns=3) + made
