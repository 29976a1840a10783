"""Every benchmark runs at a tiny size, and what it would claim follows from what it is given. No times are looked at."""

import json
import time

import pytest
import torch

from benchmarks import (
    aape_logits,
    cost,
    data,
    dense,
    exact_softmax,
    feature_store,
    plain,
    released,
    retrieval,
    scale,
    split,
    text_engine,
    timing,
)
from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny():
    return plain.clip_of("tiny")


# ---------------------------------------------------------------- what they share


def test_sides_run_in_turn_and_short_ones_again():
    calls = []
    sides = {"long": lambda: (calls.append("long"), time.sleep(0.02)), "short": lambda: calls.append("short")}
    times = timing.in_turns(sides, 2, at_least=0.01)
    assert len(times["long"]) == 2
    assert len(times["short"]) > 2
    first = calls.index("short")
    assert calls[:first] == ["long"]
    assert "long" in calls[first:]


def test_a_ratio_is_that_of_medians_with_the_widest_spread():
    assert timing.ratio([10, 12, 20], [1, 2, 3]) == "6.0 (3.3 to 20.0)"
    assert timing.summary([3, 1, 2], ".1f") == "2.0 (1.0 to 3.0)"


def test_peak_memory_is_that_of_the_work():
    mib = timing.peak_mib(lambda: torch.ones(20 * 2**18).sum(), CPU)
    assert 15 < mib < 40


@pytest.mark.parametrize("make", [lambda clip: CoOp(4), lambda clip: CoCoOp(4), plain.maple_for])
def test_the_plain_side_has_our_logits(tiny, make):
    learner, names = make(tiny), list(plain.NAMES[:5])
    ours = PromptedCLIP(tiny, learner)
    ours.setup(TrainInfo(names, 2))
    reference, pixels = plain.Plain(tiny, learner, names), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(reference.logits(reference.encode_image(pixels)), ours(pixels).logits, atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------- each of them


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        (aape_logits, "--classes 5 --images 2 --repeats 1", "gradients agree"),
        (text_engine, "--model tiny --repeats 1 --at-least 0 --cases maple,", "maple, one long"),
        (exact_softmax, "--model tiny --share 0.005 --repeats 1", "sampled / exact"),
        (feature_store, "--cases step derived --step-model tiny --classes 5 --batch 2 --repeats 1", "hours"),
        (released, "--model tiny --classes 5 --images 2 --repeats 1 --at-least 0 --cases maple", "maple, evaluation"),
        (released, "--model tiny --classes 5 --images 2 --repeats 1 --at-least 0 --store --cases cocoop", "stored"),
        (scale, "--model tiny --classes 2 4 8 --images 1 2 3 --lengths 1 2 4 --repeats 1 --curves blocks", "prompted blocks"),
        (data, "--clip tiny --sides 60x40 --images 4 --rounds 1 --steps 1 --batch-size 2 --workers 0 --step-seconds 0", "wait"),
        (dense, "--clip tiny --size 64 --classes 3 --repeats 1 --kinds post pre", "training step  pre-model"),
        (split, "--images 8 --epochs 2 --repeats 1 --cases coop maple", "maple"),
        (cost, "--model tiny --teacher tiny --share 0.002 --images 1 --repeats 1", "POMP as released, 16 shots"),
    ],
)
def test_a_benchmark_runs(module, arguments, said, capsys, monkeypatch):
    monkeypatch.setattr(scale, "ALLOWED", 9.0)  # of times as short as these nothing can be said
    module.main(arguments.split())
    out = capsys.readouterr().out
    assert said in out
    assert "nan" not in out


# ---------------------------------------------------------------- growth


def test_exponents_are_fitted():
    sizes = [1, 10, 100, 1000]
    assert scale.exponent(sizes, [[2.0 * n**1.5] for n in sizes])[0] == pytest.approx(1.5)
    slope, spread = scale.exponent(sizes, [[n, 1.2 * n] for n in sizes])
    assert slope == pytest.approx(1)
    assert 0 < spread < 0.1


