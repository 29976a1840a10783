import pytest

from lightning_modules.results import harmonic_mean


def test_harmonic_mean_of_base_and_new():
    """27 in docs/pretraining.md."""
    assert harmonic_mean(80, 70) == pytest.approx(74.667, abs=1e-3)
    assert harmonic_mean(0, 0) == 0
    assert harmonic_mean(80, 0) == 0
