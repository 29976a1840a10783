import numpy as np
import PIL.Image
import pytest
import torch

from datamodules import randaugment
from datamodules.randaugment import OPERATIONS, RandAugment2
from datamodules.small_images import shift_transform
from datamodules.transforms import train_transform

# The released configuration (spec 1.5).
RANGES = {
    **dict.fromkeys(("AutoContrast", "Equalize", "Identity", "Invert"), (0, 1)),
    **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), (0.1, 1.9)),
    **dict.fromkeys(("ShearX", "ShearY", "TranslateX", "TranslateY"), (-0.3, 0.3)),
    "Posterize": (4, 8),
    "Rotate": (-30, 30),
    "Solarize": (0, 256),
}
IMAGE = PIL.Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8))


def test_operations_and_ranges():
    assert {name: (least, greatest) for name, (least, greatest, _) in OPERATIONS.items()} == RANGES


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_changes_the_picture_within_its_range(name):
    least, greatest, operation = OPERATIONS[name]
    extremes = [operation(IMAGE, value) for value in (least, greatest)]
    assert all(image.size == IMAGE.size and image.mode == "RGB" for image in extremes)
    assert (np.asarray(extremes[0]) == np.asarray(IMAGE)).all() == (name == "Identity")


def test_directions_and_sizes():
    white = PIL.Image.new("RGB", (20, 10), "white")
    shifted = np.asarray(OPERATIONS["TranslateX"][2](white, 0.3))
    assert (shifted[:, :, 0] == 0).sum() == 6 * 10  # 0.3 of the width, black comes in
    assert (np.asarray(OPERATIONS["TranslateY"][2](white, -0.3))[:, :, 0] == 0).sum() == 3 * 20
    sheared = np.asarray(OPERATIONS["ShearX"][2](white, 0.3))[:, :, 0] == 0
    assert not sheared[0].any()  # about the upper edge
    assert sheared[9].sum() == pytest.approx(0.3 * 9.5, abs=1)
    assert set(np.unique(np.asarray(OPERATIONS["Posterize"][2](IMAGE, 4.7)) & 15)) == {0}  # whole bits
    assert (np.asarray(OPERATIONS["Invert"][2](IMAGE, 0)) == 255 - np.asarray(IMAGE)).all()
    assert (np.asarray(OPERATIONS["Solarize"][2](IMAGE, 256)) == np.asarray(IMAGE)).all()


def test_two_draws_each_done_with_probability_0_6(monkeypatch):
    done = []

    def note(name, least, greatest):
        return least, greatest, lambda image, value: done.append((name, value)) or image

    monkeypatch.setattr(randaugment, "OPERATIONS", {name: note(name, *ends) for name, ends in RANGES.items()})
    torch.manual_seed(0)
    augment, counts = RandAugment2(), np.zeros(3)
    for _ in range(3000):
        before = len(done)
        augment(IMAGE)
        counts[len(done) - before] += 1
    assert counts / 3000 == pytest.approx([0.16, 0.48, 0.36], abs=0.04)
    for name, (least, greatest) in RANGES.items():
        values = np.array([value for operation, value in done if operation == name])
        assert len(values) / len(done) == pytest.approx(1 / 15, abs=0.02)
        assert values.min() >= least
        assert values.max() <= greatest
        assert values.mean() == pytest.approx((least + greatest) / 2, abs=0.12 * (greatest - least))


@pytest.mark.parametrize("make", [train_transform, shift_transform])
def test_it_stands_before_the_tensor_and_follows_the_seed(make):
    transform = make(16, (0.5,) * 3, (0.5,) * 3, augment=RandAugment2())

    def pixels(seed):
        torch.manual_seed(seed)
        return transform(IMAGE)

    assert pixels(1).shape == (3, 16, 16)
    assert torch.equal(pixels(1), pixels(1))
    assert len({pixels(seed).sum().item() for seed in range(8)}) > 6
    black = make(16, (0.5,) * 3, (0.5,) * 3, augment=lambda image: PIL.Image.new("RGB", image.size))(IMAGE)
    assert torch.equal(black, torch.full((3, 16, 16), -1.0))
