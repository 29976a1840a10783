"""Windows that slide over a test image; sizes and mirror images; classes at the size of the labels."""

import pytest
import torch
import torch.nn.functional as F

from lightning_modules import sliding_window
from lightning_modules.sliding_window import TestMode, bands, resized, slide, starts


def pixelwise(image):
    """Three classes by the colour of a pixel alone."""
    return image.float() * torch.tensor([1.0, 2.0, -1.0])[:, None, None]


def pictures(count=2, size=(37, 53)):
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("length", "window", "stride", "expected"),
    [(683, 512, 341, [0, 171]), (512, 512, 341, [0]), (853, 512, 341, [0, 341]), (854, 512, 341, [0, 341, 342]),
     (100, 512, 341, [0]), (1, 512, 341, [0]), (1024, 640, 426, [0, 384]), (10, 3, 3, [0, 3, 6, 7]), (9, 3, 3, [0, 3, 6])],
)  # fmt: skip
def test_where_windows_begin(length, window, stride, expected):
    """As mmsegmentation: max(length - window + stride - 1, 0) // stride + 1 of them, the last moved back to the end."""
    assert starts(length, window, stride) == expected
    assert len(expected) == max(length - window + stride - 1, 0) // stride + 1


@pytest.mark.parametrize(("window", "stride"), [(16, 11), (16, 16), (37, 5), (40, 20), (512, 341), (53, 53)])
def test_2_9_11_a_net_that_looks_at_one_pixel_sees_the_same_through_windows(window, stride):
    image = pictures()
    assert torch.allclose(slide(pixelwise, image, window, stride), pixelwise(image), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "window", "stride"), [((37, 53), 16, 11), ((5, 5), 16, 16), ((16, 40), 16, 7), ((1, 9), 4, 1)]
)
def test_2_9_11_no_pixel_is_left_without_a_window(size, window, stride):
    counted = torch.zeros(size)
    for top in starts(size[0], window, stride):
        for left in starts(size[1], window, stride):
            counted[top : top + window, left : left + window] += 1
    assert counted.min() >= 1
    ones = slide(lambda part: torch.ones(len(part), 2, 1, 1), pictures(1, size), window, stride)
    assert torch.allclose(ones, torch.ones(1, 2, *size))


def test_where_windows_overlap_their_logits_are_averaged():
    """Windows [0,4) and [2,6) of a row of 6: the first says 1, the second 3."""
    said = iter([1.0, 3.0])
    logits = slide(lambda part: torch.full((1, 1, *part.shape[-2:]), next(said)), pictures(1, (4, 6)), 4, 2)
    assert logits[0, 0, 0].tolist() == [1, 1, 2, 2, 3, 3]


def test_2_9_11_an_image_that_is_smaller_than_a_window_comes_whole():
    seen = []

    def segment(part):
        seen.append(tuple(part.shape[-2:]))
        return pixelwise(part)[..., ::4, ::4]  # at a stride of 4, as a network's

    assert slide(segment, pictures(1, (20, 50)), 32, 21).shape == (1, 3, 20, 50)
    assert seen == [(20, 32), (20, 32)]


@pytest.mark.parametrize("size", [(37, 53), (74, 106), (20, 11), (1, 1), (100, 30)])
def test_bands_are_the_resized_logits(size, monkeypatch):
    logits = torch.randn(2, 5, 9, 14, generator=torch.Generator().manual_seed(1))
    whole = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    for limit in (1, 5 * 2 * size[1] * 3, 2**24):
        monkeypatch.setattr(sliding_window, "BAND", limit)
        parts = list(bands(logits, size))
        assert torch.allclose(torch.cat([band for _, band in parts], 2), whole, atol=1e-5)
        assert [rows.start for rows, _ in parts] == [0, *(rows.stop for rows, _ in parts)][:-1]


def test_one_size_takes_the_largest_logit_and_several_the_largest_mean_probability():
    """Of two sizes one is sure of class 1, the other leans a little to class 0: their mean logit would be class 0's."""
    small, large = torch.tensor([0.0, 2.0, -9]), torch.tensor([40.0, 38.5, -9])
    made = []

    def segment(part):
        made.append(part.shape[-1])
        logits = small if part.shape[-1] < 53 else large
        return logits[None, :, None, None].expand(len(part), 3, 4, 4)

    def classes(**options):
        return TestMode(**options).classes(segment, pictures(), (8, 6), lambda logits: None)

    assert classes().unique().tolist() == [0]
    assert classes(ratios=[0.5, 1]).unique().tolist() == [1]
    probability = (small.softmax(0) + large.softmax(0)) / 2
    assert probability.argmax() == 1
    assert made == [53, 27, 53]
    assert classes().dtype == torch.uint8
    assert classes().shape == (2, 8, 6)


def test_mirror_images_are_turned_back():
    """A net that always finds class 1 in the left half of what it sees."""

    def left(part):
        logits = torch.zeros(len(part), 2, 4, 8)
        logits[:, 1, :, :4] = 5
        logits[:, 0, :, 4:] = 1
        return logits

    looked = []
    mode = TestMode(flip=True)
    found = mode.classes(left, pictures(1), (4, 8), looked.append)
    assert len(looked) == 2
    assert torch.equal(looked[1], left(pictures(1)).flip(-1))
    assert found.unique().tolist() == [1]  # sure on the one side, not sure on the other, in both views
    same = TestMode(ratios=[0.5, 1.0, 1.75], flip=True, window=20, stride=13)
    image = pictures(1, (40, 60))
    smooth = F.interpolate(F.interpolate(image.float(), (4, 6)), (40, 60), mode="bilinear").to(torch.uint8)
    agree = same.classes(pixelwise, smooth, (40, 60), lambda logits: None) == pixelwise(smooth).argmax(1)
    assert agree.float().mean() > 0.97  # resizing alone moves borders a little


def test_sizes_are_whole_pixels():
    image = pictures(1, (33, 50))
    assert [tuple(resized(image, ratio).shape[-2:]) for ratio in (0.5, 1, 1.75)] == [(17, 25), (33, 50), (58, 88)]
    assert resized(image, 1) is image
    assert resized(image, 0.5).dtype == torch.uint8
    assert torch.equal(resized(torch.full((1, 3, 9, 9), 200, dtype=torch.uint8), 1.5).unique(), torch.tensor([200]).byte())


@pytest.mark.parametrize(
    ("options", "said"),
    [({"window": 512}, "give both"), ({"stride": 3}, "give both"), ({"window": 4, "stride": 5}, "to task.module.window=4"),
     ({"window": 4, "stride": 0}, "from 1"), ({"ratios": []}, "numbers from 0.1"), ({"ratios": [0.01]}, "numbers from 0.1"),
     ({"ratios": [1.0, 1.0]}, "once"), ({"ratios": ["a"]}, "numbers from")],
)  # fmt: skip
def test_modes_that_cannot_be_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        TestMode(**options)
