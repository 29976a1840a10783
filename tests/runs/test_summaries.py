import pytest

from runs.summaries import forgetting, harmonic_mean, mean, summary_value


def test_harmonic_mean():
    assert harmonic_mean([82.69, 63.22]) == pytest.approx(71.66, abs=0.005)  # CoOp's published average
    assert harmonic_mean([0.0, 50.0]) == 0
    with pytest.raises(ValueError, match="numbers of 0 or more, not of -1"):
        harmonic_mean([-1.0, 50.0])


def test_forgetting_is_the_best_earlier_figure_minus_the_last():
    """Chaudhry et al. (2018), equation 3, with three tasks: the last one is never forgotten."""
    stages = [{"first": 90.0, "second": 20.0}, {"first": 60.0, "second": 80.0}]
    last = {"first": 50.0, "second": 70.0}
    assert forgetting(stages, last) == ((90 - 50) + (80 - 70)) / 2
    assert forgetting(stages, last | {"third": 99.0}) == 25  # no earlier stage has it
    assert forgetting(stages[:1], last) == ((90 - 50) + (20 - 70)) / 2  # it may gain
    with pytest.raises(ValueError, match="none has third"):
        forgetting(stages, {"third": 1.0})


def test_forgetting_of_a_figure_whose_best_is_the_lowest():
    assert forgetting([{"a": 2.0}, {"a": 1.0}], {"a": 4.0}, higher_is_better=False) == 3


def test_summary_by_name():
    figures = {"base": 40.0, "new": 60.0, "other": 0.0}
    assert summary_value("mean", ["base", "new"], figures) == mean([40.0, 60.0]) == 50
    assert summary_value("harmonic_mean", ["base", "new"], figures) == 48
    assert summary_value("forgetting", ["base"], figures, [{"base": 70.0}]) == 30
    with pytest.raises(ValueError, match="'median' is no function of a summary: choose one of harmonic_mean, mean, forgetting"):
        summary_value("median", ["base"], figures)
