"""Hydra's sweep overrides as distributions, and values back as overrides."""

import pytest

optuna = pytest.importorskip("optuna")
from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: E402
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402

from runs import search_space  # noqa: E402


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("interval(0.1, 2)", FloatDistribution(0.1, 2.0)),
        ("interval(1, 4)", FloatDistribution(1.0, 4.0)),  # as Hydra reads it
        ("int(interval(1, 4))", IntDistribution(1, 4)),
        ("tag(log, interval(0.001, 0.1))", FloatDistribution(0.001, 0.1, log=True)),
        ("tag(log, int(interval(1, 64)))", IntDistribution(1, 64, log=True)),
        ("range(1, 10, 3)", IntDistribution(1, 7, step=3)),  # Hydra's range leaves its end out
        ("range(10, 1, -3)", IntDistribution(4, 10, step=3)),
        ("choice(2, 4.5, true, word)", CategoricalDistribution([2, 4.5, True, "word"])),
        ("null,[1,2]", CategoricalDistribution([None, "[1,2]"])),
    ],
)
def test_a_sweep_is_a_distribution(text, distribution):
    fixed, space = search_space.space_of(["method=coop", f"a.b={text}"])
    assert fixed == ["method=coop"]
    assert space == {"a.b": distribution}


def test_the_last_of_several_overrides_of_a_key_counts():
    fixed, space = search_space.space_of(["a=interval(1,2)", "b=choice(1,2)", "a=5", "b=choice(3,4)"])
    assert fixed == ["a=5"]
    assert space == {"b": CategoricalDistribution([3, 4])}


@pytest.mark.parametrize("value", [None, True, False, 3, 1e-05, 0.1 + 0.2, "word", "[1,2]", "{a:1}"])
def test_hydra_reads_back_what_was_proposed(value):
    [override] = OverridesParser.create().parse_overrides([search_space.override_of("a", value)])
    assert str(override.value()).replace(" ", "").replace("'", "") == str(value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["method=coop"], "varies nothing: give hydra.sweeper.params"),
        (["a=tag(log,interval(0.0,1.0))"], r"a=tag\(log,interval\(0.0,1.0\)\) cannot be searched"),
        (["a=interval(2,1)"], "cannot be searched"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(overrides, words):
    with pytest.raises(ValueError, match=words):
        search_space.space_of(overrides)
