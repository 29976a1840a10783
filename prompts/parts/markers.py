"""Markers: what is drawn on a copy of an image to point at one of its regions, and the sentence that goes with it.

Filled blocks are CPT's (arXiv 2109.11797, with the colours and the transparency of its released code); crop, blur and the red
block on CLIP are ReCLIP's, the ellipse and what is done outside it FGVP's. docs/cpt.md says what is published of each.

Shapes: N boxes, B images, H x W the image's size. Boxes are as `prompts.parts.marking` has them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from prompts.parts import marking

RED = (240, 0, 30)
COLOURS = {  # in levels, of CPT's released code
    "red": RED,
    "blue": (0, 10, 255),
    "yellow": (255, 255, 25),
    "purple": (155, 50, 210),
    "green": (0, 255, 0),
}
ALPHA = 127  # of 255
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
        """(N,H,W) bool: the pixels that are drawn anew, of boxes (N,4) inside the image and masks (N,H,W)."""

    @abstractmethod
    def paint(self, levels: Tensor) -> Tensor:
        """Levels (...,3,H,W) from 0 to 255 as they are inside the area."""

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
        copies = self._copies(images, boxes.reshape(-1, 4), masks[None] if masks is not None and masks.dim() == 2 else masks)
        return copies[0] if one and image.dim() == 3 else copies

    def _copies(self, images: Tensor, boxes: Tensor, masks: Tensor | None) -> Tensor | list[Tensor]:
        """Of images (1 or N,3,H,W) and boxes (N,4)."""
        height, width = images.shape[-2:]
        if self.needs_mask and masks is None:
            raise ValueError("the marker fill_mask draws the masks of regions, and these have none: choose fill_box.")
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
    """Base of markers that lay one colour over their area: `colour` in levels, `alpha` of 255."""

    def __init__(self, colour: Sequence[float] = RED, alpha: float = ALPHA, text: str = PHOTO):
        super().__init__(text)
        numbers = [*colour, alpha] if len(colour) == 3 else [-1]
        if not all(0 <= number <= 255 for number in numbers):
            raise ValueError(
                f"method.markers: colour={list(colour)} and alpha={alpha} must be three numbers and one, 0 to 255."
            )
        self.colour, self.alpha = tuple(colour), alpha

    def paint(self, levels: Tensor) -> Tensor:
        """round(alpha x colour + (1 - alpha) x level)."""
        return marking.blend(levels, levels.new_tensor(self.colour), levels.new_tensor(self.alpha / 255))


class FillBox(Painted):
    """CPT's block: a half transparent filled box. `word` is how the sentence calls the colour."""

    def __init__(self, colour: Sequence[float] = RED, alpha: float = ALPHA, word: str = "red", text: str | None = None):
        super().__init__(colour, alpha, f"{{}} is in {word} color." if text is None else text)
        self.word = word

    def area(self, boxes: Tensor, height: int, width: int, masks: Tensor | None = None) -> Tensor:
        """The boxes."""
        return marking.box_area(boxes, height, width)


MARKERS: Mapping[str, type[Marker]] = {"fill_box": FillBox}


def make_markers(entries: Sequence[str | Mapping[str, Any] | Marker]) -> list[Marker]:
    """Markers by their names, or as mappings with a name and options, {name: ellipse, thickness: 4}; made ones stay.

    Raises:
        ValueError: none, an unknown name, or an option that the marker does not take.
    """
    if isinstance(entries, str) or not entries:
        raise ValueError(f"method.markers={entries!r}: give a list with some of {', '.join(MARKERS)}.")
    return [entry if isinstance(entry, Marker) else _made(entry) for entry in entries]


def _made(entry: str | Mapping[str, Any]) -> Marker:
    options = {"name": entry} if isinstance(entry, str) else dict(entry) if isinstance(entry, Mapping) else {}
    name = options.pop("name", None)
    if name not in MARKERS:
        raise ValueError(f"method.markers: {str(entry)[:80]!r} is no marker: choose among {', '.join(MARKERS)}.")
    try:
        return MARKERS[name](**options)
    except TypeError as error:
        raise ValueError(f"method.markers: {name} cannot be made from {options}: {error}.") from error
