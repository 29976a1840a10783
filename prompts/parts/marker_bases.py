"""Base classes of markers. A marker is drawn on a copy of an image to point at a region; all are in `prompts.parts.markers`.

Shapes: N boxes, B images, H x W the image's size. `prompts.parts.marking` defines boxes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from prompts.parts import marking
from prompts.parts.settings import is_of

RED = (240, 0, 30)  # levels of red, green and blue; as ALPHA from CPT's released code
ALPHA = 127  # of 255
COLOURS: Mapping[str, tuple[int, int, int]] = {  # in levels, of CPT's released code
    "red": RED,
    "blue": (0, 10, 255),
    "yellow": (255, 255, 25),
    "purple": (155, 50, 210),
    "green": (0, 255, 0),
}
PHOTO = "a photo of {}"


class Marker(ABC):
    """Draws on copies of an image. `text` is the sentence of a marked region, "{}" standing for the query."""

    needs_mask = False  # True: the region's mask is drawn, not its box

    def __init__(self, text: str = PHOTO):
        if text.count("{}") != 1:
            raise ValueError(f"method.markers: the text {text!r} must have one {{}} for the query, as in {PHOTO!r}.")
        self.text = text

    @abstractmethod
    def area(self, boxes: Tensor, height: int, width: int, masks: Tensor | None = None) -> Tensor:
        """(N,H,W) bool: the pixels that the marker changes, for boxes (N,4) inside the image and masks (N,H,W)."""

    @abstractmethod
    def paint(self, levels: Tensor) -> Tensor:
        """The new levels inside the area, from the image's levels (...,3,H,W), 0 to 255."""

    def mark(self, image: Tensor, box: Tensor, mask: Tensor | None = None) -> Tensor | list[Tensor]:
        """Marked copies; the image itself is not changed.

        Args:
            image: (3,H,W), or (B,3,H,W) with a box for each; uint8, or float from 0 to 1.
            box: (4,) for one copy, (N,4) for N of the one image, (B,4) for one of each.
            mask: (H,W) or (N,H,W) bool, of the regions.

        Returns:
            (3,H,W) or (N,3,H,W) of the image's type, equal to the image bit for bit outside what is drawn.

        Raises:
            ValueError: a box that `clamp_boxes` refuses, or no mask where one is drawn.
        """
        images = image if image.dim() == 4 else image[None]
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ValueError(f"an image of type {images.dtype} cannot be marked: give uint8, or numbers from 0 to 1.")
        boxes = torch.as_tensor(box, dtype=torch.float32, device=images.device)
        masks = None if mask is None else torch.as_tensor(mask, device=images.device).bool()
        one = boxes.dim() == 1
        copies = self.copies(images, boxes.reshape(-1, 4), masks[None] if masks is not None and masks.dim() == 2 else masks)
        return copies[0] if one and image.dim() == 3 else copies

    def copies(self, images: Tensor, boxes: Tensor, masks: Tensor | None) -> Tensor | list[Tensor]:
        """The copies of images (1 or N,3,H,W) for boxes (N,4) as they were given, and masks (N,H,W)."""
        height, width = images.shape[-2:]
        if self.needs_mask and masks is None:
            raise ValueError("this marker draws the masks of regions, and these have none: choose one that draws boxes.")
        if masks is not None and masks.shape != (len(boxes), height, width):
            raise ValueError(
                f"{len(boxes)} regions of a {width} x {height} image have masks of the shape {tuple(masks.shape)}: give one "
                "of the image's size for each region."
            )
        area = self.area(marking.clamp_boxes(boxes, height, width), height, width, masks)[:, None]
        if images.dtype == torch.uint8:
            return torch.where(area, self.paint(images.float()).round().clamp(0, 255).to(torch.uint8), images)
        return torch.where(area, self.paint(images.float() * 255).to(images.dtype) / 255, images)


class Painted(Marker):
    """Base of markers that blend one colour over their area: `colour` in levels or a name in `COLOURS`, `alpha` of 255."""

    def __init__(self, colour: Sequence[float] | str = RED, alpha: float = ALPHA, text: str = PHOTO):
        super().__init__(text)
        if isinstance(colour, str):
            if colour not in COLOURS:
                raise ValueError(f"method.markers: colour={colour[:40]!r} is none of {', '.join(COLOURS)}: write its numbers.")
            colour = COLOURS[colour]
        numbers = [*colour, alpha] if len(colour) == 3 else [-1]
        if not all(is_of(number, float) and 0 <= number <= 255 for number in numbers):
            raise ValueError(f"method.markers: colour={list(colour)}, alpha={alpha}: give three numbers and one, 0 to 255.")
        self.colour, self.alpha = tuple(colour), alpha

    def paint(self, levels: Tensor) -> Tensor:
        """round(alpha x colour + (1 - alpha) x level)."""
        return marking.blend(levels, levels.new_tensor(self.colour), levels.new_tensor(self.alpha / 255))
