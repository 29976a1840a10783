import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from reports.stats import bootstrap, calibration, confusion, mcnemar, spread, t_test


def test_spread_is_the_fields():
    statistics = spread([91.81, 92.01, 92.17])  # the example log of CoOp's repository
    assert f"{statistics.mean:.2f} {statistics.std:.2f}" == "92.00 0.15"
    assert statistics.interval == pytest.approx(1.96 * statistics.std / 3**0.5)
    assert spread([50.0]).std is None


def test_mcnemar_counts_the_images_that_one_alone_gets_right():
    a, b = np.ones(20, bool), np.ones(20, bool)
    b[:8], a[8] = False, False  # 8 against 1
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar(a, a) == 1.0


def test_bootstrap_agrees_with_scipys():
    rng = np.random.default_rng(1)
    difference = rng.choice([-100.0, 0.0, 100.0], 300, p=[0.1, 0.7, 0.2])
    expected = scipy_bootstrap((difference,), np.mean, method="percentile", rng=rng).confidence_interval
    assert bootstrap(difference) == pytest.approx((expected.low, expected.high), abs=0.5)


def test_t_test_needs_two_seeds_that_differ():
    assert t_test([1.0], [2.0]) is None
    assert t_test([1.0, 2.0], [2.0, 3.0]) is None
    assert t_test([1.0, 2.0, 3.0], [1.1, 2.5, 3.3]) == pytest.approx(0.1211, abs=1e-3)


def test_calibration_error_by_hand():
    confidence = np.array([0.95, 0.97, 0.51, 0.52, 1.0])
    correct = np.array([True, False, True, True, True])
    statistics = calibration(confidence, correct, bins=10)
    assert statistics.share[[5, 9]].tolist() == [0.4, 0.6]
    assert statistics.error == pytest.approx(100 * (0.4 * (1 - 0.515) + 0.6 * (2.92 / 3 - 2 / 3)))
    sure = calibration(np.zeros(4), np.zeros(4, bool))
    assert sure.error == 0


def test_confusion_has_true_classes_in_rows():
    counts = confusion(np.array([1, 1, 0]), np.array([0, 1, 0]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
