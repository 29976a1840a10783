"""Images with their boxes and masks, resized and mirrored together, by torchvision's transforms of `tv_tensors`.

Shapes: N objects of an image, (H,W) its size as opened, (h,w) as a model takes it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F


@dataclass(frozen=True)
class Boxed:
    """An image and its objects."""

    image: Tensor  # (3,H,W) uint8
    boxes: Tensor  # (N,4) float32: x1, y1, x2, y2 in pixels of `image`
    masks: Tensor | None = None  # (N,H,W) uint8


@dataclass(frozen=True)
class BoxTransform:
    """Resizes an image so that its shorter side is `shorter` pixels, or less where the longer side would exceed `longer`, and
    mirrors it with probability `flip`."""

    shorter: int
    longer: int
    flip: float = 0.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not 1 <= self.shorter <= self.longer:
            raise ValueError(
                f"data.shorter={self.shorter} and data.longer={self.longer}: give the pixels of an image's shorter and longer "
                "side, the second at least as large as the first."
            )
        if not 0 <= self.flip <= 1:
            raise ValueError(f"data.flip={self.flip}: give the probability that a training image is mirrored, from 0 to 1.")

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """The size (h,w) that an image of that size gets."""
        scale = min(self.shorter / min(height, width), self.longer / max(height, width))
        return max(round(height * scale), 1), max(round(width * scale), 1)

    def __call__(self, sample: Boxed, seed: int) -> Boxed:
        """The image, its boxes and masks; whether it is mirrored follows from the seed alone."""
        old, new = tuple(sample.image.shape[-2:]), self.size_of(*sample.image.shape[-2:])
        if old != new:
            mode = InterpolationMode(self.interpolation)
            boxes = tv_tensors.BoundingBoxes(sample.boxes, format="XYXY", canvas_size=old)
            masks = None if sample.masks is None else F.resize(tv_tensors.Mask(sample.masks), list(new))
            sample = Boxed(F.resize(sample.image, list(new), mode, antialias=True), F.resize(boxes, list(new)), masks)
        if random.Random(seed).random() < self.flip:
            boxes = tv_tensors.BoundingBoxes(sample.boxes, format="XYXY", canvas_size=new)
            masks = None if sample.masks is None else F.horizontal_flip(sample.masks)
            sample = Boxed(F.horizontal_flip(sample.image), F.horizontal_flip(boxes), masks)
        plain = None if sample.masks is None else sample.masks.as_subclass(Tensor)
        return replace(sample, boxes=sample.boxes.as_subclass(Tensor), masks=plain)
