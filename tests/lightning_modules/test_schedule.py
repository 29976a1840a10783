import json
import math

import pytest

from lightning_modules.schedule import cosine_after_warmup


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
