"""Spread over seeds, paired tests over seeds and images, calibration. p-values are two-sided."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, ttest_rel


@dataclass(frozen=True)
class Spread:
    """Mean over seeds; population standard deviation and 95 % interval's half width where there are several."""

    mean: float
    std: float | None = None
    interval: float | None = None
    seeds: int = 1


def spread(values: Sequence[float]) -> Spread:
    """The spread as papers report it: standard deviation with ddof 0, half width 1.96 * std / sqrt(n)."""
    if len(values) == 1:
        return Spread(values[0])
    std = statistics.pstdev(values)
    return Spread(statistics.mean(values), std, 1.96 * std / math.sqrt(len(values)), len(values))


def t_test(a: Sequence[float], b: Sequence[float]) -> float | None:
    """p of the paired t-test over seeds; None for fewer than two seeds, or where all differences are equal."""
    if len(a) < 2 or math.isclose(statistics.pstdev([x - y for x, y in zip(a, b, strict=True)]), 0, abs_tol=1e-9):
        return None
    return float(ttest_rel(a, b).pvalue)


def mcnemar(a_N: np.ndarray, b_N: np.ndarray) -> float:
    """p of McNemar's exact test (1947): binomial over the images that only one of the two classifies correctly."""
    only_a, only_b = int((a_N & ~b_N).sum()), int((b_N & ~a_N).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def bootstrap(difference_N: np.ndarray, resamples: int = 10_000) -> tuple[float, float]:
    """95 % percentile interval of the mean over resampled images, in the units of `difference_N`.

    An image's difference takes few values, so resampling N images is one multinomial draw over these values.
    """
    values, counts = np.unique(difference_N, return_counts=True)
    n = len(difference_N)
    drawn = np.random.default_rng(0).multinomial(n, counts / n, size=resamples)
    low, high = np.quantile(drawn @ values / n, (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True)
class Calibration:
    """Bins of equal width over the confidence in (0, 1]: shares of images, mean confidence and accuracy (NaN: empty)."""

    share: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error, in percent (Guo et al., ICML 2017)."""
        return float(100 * np.nansum(self.share * np.abs(self.accuracy - self.confidence)))


def calibration(confidence_N: np.ndarray, correct_N: np.ndarray, bins: int = 15) -> Calibration:
    """Confidence (from 0 to 1) against accuracy, of images that could be read."""
    which_N = np.clip(np.ceil(confidence_N * bins).astype(int) - 1, 0, bins - 1)
    count, confidence, right = (
        np.bincount(which_N, weights, bins) for weights in (None, confidence_N, correct_N.astype(float))
    )
    with np.errstate(invalid="ignore"):
        return Calibration(count / len(confidence_N), confidence / count, right / count)


def confusion(predicted_N: np.ndarray, label_N: np.ndarray, classes: int) -> np.ndarray:
    """Counts (C,C): rows are true classes, columns predicted ones."""
    return np.bincount(label_N * classes + predicted_N, minlength=classes * classes).reshape(classes, classes)
