"""Transforms of an image together with its label map: those that DenseCLIP trains with (section 4.1; mmsegmentation's).

Geometry is torchvision's v2 on tv_tensors. Random numbers are torch's. Images are resized bilinearly without antialiasing and
label maps to the nearest, as OpenCV does it in the published protocol.
Legend: h, w size of the output; image (3, h, w) uint8 RGB, label map (h, w) uint8
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from datamodules.segmented_items import IGNORE
from datamodules.transforms import to_rgb

TRIES = 10  # crops that are tried until no class fills too much of one
BRIGHTNESS, CONTRAST, SATURATION = 32, (0.5, 1.5), (0.5, 1.5)  # added; factors
HUE = 18  # of 180 steps of the circle
Pair = tuple[Tensor, Tensor]


def fitted_size(height: int, width: int, scale: Sequence[int], ratio: float = 1.0) -> tuple[int, int]:
    """The largest (height, width) of an image that keeps its aspect ratio and fits `scale`: the longer side is at most the
    longer of `scale`, the shorter at most the shorter one, both times `ratio`."""
    long, short = sorted((int(side * ratio) for side in scale), reverse=True)
    factor = min(long / max(height, width), short / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


class FitScale:
    """The test transform: an image resized with its aspect ratio to fit `scale` (`fitted_size`); None: unchanged."""

    def __init__(self, scale: Sequence[int] | None) -> None:
        self.scale = scale

    def __call__(self, image: PIL.Image.Image) -> Tensor:
        return resized(_tensor(image), self.scale)


def resized(image: Tensor, scale: Sequence[int] | None, ratio: float = 1.0) -> Tensor:
    """An image or a label map, a tv_tensor (..., H, W), resized with its aspect ratio to fit `scale` times `ratio`."""
    if scale is None:
        return image
    height, width = image.shape[-2:]
    size = list(fitted_size(height, width, scale, ratio))
    nearest = isinstance(image, tv_tensors.Mask)
    mode = InterpolationMode.NEAREST if nearest else InterpolationMode.BILINEAR
    return F.resize(image, size, interpolation=mode, antialias=False)


class JointTrain:
    """The training transform: random scale, a crop that no class fills, flip, photometric distortion, padding.

    Images smaller than the crop are padded at the right and at the bottom: the label map with `IGNORE`, the image with the
    CLIP's mean colour, which is 0 once it is normalised, as published.

    Args:
        crop: height and width of the output, px.
        scale: the size that the image is resized to fit (`fitted_size`), px; None: its own size. Both are scaled by `ratio`.
        ratio: the range of the random scale factor.
        cat_max_ratio: a crop is drawn again, up to ten times, while one class has this share of its labelled pixels or more.
        photometric: False: colours stay as they are.
        mean: the CLIP's mean colour, 0 to 1.
    """

    def __init__(
        self,
        crop: tuple[int, int],
        scale: Sequence[int] | None,
        ratio: tuple[float, float] = (0.5, 2.0),
        cat_max_ratio: float = 0.75,
        photometric: bool = True,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        self.crop, self.scale, self.ratio, self.cat_max_ratio, self.photometric = crop, scale, ratio, cat_max_ratio, photometric
        self.fill = [round(255 * channel) for channel in mean]

    def __call__(self, image: PIL.Image.Image, label_map: np.ndarray) -> Pair:
        pixels, labels = _tensor(image), tv_tensors.Mask(torch.from_numpy(np.ascontiguousarray(label_map)))
        ratio, scale = _uniform(*self.ratio), self.scale or pixels.shape[-2:]
        pixels, labels = resized(pixels, scale, ratio), resized(labels, scale, ratio)
        place = self._place(labels)
        pixels, labels = F.crop(pixels, *place), F.crop(labels, *place)
        if _heads():
            pixels, labels = F.horizontal_flip(pixels), F.horizontal_flip(labels)
        if self.photometric:
            pixels = distorted(pixels)
        return self._padded(pixels, labels)

    def _place(self, labels: Tensor) -> tuple[int, int, int, int]:
        """Top, left, height and width of a crop."""
        height, width = (min(side, most) for side, most in zip(labels.shape, self.crop, strict=True))
        rest = labels.shape[0] - height, labels.shape[1] - width
        top, left = (_integer(0, margin + 1) for margin in rest)
        for _ in range(TRIES if self.cat_max_ratio < 1 else 0):
            counts = torch.bincount(labels[top : top + height, left : left + width].flatten(), minlength=256)[:IGNORE]
            if (counts > 0).sum() > 1 and counts.max() < self.cat_max_ratio * counts.sum():
                break
            top, left = (_integer(0, margin + 1) for margin in rest)
        return top, left, height, width

    def _padded(self, pixels: Tensor, labels: Tensor) -> Pair:
        height, width = labels.shape
        padding = [0, 0, self.crop[1] - width, self.crop[0] - height]
        if any(padding):
            pixels, labels = F.pad(pixels, padding, fill=self.fill), F.pad(labels, padding, fill=IGNORE)
        return pixels.as_subclass(Tensor).contiguous(), labels.as_subclass(Tensor).contiguous()


def distorted(pixels: Tensor) -> Tensor:
    """Photometric distortion: brightness, contrast (before or after the others), saturation, hue; each in half of the cases."""
    if _heads():
        pixels = _linear(pixels, 1.0, _uniform(-BRIGHTNESS, BRIGHTNESS))
    first = _heads()
    if first and _heads():
        pixels = _linear(pixels, _uniform(*CONTRAST))
    saturation = _uniform(*SATURATION) if _heads() else 1.0
    hue = _integer(-HUE, HUE) if _heads() else 0
    pixels = _recoloured(pixels, saturation, hue) if (saturation, hue) != (1.0, 0) else pixels
    if not first and _heads():
        pixels = _linear(pixels, _uniform(*CONTRAST))
    return pixels


def _linear(pixels: Tensor, factor: float, offset: float = 0.0) -> Tensor:
    return (pixels.float() * factor + offset).clamp(0, 255).to(torch.uint8)  # rounds down, as published


def _recoloured(pixels: Tensor, saturation: float, hue: int) -> Tensor:
    """The saturation is multiplied, the hue moved by so many of 180 steps; in HSV of 8 bits, as published."""
    bands = F.to_pil_image(pixels).convert("HSV").split()
    hues, saturations = bands[0].point(_table(lambda v: (v + hue * 256 / 180) % 256)), bands[1]
    saturations = saturations.point(_table(lambda v: min(v * saturation, 255)))
    return F.pil_to_tensor(PIL.Image.merge("HSV", (hues, saturations, bands[2])).convert("RGB"))


def _table(change: Callable[[int], float]) -> list[int]:
    return [int(change(value)) for value in range(256)]


def _tensor(image: PIL.Image.Image) -> Tensor:
    return tv_tensors.Image(F.pil_to_tensor(to_rgb(image)))


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def _integer(low: int, end: int) -> int:
    return int(torch.randint(low, end, ()))


def _heads() -> bool:
    return torch.rand(()).item() < 0.5
