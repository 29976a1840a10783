"""The report's sections for classification: classes gained and lost, confusions, calibration, base against new classes, and
paired tests over images. `conf/task/classification.yaml` names this module."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from reports import plots
from reports.arrays import Predictions
from reports.compare import Benchmark, ItemTests, benchmarks
from reports.groups import Group, best_of
from reports.pieces import figures, folded, grid, heading, legend, note
from reports.stats import Calibration, bootstrap, calibration, confusion, mcnemar
from reports.style import Palette
from reports.tables import Table
from runs.shots import shots_text

NONE = Markup()
MOST_CLASSES = 15_000  # a table of classes x classes then has 2 GB; ImageNet-21K has 10,450 classes
CLASSES_DRAWN = 200  # larger confusion matrices are not drawn, as they would be illegible
PAIR = ("base", "new")  # evaluations whose harmonic mean is the field's H


def sections(groups: Sequence[Group], tables: Sequence[Table], palette: Palette) -> list[tuple[str, Markup]]:
    """The sections of classification, each empty where the results have nothing for it."""
    return [
        ("Base against new classes", base_new(tables, palette)),
        ("Classes gained and lost", classes(groups)),
        ("Confusions", confusion_section(groups)),
        ("Calibration", calibration_section(groups, palette)),
    ]


def base_new(tables: Sequence[Table], palette: Palette) -> Markup:
    """Accuracy on new classes against that on base classes, and curves of equal harmonic mean."""
    drawn = [table for table in tables if set(PAIR) <= set(table.columns) and not table.is_by_stage]
    if not drawn:
        return NONE
    labels = legend(palette, (row.label for table in drawn for row in table.rows))
    about = note("Grey curves join equal harmonic means.")
    return labels + about + figures(plots.harmonic_plot(table, PAIR, palette, table.title) for table in drawn)


# ---------------------------------------------------------------- classes gained and lost


def classes(groups: Sequence[Group]) -> Markup:
    """The accuracy that each class gains or loses against the baseline, a plot for each method and evaluation."""
    text, names = [], set()
    for benchmark in benchmarks(groups):
        baseline = next((group for group in benchmark.groups.values() if group.is_baseline), None)
        drawn = []
        for label, group in benchmark.groups.items() if baseline else ():
            for evaluation in group.evaluations if group is not baseline else ():
                changes = class_changes(group, baseline, evaluation) if evaluation in baseline.evaluations else []
                if changes:
                    which = "" if len(group.evaluations) == 1 else f", {evaluation}"
                    drawn.append(plots.class_change_plot(changes, f"{label}, {shots_text(group.shots)}{which}"))
        if drawn:
            text.append((benchmark.title, figures(drawn)))
            names.add(baseline.names["method"])
    if not text:
        return NONE
    return note(f"Accuracy per class minus that of {', '.join(sorted(names))}, in points, mean over seeds.") + folded(text)


def per_class(group: Group, evaluation: str) -> list[tuple[str, float | None]]:
    """Class name and accuracy in percent, mean over seeds; None for a class without images."""
    rows = [run.result["metrics"][evaluation].get("per_class", []) for run in group.runs.values()]
    if len({len(row) for row in rows}) > 1:
        return []
    by_class = ((entries[0]["class"], [entry["accuracy"] for entry in entries]) for entries in zip(*rows, strict=True))
    return [(name, None if None in values else statistics.mean(values)) for name, values in by_class]


def class_changes(group: Group, baseline: Group, evaluation: str) -> list[tuple[str, float]]:
    """Points that each class gains over the baseline; empty where their classes differ."""
    ours, theirs = per_class(group, evaluation), per_class(baseline, evaluation)
    if [name for name, _ in ours] != [name for name, _ in theirs]:
        return []
    pairs = zip(ours, theirs, strict=True)
    return [(name, x - y) for (name, x), (_, y) in pairs if x is not None and y is not None]


# ---------------------------------------------------------------- predictions


def readable(group: Group, evaluation: str) -> Predictions | None:
    """The predictions of the readable images, concatenated over the seeds; None where a seed has none."""
    by_seed = [run.predictions(evaluation) for run in group.runs.values()]
    if any(predictions is None for predictions in by_seed):
        return None
    seeds = [predictions.readable() for predictions in by_seed]
    parts = ("predicted_N", "label_N", "confidence_N")
    return Predictions(*(np.concatenate([getattr(predictions, part) for predictions in seeds]) for part in parts))


def item_test(a: Group, b: Group, seeds: Sequence[int], evaluation: str) -> ItemTests | None:
    """Paired bootstrap and McNemar's tests over the images that could be read in both; None where predictions are missing, or
    are not of the same images."""
    correct = []
    for seed in seeds:
        ours, theirs = a.runs[seed].predictions(evaluation), b.runs[seed].predictions(evaluation)
        if ours is None or theirs is None or not ours.is_of_the_images_of(theirs):
            return None
        both_N = ours.readable_N & theirs.readable_N
        correct.append((ours.at(both_N).correct_N, theirs.at(both_N).correct_N))
    if len({len(x) for x, _ in correct}) > 1:  # the seeds could not read the same images
        return None
    difference_N = 100 * np.mean([x.astype(float) - y for x, y in correct], axis=0)
    return ItemTests(bootstrap(difference_N), [mcnemar(x, y) for x, y in correct])


def confusion_section(groups: Sequence[Group]) -> Markup:
    """Confusion matrices of the best method on each benchmark; one per method would be too many pictures."""
    drawn, rows = [], []
    for benchmark in benchmarks(groups):
        for evaluation in benchmark.evaluations:
            able = [group for group in benchmark.groups.values() if evaluation in group.evaluations]
            best = best_of(able[0].figure)(able, key=lambda group: statistics.mean(group.by_seed(evaluation).values()))
            confused = confusions(best, evaluation)
            if confused is None:
                continue
            which = f": {evaluation}" if len(benchmark.evaluations) > 1 else ""
            title = f"{best.label} on {best.names['data']}{which}, {shots_text(best.shots)}"
            if len(confused[1]) <= CLASSES_DRAWN:
                drawn.append(plots.confusion_plot(*confused, title))
            rows += [[title, true, predicted, f"{share:.1f}"] for true, predicted, share in most_confused(*confused)]
    if not rows:
        return NONE
    table = grid(["", "true class", "taken for", "% of its images"], rows, text_columns=3)
    return (
        note("Of the best method on each dataset, over all seeds; the opacity is the square root of a share.")
        + figures(drawn)
        + heading("Most often confused")
        + table
    )


def confusions(group: Group, evaluation: str) -> tuple[np.ndarray, list[str]] | None:
    """Counts (C,C) summed over seeds, and class names; None without stored predictions, or with more than `MOST_CLASSES`."""
    names = [name for name, _ in per_class(group, evaluation)]
    if not names or len(names) > MOST_CLASSES:
        return None
    predictions = readable(group, evaluation)
    return (confusion(predictions.predicted_N, predictions.label_N, len(names)), names) if predictions else None


def most_confused(counts_CC: np.ndarray, names: list[str], most: int = 8) -> list[tuple[str, str, float]]:
    """True class, predicted class, percent of the true class's images; the largest shares first."""
    true, predicted = np.nonzero(counts_CC)  # only non-zero counts: a table of shares would take gigabytes
    share = 100 * counts_CC[true, predicted] / counts_CC.sum(1)[true]
    share[true == predicted] = 0
    order = np.argsort(share, kind="stable")[::-1][:most]
    return [(names[true[at]], names[predicted[at]], float(share[at])) for at in order if share[at]]