@pytest.mark.parametrize(
    ("growth", "fine"),
    [
        (lambda n: 5.0, True),
        (lambda n: n, True),
        (lambda n: 1e4 + n, True),
        (lambda n: n**1.3, False),
        (lambda n: 1e4 + n**2, False),
    ],
)
def test_what_grows_faster_than_its_size_is_refused(growth, fine):
    sizes = [1, 10, 100, 1000, 10000]
    assert scale.judged(sizes, [[growth(n)] for n in sizes])[1] is fine


def test_a_curve_that_is_worse_than_linear_ends_the_command_with_an_error(monkeypatch, capsys, tmp_path):
    square = scale.Curve("pairs", [10, 20, 40], lambda n: lambda: time.sleep(n**2 / 1e5))
    monkeypatch.setattr(scale, "curves", lambda clip, options: [square])
    assert scale.main(["--model", "tiny", "--repeats", "1", "--plot", str(tmp_path / "plot.png")]) == 1
    assert "worse than linear: pairs, time" in capsys.readouterr().err
    assert (tmp_path / "plot.png").stat().st_size > 1000


# ---------------------------------------------------------------- cost


def test_the_cost_model_adds_up():
    figures = dict.fromkeys(cost.FIGURES, 0.0) | {"image_train": 0.01, "teacher": 0.03, "text_exact": 0.8, "load": 0.001}
    machine = cost.Machine(devices=8, cores=64, network=1e10)
    parts = cost.rpp_step(figures, machine)
    assert parts["images"] == pytest.approx(256 / 8 * 0.04)
    assert parts["text"] == pytest.approx(0.1)
    sent = 7 / 8 * 4 * (3 * 10_450 * 512 + 2 * 138_240)
    assert parts["network"] == pytest.approx(sent / 1e10)
    steps = 5 * (11_060_223 // 256)
    assert cost.hours(parts, cost.TRAIN) == pytest.approx(steps * (1.28 + 0.1 + sent / 1e10) / 3600)
    slow = cost.rpp_step(figures | {"load": 1.0}, machine)
    assert cost.hours(slow, cost.TRAIN) == pytest.approx(steps * 4 / 3600)  # the cores are the slower side
    one = cost.rpp_step(figures, cost.Machine(1, 64, 1e10))
    assert (one["network"], one["text"]) == (0, 0.8)


def test_the_cost_model_has_the_settings_of_the_recipes():
    import yaml
    from toys import ROOT

    for method, views in (("rpp", 1), ("pomp", cost.VIEWS)):
        recipe = yaml.safe_load((ROOT / "conf" / "recipe" / f"{method}.yaml").read_text())["data"]["imagenet21k"]
        assert (recipe["batch_size"], recipe["epochs"], recipe["data"]["views"]) == (cost.BATCH, cost.EPOCHS, views)


def test_figures_of_a_file_replace_measured_ones(tmp_path, capsys):
    figures = tmp_path / "device.json"
    figures.write_text(json.dumps(dict.fromkeys(cost.FIGURES, 0.001)))
    cost.main(["--figures", str(figures), "--cores", "1"])
    assert "measured" not in (out := capsys.readouterr().out)
    assert f"{5 * (11_060_223 // 256) * 0.256 / 3600:,.2f}\n" in out


@pytest.mark.parametrize("text", ["{", "[1]", '{"images": 1}', '{"image": -1}', '{"image": "1"}', '{"image": true}'])
def test_wrong_figures_are_refused(tmp_path, text):
    (tmp_path / "device.json").write_text(text)
    with pytest.raises(ValueError, match="device.json"):
        cost.main(["--figures", str(tmp_path / "device.json")])


def test_retrieval_says_that_both_sides_agree(capsys):
    retrieval.main(["--model", "tiny", "--images", "40", "--batch", "3", "--repeats", "1"])
    output = capsys.readouterr().out
    assert "recalls differ by 0.0000 %" in output
    assert float(output.split("gradients differ by ")[1].split()[0]) < 1e-4
