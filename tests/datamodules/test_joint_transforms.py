"""The transforms of an image with its label map: sizes as published, and both moved alike."""

import numpy as np
import PIL.Image
import pytest
import torch

from datamodules.joint_transforms import FitScale, JointTrain, distorted, fitted_size
from datamodules.segmented_items import IGNORE

COLOURS = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250]], np.uint8)


def pair(height=60, width=90):
    """A picture whose colours say the class of each pixel: blocks of three classes."""
    y, x = np.mgrid[:height, :width]
    label_map = ((y // 20 + x // 30) % 3).astype(np.uint8)
    return PIL.Image.fromarray(COLOURS[label_map]), label_map


@pytest.mark.parametrize(
    ("size", "scale", "ratio", "expected"),
    [
        ((512, 683), (2048, 512), 1.0, (512, 683)),  # ADE20K's usual size stays
        ((1000, 2000), (2048, 512), 1.0, (512, 1024)),
        ((300, 2000), (2048, 512), 1.0, (307, 2048)),  # the long side binds
        ((2000, 300), (2048, 512), 1.0, (2048, 307)),  # whichever it is
        ((375, 500), (2048, 512), 0.5, (256, 341)),
        ((375, 500), (520, 520), 1.0, (390, 520)),
        ((1, 9000), (2048, 512), 1.0, (1, 2048)),
    ],
)
def test_images_are_resized_in_their_own_shape_as_mmsegmentation_does(size, scale, ratio, expected):
    assert fitted_size(*size, scale, ratio) == expected
    if ratio == 1.0:
        assert FitScale(scale)(PIL.Image.new("RGB", size[::-1])).shape == (3, *expected)


def test_a_test_image_without_scale_stays_as_it_is():
    image, _ = pair()
    assert (FitScale(None)(image).permute(1, 2, 0).numpy() == np.asarray(image)).all()
    assert FitScale(None)(image.convert("L")).shape == (3, 60, 90)


def test_image_and_map_are_moved_alike_and_padded():
    """The colour of a pixel says its class, also after scale, crop, flip and padding."""
    transform = JointTrain((64, 80), (90, 60), photometric=False, mean=(0.48, 0.46, 0.41))
    image, label_map = pair()
    padded = 0
    for seed in range(25):
        torch.manual_seed(seed)
        pixels, labels = transform(image, label_map)
        assert pixels.shape == (3, 64, 80)
        assert labels.shape == (64, 80)
        assert pixels.dtype == labels.dtype == torch.uint8
        assert type(pixels) is type(labels) is torch.Tensor
        inside = labels != IGNORE
        nearest = (pixels.permute(1, 2, 0)[inside][:, None].int() - torch.tensor(COLOURS).int()).abs().sum(-1).argmin(-1)
        assert (nearest == labels[inside]).float().mean() > 0.9  # all but the borders
        if not inside.all():
            padded += 1
            assert (pixels.permute(1, 2, 0)[~inside] == torch.tensor([122, 117, 105], dtype=torch.uint8)).all()
            assert inside[0, 0]  # at the right and at the bottom alone
    assert 0 < padded < 25


def test_one_in_two_is_mirrored():
    image, label_map = pair()
    seen = []
    for seed in range(20):
        torch.manual_seed(seed)
        labels = JointTrain((60, 90), None, (1, 1), 1, photometric=False)(image, label_map)[1].numpy()
        seen.append(bool((labels == label_map).all()))
        assert seen[-1] or (labels == label_map[:, ::-1]).all()
    assert 4 < sum(seen) < 16


def test_scales_go_from_half_to_twice():
    image, label_map = pair(40, 40)
    transform, shares = JointTrain((100, 100), (40, 40), photometric=False), []
    for seed in range(40):
        torch.manual_seed(seed)
        shares.append((transform(image, label_map)[1] != IGNORE).any(0).sum().item())
    assert min(shares) in range(20, 26)
    assert max(shares) in range(74, 81)


def test_a_crop_that_one_class_fills_is_drawn_again():
    """Class 1 is a narrow stripe: with cat_max_ratio crops hold it far more often."""
    label_map = np.zeros((40, 200), np.uint8)
    label_map[:, 100:110] = 1
    image = PIL.Image.fromarray(COLOURS[label_map])

    def hits(cat_max_ratio):
        transform, found = JointTrain((40, 20), None, (1, 1), cat_max_ratio, photometric=False), 0
        for seed in range(60):
            torch.manual_seed(seed)
            found += bool((transform(image, label_map)[1] == 1).any())
        return found

    assert hits(0.75) > 30 > 15 > hits(1)


def test_ignored_pixels_do_not_count_as_a_class_of_a_crop():
    """Half ignored, half class 0: every crop is of one class, so ten are tried, and the last one stays."""
    label_map = np.full((30, 30), IGNORE, np.uint8)
    label_map[:15] = 0
    torch.manual_seed(0)
    labels = JointTrain((20, 20), None, (1, 1), photometric=False)(PIL.Image.new("RGB", (30, 30)), label_map)[1]
    assert set(labels.unique().tolist()) <= {0, IGNORE}


def test_colours_are_distorted_within_bounds_and_not_always():
    grey = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    seen = []
    for seed in range(80):
        torch.manual_seed(seed)
        seen.append(distorted(grey).float().mean().item())
    assert seen.count(100) in range(8, 40)  # of brightness and contrast each one in two is left out: a quarter
    assert min(seen) >= (100 - 32) * 0.5 - 1
    assert max(seen) <= (100 + 32) * 1.5
    assert len(set(seen)) > 30
    red = torch.tensor([220, 30, 30], dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
    changed = 0
    for seed in range(40):
        torch.manual_seed(seed)
        out = distorted(red)[:, 0, 0].tolist()
        assert out[0] == max(out)  # a hue at most 36 degrees away keeps red the largest
        changed += out[1] != out[2]
    assert 5 < changed < 35
