"""What two or more groups say together: paired tests, classes gained and lost, confusions, calibration, curves."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from reports.collect import Group
from reports.stats import Calibration, bootstrap, calibration, confusion, mcnemar, t_test
from reports.tables import shots_text, split

BASELINE = "zeroshot"
MOST_CLASSES = 15_000  # of a table of classes x classes, 2 GB; ImageNet-21K has 10,450


@dataclass(frozen=True)
class Place:
    """The groups of one protocol, backbone and dataset, by label: of each the one with the most shots."""

    title: str
    groups: dict[str, Group]


def places(groups: Iterable[Group]) -> list[Place]:
    found = []
    for (protocol, clip, data), members in split(groups, lambda g: (g.protocol, g.names["clip"], g.names["data"])).items():
        largest: dict[str, Group] = {}
        for group in sorted(members, key=lambda g: g.shots % 10**9):  # all images, -1, last
            largest[group.label] = group
        order = dict.fromkeys(group.label for group in members)
        found.append(Place(f"{data}, {protocol}, clip {clip}", {label: largest[label] for label in order}))
    return found


@dataclass(frozen=True)
class Comparison:
    """`a` against `b` on the same seeds and images; differences in points, positive where `a` is better."""

    where: str
    a: str
    b: str
    seeds: list[int]
    difference: float
    t_test: float | None  # p over seeds
    interval: tuple[float, float] | None  # 95 %, over images; None without stored predictions
    mcnemar: list[float]  # p over images, by seed


def compare(a: Group, b: Group, evaluation: str, place: str) -> Comparison | None:
    """None without a common seed."""
    ours, theirs = a.accuracy(evaluation), b.accuracy(evaluation)
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    pairs = [(a.runs[seed].predictions(evaluation), b.runs[seed].predictions(evaluation)) for seed in seeds]
    images = all(x and y and np.array_equal(x.label_N, y.label_N) for x, y in pairs)
    correct = [(x.correct_N, y.correct_N) for x, y in pairs] if images else []
    x, y = [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]
    which = [evaluation] if len(a.evaluations) > 1 else []
    shots = " and ".join(dict.fromkeys(shots_text(group.shots) for group in (a, b)))
    return Comparison(
        ", ".join([place, *which, shots]),
        a.label,
        b.label,
        seeds,
        statistics.mean(x) - statistics.mean(y),
        t_test(x, y),
        bootstrap(100 * np.mean([p.astype(float) - q for p, q in correct], axis=0)) if images else None,
        [mcnemar(p, q) for p, q in correct],
    )


def comparisons(groups: Iterable[Group], only: tuple[str, str] | None = None) -> Iterator[Comparison]:
    """All pairs of labels at their largest number of shots; `only`: these two labels, or methods.

    Raises:
        ValueError: no result has one of the two.
    """
    groups = list(groups)
    if only:
        for name in only:
            if not any(name in (group.label, group.names["method"]) for group in groups):
                known = ", ".join(dict.fromkeys(group.label for group in groups))
                raise ValueError(f"there is no result of {name!r} to compare; there are: {known}.")
    for place in places(groups):
        for b, a in combinations(place.groups.values(), 2):
            if only:
                a, b = (next((g for g in (a, b) if name in (g.label, g.names["method"])), None) for name in only)
                if a is None or b is None or a is b:
                    continue
            for evaluation in a.evaluations:
                found = compare(a, b, evaluation, place.title) if evaluation in b.evaluations else None
                if found:
                    yield found


def per_class(group: Group, evaluation: str) -> list[tuple[str, float | None]]:
    """Class name and accuracy, mean over seeds; None for a class without images."""
    rows = [run.result["metrics"][evaluation].get("per_class", []) for run in group.runs.values()]
    if len({len(row) for row in rows}) > 1:
        return []
    return [
        (each[0]["class"], None if None in (values := [seed["accuracy"] for seed in each]) else statistics.mean(values))
        for each in zip(*rows, strict=True)
    ]


def class_changes(group: Group, baseline: Group, evaluation: str) -> list[tuple[str, float]]:
    """Points that each class gains over the baseline; empty where they have not the same classes."""
    ours, theirs = per_class(group, evaluation), per_class(baseline, evaluation)
    if [name for name, _ in ours] != [name for name, _ in theirs]:
        return []
    pairs = zip(ours, theirs, strict=True)
    return [(name, x - y) for (name, x), (_, y) in pairs if x is not None and y is not None]


def confusions(group: Group, evaluation: str) -> tuple[np.ndarray, list[str]] | None:
    """Counts (C,C) summed over seeds, and class names; None without stored predictions, or with more than `MOST_CLASSES`."""
    names = [name for name, _ in per_class(group, evaluation)]
    if not names or len(names) > MOST_CLASSES:
        return None
    each = [run.predictions(evaluation) for run in group.runs.values()]
    if None in each:
        return None
    predicted, label = (np.concatenate(part) for part in zip(*((p.predicted_N, p.label_N) for p in each), strict=True))
    return confusion(predicted, label, len(names)), names


def most_confused(counts_CC: np.ndarray, names: list[str], most: int = 8) -> list[tuple[str, str, float]]:
    """True class, predicted class, percent of the true class's images."""
    true, predicted = np.nonzero(counts_CC)  # few of them: a table of shares would take gigabytes
    share = 100 * counts_CC[true, predicted] / counts_CC.sum(1)[true]
    share[true == predicted] = 0
    order = np.argsort(share, kind="stable")[::-1][:most]
    return [(names[true[at]], names[predicted[at]], float(share[at])) for at in order if share[at]]


def calibrations(place: Place, evaluation: str) -> list[tuple[str, Calibration]]:
    """By label, over the images of all seeds."""
    found = []
    for label, group in place.groups.items():
        each = [run.predictions(evaluation) for run in group.runs.values()] if evaluation in group.evaluations else [None]
        if None not in each:
            confidence, correct = (
                np.concatenate(part) for part in zip(*((p.confidence_N, p.correct_N) for p in each), strict=True)
            )
            found.append((label, calibration(confidence, correct)))
    return found


Curve = tuple[str, list[list[float]], list[int]]  # label, values by seed, epochs from 1


def loss_curves(place: Place) -> list[Curve]:
    found = []
    for label, group in place.groups.items():
        each = [run.result.get("train_loss") or [] for run in group.runs.values()]
        if each[0] and len({len(losses) for losses in each}) == 1:
            found.append((label, each, list(range(1, len(each[0]) + 1))))
    return found


def history_curves(place: Place) -> dict[str, list[Curve]]:
    """Accuracy by epoch, by evaluation."""
    found: dict[str, list[Curve]] = defaultdict(list)
    for label, group in place.groups.items():
        each = [run.result.get("history") or [] for run in group.runs.values()]
        epochs = [[entry["epoch"] + 1 for entry in history] for history in each]
        if not epochs[0] or any(other != epochs[0] for other in epochs):
            continue
        for name in each[0][0]:
            if name != "epoch" and all(name in history[0] for history in each):
                found[name].append((label, [[entry[name]["accuracy"] for entry in history] for history in each], epochs[0]))
    return found