def calibration_section(groups: Sequence[Group], palette: Palette) -> Markup:
    """Reliability curves and the expected calibration error."""
    drawn, rows, labels = [], [], []
    for benchmark in benchmarks(groups):
        for evaluation in benchmark.evaluations:
            curves = calibrations(benchmark, evaluation)
            if curves:
                title = f"{benchmark.title}, {evaluation}"
                drawn.append(plots.reliability_plot(curves, palette, title))
                rows += [[label, title, f"{curve.error:.2f}"] for label, curve in curves]
                labels += [label for label, _ in curves]
    if not rows:
        return NONE
    about = (
        "Accuracy of images by the confidence of their prediction; below the diagonal, a method is overconfident. ECE: the "
        "expected calibration error, 15 bins of equal width, over all seeds."
    )
    return note(about) + legend(palette, labels) + figures(drawn) + grid(["method", "where", "ECE, %"], rows, text_columns=2)


def calibrations(benchmark: Benchmark, evaluation: str) -> list[tuple[str, Calibration]]:
    """Calibration curves by label, over the images of all seeds."""
    curves = []
    for label, group in benchmark.groups.items():
        predictions = readable(group, evaluation) if evaluation in group.evaluations else None
        if predictions:
            curves.append((label, calibration(predictions.confidence_N, predictions.correct_N)))
    return curves
