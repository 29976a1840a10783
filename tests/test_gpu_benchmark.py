"""The benchmark of GPUs runs where there is none, and says that nothing was measured."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from benchmarks import gpu
from benchmarks.gpu_steps import idle_share


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
        gpu.main()
        return capsys.readouterr().out

    return run


def test_without_a_gpu_nothing_is_measured(call, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert call().startswith("no GPU is here, so nothing was measured")


def test_the_cases_run_small_on_a_cpu(call, tmp_path):
    out = call(
        "--device", "cpu", "--steps", "1", "--cases", "coop_store", "search", "evaluation", "--out", str(tmp_path / "out")
    )
    assert "no figure of a GPU" in out
    cases = json.loads((tmp_path / "out").read_text())["cases"]
    assert [case["case"] for case in cases] == ["coop_store", "search", "evaluation"]
    for case in cases:
        assert case["step"] > 0
        assert case["tflop"] > 0
        assert case["rate"] is case["gib"] is case["idle"] is None
    assert cases[0]["tflop"] < cases[1]["tflop"]  # without an image tower


def test_idle_time_is_what_no_kernel_covers():
    def event(start, end, kind=DeviceType.CUDA):
        return SimpleNamespace(time_range=SimpleNamespace(start=start, end=end), device_type=kind)

    kernels = [event(0, 4), event(1, 2), event(3, 5), event(8, 10), event(0, 100, DeviceType.CPU)]
    assert idle_share(kernels) == pytest.approx(0.3)
    assert idle_share([]) is None
