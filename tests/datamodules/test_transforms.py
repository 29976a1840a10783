import numpy as np
import PIL.Image
import pytest
import torch
from open_clip.transform import image_transform
from torchvision.transforms import functional as F

from datamodules.small_images import shift_transform
from datamodules.transforms import BICUBIC, eval_transform, made_for, train_transform

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def picture(width: int = 300, height: int = 200) -> PIL.Image.Image:
    pixels = np.random.RandomState(0).randint(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels).resize((width, height), PIL.Image.Resampling.BILINEAR)


def normalised(image: PIL.Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def test_evaluation_resizes_the_shorter_side_and_crops_the_centre():
    expected = picture().resize((336, 224), PIL.Image.Resampling.BICUBIC).crop((56, 0, 280, 224))
    actual = eval_transform(224, MEAN, STD)(picture())
    assert actual.shape == (3, 224, 224)
    torch.testing.assert_close(actual, normalised(expected))


@pytest.mark.parametrize("mode", ["P", "CMYK", "L", "RGBA"])
def test_images_become_rgb_before_they_are_resized(mode):
    image = picture().quantize(16) if mode == "P" else picture().convert(mode)
    for transform in (eval_transform(64, MEAN, STD), train_transform(64, MEAN, STD)):
        torch.manual_seed(0)
        actual = transform(image)
        torch.manual_seed(0)
        torch.testing.assert_close(actual, transform(image.convert("RGB")), rtol=0, atol=0)
    if mode == "P":  # the order matters: a palette resized first gives other pixels
        late = image.resize((96, 64), PIL.Image.Resampling.BICUBIC).convert("RGB").crop((16, 0, 80, 64))
        assert not torch.allclose(eval_transform(64, MEAN, STD)(image), normalised(late))


@pytest.mark.parametrize("seed", range(4))
def test_training_is_a_random_crop_then_a_flip(seed):
    torch.manual_seed(seed)
    actual = train_transform(224, MEAN, STD)(picture())
    torch.manual_seed(seed)
    from torchvision.transforms import RandomResizedCrop

    top, left, height, width = RandomResizedCrop.get_params(picture(), (0.08, 1.0), (3 / 4, 4 / 3))
    expected = F.resized_crop(picture(), top, left, height, width, [224, 224], BICUBIC)
    if torch.rand(1) < 0.5:
        expected = F.hflip(expected)
    torch.testing.assert_close(actual, normalised(expected))


SHAPES = [(300, 200), (200, 300), (64, 64), (301, 97), (40, 33)]


@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_evaluation_prepares_images_as_open_clip_does(interpolation, resize_mode):
    theirs = image_transform(
        64, is_train=False, mean=MEAN, std=STD, resize_mode=resize_mode, interpolation=interpolation
    )  # fmt: skip
    ours = eval_transform(64, MEAN, STD, interpolation, resize_mode)
    for width, height in SHAPES:
        assert torch.equal(ours(picture(width, height)), theirs(picture(width, height)))
    other = eval_transform(64, MEAN, STD, "bilinear" if interpolation == "bicubic" else "bicubic", resize_mode)
    assert not torch.allclose(ours(picture()), other(picture()))
    if resize_mode == "shortest" and interpolation == "bicubic":
        assert torch.equal(ours(picture()), eval_transform(64, MEAN, STD)(picture()))


@pytest.mark.parametrize("size", [(4000, 3), (3, 4000)])
def test_an_image_of_a_few_pixels_in_height_is_a_line_between_bars(size):
    image = PIL.Image.new("RGB", size, (255, 255, 255))
    pixels = eval_transform(32, (0.0,) * 3, (1.0,) * 3, resize_mode="longest")(image)
    assert pixels.shape == (3, 32, 32)
    assert pixels.sum() == 3 * 32
    assert eval_transform(32, MEAN, STD, resize_mode="squash")(image).shape == (3, 32, 32)


def test_training_interpolates_as_the_clip_wants():
    made = []
    for interpolation in ("bicubic", "bilinear"):
        torch.manual_seed(0)
        made.append(train_transform(224, MEAN, STD, interpolation=interpolation)(picture()))
    assert 1e-3 < (made[0] - made[1]).abs().max() < 1
    spec = {"size": 32, "mean": MEAN, "std": STD, "interpolation": "bilinear", "resize_mode": "squash"}
    for make in (train_transform, shift_transform, lambda **given: given):
        made_for(spec, make)
    assert made_for(spec, lambda **given: given) == spec
    assert set(made_for(spec, lambda size, mean, std: locals())) == {"size", "mean", "std"}


@pytest.mark.parametrize("make", [train_transform, eval_transform])
def test_an_unknown_way_to_resize_is_a_sentence(make):
    with pytest.raises(ValueError, match="the interpolation of images is 'nearest': choose bicubic or bilinear"):
        make(32, MEAN, STD, interpolation="nearest")
    with pytest.raises(ValueError, match="the resize mode of images is 'pad': choose shortest, squash, longest"):
        make(32, MEAN, STD, resize_mode="pad")


def test_a_square_is_the_same_by_any_resize_mode():
    made = [eval_transform(48, MEAN, STD, resize_mode=mode)(picture(200, 200)) for mode in ("shortest", "squash", "longest")]
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])
