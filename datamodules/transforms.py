"""Image transforms of the published protocols, for the input of a CLIP (`FrozenCLIP.image_spec`). Images are converted to RGB
before they are resized, as resizing a palette or CMYK image gives another result."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any

import PIL.Image
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms import functional as F

Transform = Callable[[PIL.Image.Image], Tensor]
Step = Callable[[PIL.Image.Image], PIL.Image.Image]
Augment = Step
BICUBIC = T.InterpolationMode.BICUBIC
INTERPOLATIONS = {"bicubic": BICUBIC, "bilinear": T.InterpolationMode.BILINEAR}
RESIZE_MODES = ("shortest", "squash", "longest")
ELONGATED = 32


class Prepared:
    """The transform by `steps`: a call returns (3,S,S) float32, normalised by mean and std.

    `pixels` returns the same as uint8, a quarter of the bytes, which a CLIP normalises on its device
    (`FrozenCLIP.normalised`).
    """

    def __init__(self, steps: Sequence[Step], mean: Sequence[float], std: Sequence[float]) -> None:
        self.steps, self.normalise = T.Compose(steps), T.Compose([T.ToTensor(), T.Normalize(mean, std)])

    def __call__(self, image: PIL.Image.Image) -> Tensor:
        return self.normalise(self.steps(image))

    def pixels(self, image: PIL.Image.Image) -> Tensor:
        """The image as uint8 (3,S,S)."""
        return F.pil_to_tensor(self.steps(image)).contiguous()


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


def train_transform(
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    augment: Augment | None = None,
    interpolation: str = "bicubic",
    resize_mode: str = "shortest",
) -> Prepared:
    """Random crop of 8-100% of the area, random flip, then `augment`: (3, size, size) float32, normalised by mean and std.

    Random numbers are torch's. A crop is resized to a square whatever the `resize_mode`, which is for whole images.

    Raises:
        ValueError: an unknown interpolation or resize mode.
    """
    _check_mode(resize_mode)
    crop = T.RandomResizedCrop(size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), interpolation=_interpolation(interpolation))
    more = [augment] if augment else []
    return Prepared([to_rgb, crop, T.RandomHorizontalFlip(), *more], mean, std)


def eval_transform(
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str = "bicubic",
    resize_mode: str = "shortest",
) -> Prepared:
    """A whole image in one size: (3, size, size) float32, normalised by mean and std.

    Args:
        size: pixels a side.
        interpolation: bicubic or bilinear.
        resize_mode: shortest (the shorter side resized to `size`, then a centre crop), squash (both sides, so that the shape
            changes) or longest (the longer side, then black bars).

    Raises:
        ValueError: an unknown interpolation or resize mode.
    """
    _check_mode(resize_mode)
    mode = _interpolation(interpolation)
    fits = {
        "shortest": [crop_elongated, T.Resize(size, interpolation=mode), T.CenterCrop(size)],
        "squash": [T.Resize((size, size), interpolation=mode)],
        "longest": [partial(fit_longest, size=size, interpolation=mode)],
    }
    return Prepared([to_rgb, *fits[resize_mode]], mean, std)


def made_for(image_spec: Mapping[str, Any], make: Callable[..., Transform]) -> Transform:
    """The transform that `make` makes for a CLIP: from size, mean and std, and from interpolation and resize_mode if it takes
    them (a transform of somebody's own may resize in its own way)."""
    parameters = signature(make).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    optional = ("interpolation", "resize_mode")
    return make(**{key: value for key, value in image_spec.items() if key not in optional or takes_all or key in parameters})


def fit_longest(image: PIL.Image.Image, size: int, interpolation: T.InterpolationMode) -> PIL.Image.Image:
    """The longer side resized to `size` px, then black bars on both sides of the shorter one."""
    ratio = max(image.size) / size
    width, height = (max(round(side / ratio), 1) for side in image.size)
    left, top = (size - width) // 2, (size - height) // 2
    resized = F.resize(image, [height, width], interpolation)
    return F.pad(resized, [left, top, size - width - left, size - height - top], fill=0)


def _interpolation(name: str) -> T.InterpolationMode:
    if name not in INTERPOLATIONS:
        raise ValueError(f"the interpolation of images is {name!r}: choose {' or '.join(INTERPOLATIONS)}.")
    return INTERPOLATIONS[name]


def _check_mode(resize_mode: str) -> None:
    if resize_mode not in RESIZE_MODES:
        raise ValueError(f"the resize mode of images is {resize_mode!r}: choose {', '.join(RESIZE_MODES)}.")
