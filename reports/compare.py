"""Comparisons of groups: paired tests, and learning curves of their main figure."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from reports.groups import Group
from reports.rows import by
from reports.stats import t_test
from runs.shots import shots_text


@dataclass(frozen=True)
class Benchmark:
    """Groups that can be compared: those of one protocol, backbone and dataset, by label, each label with its most shots."""

    title: str
    groups: dict[str, Group]

    @property
    def evaluations(self) -> list[str]:
        """The evaluations that any of the groups has, in order."""
        return list(dict.fromkeys(name for group in self.groups.values() for name in group.evaluations))


def benchmarks(groups: Iterable[Group]) -> list[Benchmark]:
    """The benchmarks of these groups, all of one task."""
    result = []
    for (protocol, clip, data), members in by(groups, lambda g: (g.protocol, g.names["clip"], g.names["data"])).items():
        largest: dict[str, Group] = {}
        for group in sorted(members, key=lambda g: g.shots % 10**9):  # shots=-1, all images, comes last
            largest[group.label] = group
        labels = dict.fromkeys(group.label for group in members)
        result.append(Benchmark(f"{data}, {protocol}, clip {clip}", {label: largest[label] for label in labels}))
    return result


# ---- paired tests


@dataclass(frozen=True)
class ItemTests:
    """Paired tests over the items, such as images, that both groups were tested on."""

    interval: tuple[float, float]  # 95 %, of the difference averaged over seeds, in the figure's unit
    mcnemar: list[float]  # p of McNemar's exact test, by seed


# a task's tests of two groups over the items of an evaluation; None where there are no predictions of the same items
ItemTest = Callable[[Group, Group, Sequence[int], str], ItemTests | None]


@dataclass(frozen=True)
class Comparison:
    """Group `a` against group `b` on the same seeds; the difference is a minus b, in the unit of their figure."""

    where: str
    a: str
    b: str
    seeds: list[int]
    difference: float
    is_gain: bool  # `a` is better
    t_test: float | None  # p over seeds
    items: ItemTests | None


def compare(a: Group, b: Group, evaluation: str, benchmark: str, item_test: ItemTest | None = None) -> Comparison | None:
    """Paired tests of two groups; None without a common seed."""
    ours, theirs = a.by_seed(evaluation), b.by_seed(evaluation)
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    x, y = [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]
    difference = statistics.mean(x) - statistics.mean(y)
    which = [evaluation] if len(a.evaluations) > 1 else []
    shots = " and ".join(dict.fromkeys(shots_text(group.shots) for group in (a, b)))
    return Comparison(
        where=", ".join([benchmark, *which, shots]),
        a=a.label,
        b=b.label,
        seeds=seeds,
        difference=difference,
        is_gain=difference > 0 if a.figure["higher_is_better"] else difference < 0,
        t_test=t_test(x, y),
        items=item_test(a, b, seeds, evaluation) if item_test else None,
    )


def comparisons(
    groups: Iterable[Group], only: tuple[str, str] | None = None, item_test: ItemTest | None = None
) -> Iterator[Comparison]:
    """All pairs of labels at their largest number of shots, of groups of one task.

    Args:
        only: these two labels, or methods, in this order.
        item_test: the task's test over items, if it has one.
    """
    for benchmark in benchmarks(groups):
        for a, b in _pairs(benchmark, only):
            for evaluation in a.evaluations:
                if evaluation not in b.evaluations:
                    continue
                if comparison := compare(a, b, evaluation, benchmark.title, item_test):
                    yield comparison


def _pairs(benchmark: Benchmark, only: tuple[str, str] | None) -> list[tuple[Group, Group]]:
    """Pairs of groups: every label against each earlier one; or the first groups whose labels or methods `only` names."""
    groups = list(benchmark.groups.values())
    if not only:
        return [(a, b) for b, a in combinations(groups, 2)]
    a, b = (next((group for group in groups if _is_called(group, name)), None) for name in only)
    return [(a, b)] if a and b and a is not b else []


def check_names(groups: Sequence[Group], names: Iterable[str]) -> None:
    """ValueError where no group has one of these labels or methods."""
    for name in names:
        if not any(_is_called(group, name) for group in groups):
            known = ", ".join(dict.fromkeys(group.label for group in groups))
            raise ValueError(f"there is no result of {name!r} to compare; there are: {known}.")


def _is_called(group: Group, name: str) -> bool:
    return name in (group.label, group.names["method"])


# ---- learning curves

Curve = tuple[str, list[list[float]], list[int]]  # label, values by seed, epochs from 1


def loss_curves(benchmark: Benchmark) -> list[Curve]:
    """The training loss by epoch, of groups whose seeds have equally many epochs."""
    curves = []
    for label, group in benchmark.groups.items():
        by_seed = [run.result.get("train_loss") or [] for run in group.runs.values()]
        if by_seed[0] and len({len(losses) for losses in by_seed}) == 1:
            curves.append((label, by_seed, list(range(1, len(by_seed[0]) + 1))))
    return curves


def history_curves(benchmark: Benchmark) -> dict[str, list[Curve]]:
    """The main figure by epoch, by evaluation."""
    curves: dict[str, list[Curve]] = defaultdict(list)
    for label, group in benchmark.groups.items():
        histories = [run.result.get("history") or [] for run in group.runs.values()]
        epochs = [[entry["epoch"] + 1 for entry in history] for history in histories]
        if not epochs[0] or any(other != epochs[0] for other in epochs):
            continue
        key = group.figure["key"]
        for name in histories[0][0]:
            if name != "epoch" and all(name in history[0] for history in histories):
                values = [[entry[name][key] for entry in history] for history in histories]
                curves[name].append((label, values, epochs[0]))
    return curves
