import numpy as np
import pytest
from numpy.random import RandomState

from datamodules.digits import NAMES, Digits, render
from datamodules.items import Item
from datamodules.small_images import shift_transform


def test_splits_are_fixed_and_disjoint():
    splits = Digits().splits(seed=1)
    assert splits.classnames == list(NAMES)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [900, 200, 697]
    assert len({item.path for item in (*splits.train, *splits.val, *splits.test)}) == 1797
    assert Digits().splits(seed=2) == splits
    assert min(np.bincount([item.label for item in splits.train])) >= 16, "16 shots of every digit"


def test_scans_are_dark_ink_on_white_paper():
    source = Digits()
    pictures = np.stack([np.asarray(source.open(item)) for item in source.splits(1).test[:50]])
    assert pictures.shape == (50, 32, 32, 3)
    assert pictures.dtype == np.uint8
    assert (pictures[..., 0] == pictures[..., 2]).all()
    assert (pictures.max((1, 2, 3)) > 240).all()
    assert (pictures.min((1, 2, 3)) < 60).all()
    assert 120 < pictures.mean() < 220


def test_unknown_scan_is_named():
    for path in ("scan/1797", "photo/0001", "scan/x"):
        with pytest.raises(ValueError, match=f"{path}.*scan/0000 to scan/1796"):
            Digits().open(Item(path, 0, "zero"))


@pytest.mark.parametrize("scan", [True, False])
def test_rendered_digits_are_seeded_and_differ(scan: bool):
    pictures = [np.asarray(render(digit, scan, RandomState(digit))) for digit in range(10)]
    assert all(p.shape == (32, 32, 3) and p.std() > 5 for p in pictures)
    assert len({p.tobytes() for p in pictures}) == 10
    assert np.array_equal(pictures[3], np.asarray(render(3, scan, RandomState(3))))


def test_shift_transform_only_moves():
    image = Digits().open(Digits().splits(1).train[0])
    out = shift_transform(32, [0.0] * 3, [1.0] * 3)(image)
    assert out.shape == (3, 32, 32)
    expected = np.pad(np.asarray(image, np.float32) / 255, ((2, 2), (2, 2), (0, 0)), mode="edge").transpose(2, 0, 1)
    windows = [expected[:, y : y + 32, x : x + 32] for y in range(5) for x in range(5)]
    assert any(np.allclose(out.numpy(), window) for window in windows)
