"""Image transforms of the published protocols. RGB comes first: a resized palette or CMYK image would differ."""

from collections.abc import Callable, Sequence

import PIL.Image
from torch import Tensor
from torchvision import transforms as T

Transform = Callable[[PIL.Image.Image], Tensor]
Augment = Callable[[PIL.Image.Image], PIL.Image.Image]
BICUBIC = T.InterpolationMode.BICUBIC
ELONGATED = 32


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image in mode RGB."""
    return image if image.mode == "RGB" else image.convert("RGB")


def crop_elongated(image: PIL.Image.Image) -> PIL.Image.Image:
    """The middle of an image that is more than `ELONGATED` times as long as wide; other images unchanged.

    The centre crop keeps only a square of such an image, and resizing all of it could take gigabytes.
    """
    (width, height), most = image.size, ELONGATED * min(image.size)
    if max(width, height) <= most:
        return image
    left, top = (width - min(width, most)) // 2, (height - min(height, most)) // 2
    return image.crop((left, top, left + min(width, most), top + min(height, most)))


def train_transform(size: int, mean: Sequence[float], std: Sequence[float], augment: Augment | None = None) -> Transform:
    """Random crop of 8-100% of the area, random flip, then `augment`: (3, size, size) float32, normalised by mean and std.

    Random numbers are torch's.
    """
    crop = T.RandomResizedCrop(size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), interpolation=BICUBIC)
    more = [augment] if augment else []
    return T.Compose([to_rgb, crop, T.RandomHorizontalFlip(), *more, T.ToTensor(), T.Normalize(mean, std)])


def eval_transform(size: int, mean: Sequence[float], std: Sequence[float]) -> Transform:
    """The shorter side resized to `size` px, then a centre crop: (3, size, size) float32, normalised by mean and std."""
    resize = T.Resize(size, interpolation=BICUBIC)
    return T.Compose([to_rgb, crop_elongated, resize, T.CenterCrop(size), T.ToTensor(), T.Normalize(mean, std)])
