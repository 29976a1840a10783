import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.transforms import functional as F

from datamodules.transforms import BICUBIC, eval_transform, train_transform

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
