import json
import math

import pytest

from lightning_modules.schedule import MultiStep, Poly, cosine_after_warmup


def test_every_published_sequence(golden_dir):
    files = [json.loads(path.read_text()) for path in sorted(golden_dir.glob("protocol*.json"))]
    sequences = [pair for file in files for pair in file["lr_per_epoch"].items()]
    assert sequences
    for name, expected in sequences:
        epochs = len(expected)
        peak = expected[1]  # the first epoch after the warm-up
        ours = [cosine_after_warmup(epoch, epochs, peak) for epoch in range(epochs)]
        assert max(abs(a - b) for a, b in zip(ours, expected, strict=True)) < 1e-12, name


def test_closed_form():
    assert [cosine_after_warmup(e, 5, 0.0035) for e in range(5)] == pytest.approx(
        [1e-5, 0.0035, 0.00316577974, 0.00229077974, 0.00120922026], abs=1e-11
    )
    assert cosine_after_warmup(0, 2, 0.1, warmup_epochs=0) == 0.1
    assert cosine_after_warmup(3, 4, 0.1) == pytest.approx(0.05 * (1 + math.cos(math.pi / 2)))


PUBLISHED = {"power": 0.9, "min_lr": 1e-6, "warmup": 1500, "warmup_ratio": 1e-6}


def mmcv_rate(step, steps, lr, power, min_lr, warmup, warmup_ratio):
    """Of mmcv's PolyLrUpdaterHook with a linear warm-up by iterations, in its own words."""
    coefficient = (1 - step / steps) ** power
    regular = (lr - min_lr) * coefficient + min_lr
    if step >= warmup:
        return regular
    k = (1 - step / warmup) * (1 - warmup_ratio)
    return regular * (1 - k)


def test_2_9_10_poly_at_the_published_places():
    """DenseCLIP on ADE20K, 80,000 steps, AdamW 1e-4, a tenth of it for the image backbone."""
    poly = Poly(**PUBLISHED)
    assert poly(0, 80_000, 1e-4) == pytest.approx(1e-10)
    assert poly(1500, 80_000, 1e-4) == pytest.approx((1e-4 - 1e-6) * (1 - 1500 / 80_000) ** 0.9 + 1e-6)
    assert poly(1500, 80_000, 1e-4) == pytest.approx(9.832780e-05, rel=1e-6)
    assert poly(80_000, 80_000, 1e-4) == pytest.approx(1e-6)
    assert poly(79_999, 80_000, 1e-5) == pytest.approx(1e-6, rel=1e-3)
    for lr in (1e-4, 1e-5):
        for step in (0, 1, 749, 1499, 1500, 1501, 40_000, 79_999):
            assert poly(step, 80_000, lr) == pytest.approx(mmcv_rate(step, 80_000, lr, **PUBLISHED), rel=1e-12)
    assert poly(1499, 80_000, 1e-4) < poly(1500, 80_000, 1e-4) > poly(1501, 80_000, 1e-4)
    assert Poly(1.0, 0.0, 0, 1.0)(5, 10, 0.2) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"power": 0}, "above 0"), ({"min_lr": -1}, "0 or more"), ({"warmup": -1}, "0 or more"), ({"warmup_ratio": 2}, "0 to 1"),
     ({"power": math.nan}, "above 0")],
)  # fmt: skip
def test_a_poly_that_cannot_be(change, said):
    with pytest.raises(ValueError, match=said):
        Poly(**PUBLISHED | change)


def test_a_run_within_its_warm_up_is_refused():
    with pytest.raises(ValueError, match="poly.warmup=1500: these are 1500 optimiser steps"):
        Poly(**PUBLISHED)(0, 1500, 0.1)


STEPS = {"at": [0.666667, 0.916667], "factor": 0.1, "warmup": 500, "warmup_ratio": 0.001}


def test_multistep_at_the_published_places():
    """DenseCLIP's detectors: 12 epochs of 7,330 steps, drops after 8 and 11 of them, 500 steps of linear warm-up from a
    thousandth."""
    rate, steps = MultiStep(**STEPS), 12 * 7_330
    expected = {0: 1e-7, 250: 1e-4 * (0.001 + 0.999 * 0.5), 499: 1e-4 * (0.001 + 0.999 * 499 / 500), 500: 1e-4}
    expected |= {8 * 7_330 - 1: 1e-4, 8 * 7_330: 1e-5, 11 * 7_330 - 1: 1e-5, 11 * 7_330: 1e-6, steps - 1: 1e-6}
    assert {step: rate(step, steps, 1e-4) for step in expected} == pytest.approx(expected)
    with pytest.raises(ValueError, match="multistep.warmup=500: these are 500 optimiser steps"):
        rate(0, 500, 0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"at": [0.9, 0.6]}, "rising"), ({"at": [0.0]}, "rising"), ({"at": [1.0]}, "rising"), ({"factor": 0}, "above 0"),
     ({"warmup": -1}, "multistep.warmup=-1"), ({"warmup_ratio": math.nan}, "multistep.warmup_ratio")],
)  # fmt: skip
def test_a_multistep_that_cannot_be(change, said):
    with pytest.raises(ValueError, match=said):
        MultiStep(**STEPS | change)
