"""RandAugment2: the augmentation that POMP adds to crop and flip (Ren et al., NeurIPS 2023, released configuration)."""

from __future__ import annotations

import math
from collections.abc import Callable

import PIL.Image
import torch
from torchvision.transforms import functional as F

Image = PIL.Image.Image


def _shear(image: Image, x: float, y: float) -> Image:
    """The image sheared about its upper left corner; `x` and `y` are slopes."""
    degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return F.affine(image, angle=0, translate=[0, 0], scale=1, shear=degrees, center=[0, 0])


def _shift(image: Image, x: float, y: float) -> Image:
    """The image shifted by the fractions `x` of its width and `y` of its height."""
    pixels = [int(x * image.width), int(y * image.height)]
    return F.affine(image, angle=0, translate=pixels, scale=1, shear=[0, 0])


# name: (least and greatest magnitude, operation)
OPERATIONS: dict[str, tuple[float, float, Callable[[Image, float], Image]]] = {
    "AutoContrast": (0, 1, lambda image, _: F.autocontrast(image)),
    "Brightness": (0.1, 1.9, F.adjust_brightness),
    "Color": (0.1, 1.9, F.adjust_saturation),
    "Contrast": (0.1, 1.9, F.adjust_contrast),
    "Equalize": (0, 1, lambda image, _: F.equalize(image)),
    "Identity": (0, 1, lambda image, _: image),
    "Invert": (0, 1, lambda image, _: F.invert(image)),
    "Posterize": (4, 8, lambda image, bits: F.posterize(image, int(bits))),
    "Rotate": (-30, 30, F.rotate),
    "Sharpness": (0.1, 1.9, F.adjust_sharpness),
    "ShearX": (-0.3, 0.3, lambda image, slope: _shear(image, slope, 0)),
    "ShearY": (-0.3, 0.3, lambda image, slope: _shear(image, 0, slope)),
    "Solarize": (0, 256, F.solarize),
    "TranslateX": (-0.3, 0.3, lambda image, part: _shift(image, part, 0)),
    "TranslateY": (-0.3, 0.3, lambda image, part: _shift(image, 0, part)),
}


class RandAugment2:
    """`draws` operations, drawn with replacement; each is done with probability `p`, its magnitude uniform in its range.

    Random numbers are torch's.
    """

    def __init__(self, draws: int = 2, p: float = 0.6) -> None:
        self.draws, self.p = draws, p

    def __call__(self, image: Image) -> Image:
        names = list(OPERATIONS)
        for i in torch.randint(len(names), (self.draws,)).tolist():
            chance, where = torch.rand(2).tolist()
            if chance < self.p:
                least, greatest, operation = OPERATIONS[names[i]]
                image = operation(image, least + where * (greatest - least))
        return image
