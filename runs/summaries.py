"""Summaries of a protocol, each one number from several evaluations: harmonic mean, mean, forgetting.

A summary is computed once, when the run ends, and stored in result.json; the report applies the same function to means over
seeds and datasets, as the field does.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def harmonic_mean(values: Sequence[float]) -> float:
    """The harmonic mean of numbers of 0 or more: 0 where one of them is. ValueError for a number below 0."""
    if min(values) < 0:
        raise ValueError(f"harmonic_mean is of numbers of 0 or more, not of {min(values):g}.")
    return statistics.harmonic_mean(values)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return statistics.mean(values)


def forgetting(stages: Sequence[Mapping[str, float]], last: Mapping[str, float], higher_is_better: bool = True) -> float:
    """Forgetting (Chaudhry et al., ECCV 2018, section 3): the best figure of an evaluation in any earlier stage minus that of
    the last stage, averaged over the evaluations, in the unit of the figures. Below 0: the evaluations improved.

    Args:
        stages: figures by evaluation of each stage but the last one, in the order of training.
        last: figures by evaluation after the last stage. Those that no earlier stage has are left out.
        higher_is_better: False for figures such as a loss, whose best is the lowest; forgetting is then last minus best.

    Raises:
        ValueError: no evaluation of `last` was one of an earlier stage.
    """
    best, sign = (max, 1) if higher_is_better else (min, -1)
    earlier = {name: [stage[name] for stage in stages if name in stage] for name in last}
    lost = [sign * (best(values) - last[name]) for name, values in earlier.items() if values]
    if not lost:
        raise ValueError(f"forgetting is of evaluations that an earlier stage has, too, and none has {', '.join(last)}.")
    return statistics.mean(lost)


OF_VALUES = {"harmonic_mean": harmonic_mean, "mean": mean}
FUNCTIONS = (*OF_VALUES, "forgetting")  # the names that a protocol and a result may give


def summary_value(
    function: str,
    evaluations: Sequence[str],
    figures: Mapping[str, float],
    stages: Sequence[Mapping[str, float]] = (),
    higher_is_better: bool = True,
) -> float:
    """The summary of these evaluations by one of `FUNCTIONS`.

    Args:
        figures: the task's main figure by evaluation, after the last stage.
        stages: the same of each earlier stage, which forgetting needs.

    Raises:
        ValueError: the function is not known, or these figures have no such summary.
    """
    if function not in FUNCTIONS:
        raise ValueError(f"{function!r} is no function of a summary: choose one of {', '.join(FUNCTIONS)}.")
    if function == "forgetting":
        return forgetting(stages, {name: figures[name] for name in evaluations}, higher_is_better)
    return OF_VALUES[function]([figures[name] for name in evaluations])
