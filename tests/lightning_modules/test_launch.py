import pytest
import torch

from lightning_modules import launch


def fails(error):
    try:
        raise error
    except Exception as raised:
        return raised


def test_bugs_are_not_taken_for_mistakes():
    assert launch.told(fails(TypeError("a bug"))) is None
    with pytest.raises(ValueError) as raised:
        int("x")
    assert launch.told(raised.value) is None
    with pytest.raises(ValueError) as raised:
        torch.optim.SGD([torch.zeros(1)], lr=-1)  # an installed package's `raise`
    assert launch.told(raised.value) is None
    assert launch.told(fails(ValueError("ours"))) == "ours"
    worker = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\nValueError: ours"
    assert launch.told(fails(ValueError(worker))) == "ours"
