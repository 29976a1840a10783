"""The markers, by name, each with the sentence that goes with what it draws.

Filled blocks are CPT's (arXiv 2109.11797, with the colours and the transparency of its released code); crop, blur and the red
block on CLIP are ReCLIP's, the ellipse and what is done outside it FGVP's. docs/cpt.md says what is published of each.

Shapes: N boxes, H x W the image's size.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from prompts.parts import marking
from prompts.parts.marker_bases import ALPHA, PHOTO, RED, Marker, Painted
from prompts.parts.settings import is_of

PURE_RED = (255, 0, 0)
THICKNESS = 2.0  # pixels
BLUR = 100.0  # pixels


class FillBox(Painted):
    """CPT's block: a half transparent filled box. `word` is the colour's name in the sentence; without it that of `colour`, or
    red where the colour is given in numbers."""

    def __init__(
        self,
        colour: Sequence[float] | str = RED,
        alpha: float = ALPHA,
        word: str | None = None,
        text: str | None = None,
    ):
        if word is None:
            word = colour if isinstance(colour, str) else "red"
        super().__init__(colour, alpha, f"{{}} is in {word} color." if text is None else text)

    def area(self, boxes: Tensor, height: int, width: int, masks: Tensor | None = None) -> Tensor:
        """The boxes."""
        return marking.box_area(boxes, height, width)


class FillMask(FillBox):
    """CPT's block for masks: the region's mask, filled in the same way."""

    needs_mask = True

    def area(self, boxes: Tensor, height: int, width: int, masks: Tensor | None = None) -> Tensor:
        """The masks, as far as they lie in their boxes; the box itself where nothing of its mask does."""
        assert masks is not None
        inside = marking.box_area(boxes, height, width)
        masked = masks & inside
        return torch.where(masked.any((-2, -1), keepdim=True), masked, inside)


class OutlineBox(Painted):
    """A box's outline, half of its `thickness` (pixels) on either side of the edge."""

    def __init__(
        self,
        colour: Sequence[float] | str = PURE_RED,
        alpha: float = 255,
        thickness: float = THICKNESS,
        text: str = PHOTO,
    ):
        super().__init__(colour, alpha, text)
        self.half = _at_least("thickness", thickness, 1) / 2

    def area(self, boxes: Tensor, height: int, width: int, masks: Tensor | None = None) -> Tensor:
        """The line."""
        out = boxes.new_tensor([-self.half, -self.half, self.half, self.half])
        return marking.box_area(boxes + out, height, width) & ~marking.box_area(boxes - out, height, width)


class Ellipse(Painted):
    """The red circle (Shtedritski et al., ICCV 2023), in FGVP's form: the outline of the ellipse inscribed in the box. The
    line is at least one pixel.

    Args:
        thickness: of the line, in pixels of an image whose shorter side has `at` pixels; of the image itself where that is
            null. FGVP scales images to 384 before it draws.
        expand: by how much of the image's sides the box is moved out first. FGVP's code has this setting and does not use it.
    """

    def __init__(
        self,
        colour: Sequence[float] | str = PURE_RED,
        alpha: float = 255,
        thickness: float = THICKNESS,
        at: int | None = None,
        expand: float = 0.0,
        text: str = PHOTO,
    ):
        super().__init__(colour, alpha, text)
        self.thickness, self.expand = _at_least("thickness", thickness, 0), _at_least("expand", expand, 0)
        self.at = None if at is None else _at_least("at", at, 1)

    def area(self, boxes: Tensor, height: int, width: int, masks: Tensor | None = None) -> Tensor:
        """The line, half on either side of the ellipse."""
        boxes = marking.grown(boxes, height, width, share=self.expand)
        half = max(1.0, self.thickness * _scale(self.at, height, width)) / 2
        outer = marking.ellipse_area(boxes, height, width, half)
        return outer & ~marking.ellipse_area(boxes, height, width, -half)


class BlurOutside(Marker):
    """ReCLIP's blur: a Gaussian of `std` pixels everywhere outside the box."""

    def __init__(self, std: float = BLUR, text: str = PHOTO):
        super().__init__(text)
        self.std = _at_least("std", std, 0.1)

    def area(self, boxes: Tensor, height: int, width: int, masks: Tensor | None = None) -> Tensor:
        """All but the boxes."""
        return ~marking.box_area(boxes, height, width)

    def paint(self, levels: Tensor) -> Tensor:
        """Blurred."""
        return marking.blurred(levels, self.std)


class GreyOutside(Marker):
    """Turns everything outside the box grey."""

    def area(self, boxes: Tensor, height: int, width: int, masks: Tensor | None = None) -> Tensor:
        """All but the boxes."""
        return ~marking.box_area(boxes, height, width)

    def paint(self, levels: Tensor) -> Tensor:
        """Grey."""
        return marking.grey(levels)


class BlurCircle(BlurOutside):
    """FGVP's blur: everything outside the ellipse that `Ellipse` outlines. `at`: as there, for `std`."""

    def __init__(self, std: float = BLUR, at: int | None = None, expand: float = 0.0, text: str = PHOTO):
        super().__init__(std, text)
        self.expand = _at_least("expand", expand, 0)
        self.at = None if at is None else _at_least("at", at, 1)

    def area(self, boxes: Tensor, height: int, width: int, masks: Tensor | None = None) -> Tensor:
        """All but the ellipses."""
        boxes = marking.grown(boxes, height, width, share=self.expand)
        return ~marking.ellipse_area(boxes, height, width)

    def paint(self, levels: Tensor) -> Tensor:
        """Blurred."""
        return marking.blurred(levels, self.std * _scale(self.at, *levels.shape[-2:]))


class GreyCircle(GreyOutside):
    """FGVP's grey: everything outside the ellipse that `Ellipse` outlines."""

    def __init__(self, expand: float = 0.0, text: str = PHOTO):
        super().__init__(text)
        self.expand = _at_least("expand", expand, 0)

    def area(self, boxes: Tensor, height: int, width: int, masks: Tensor | None = None) -> Tensor:
        """All but the ellipses."""
        boxes = marking.grown(boxes, height, width, share=self.expand)
        return ~marking.ellipse_area(boxes, height, width)


class Crop(Marker):
    """Cuts the box, enlarged by `enlarge` pixels on each side, out as an image of its own: N boxes give a list of N images."""

    def __init__(self, enlarge: float = 0.0, text: str = PHOTO):
        super().__init__(text)
        self.enlarge = _at_least("enlarge", enlarge, 0)

    def area(self, boxes: Tensor, height: int, width: int, masks: Tensor | None = None) -> Tensor:
        """Nothing is drawn."""
        return torch.zeros(len(boxes), height, width, dtype=torch.bool, device=boxes.device)

    def paint(self, levels: Tensor) -> Tensor:
        """As it is."""
        return levels

    def copies(self, images: Tensor, boxes: Tensor, masks: Tensor | None) -> list[Tensor]:
        """The boxes' pixels, those whose centres lie inside."""
        height, width = images.shape[-2:]
        places = marking.grown(marking.clamp_boxes(boxes, height, width), height, width, self.enlarge)
        edges = (places - 0.5).ceil().long().tolist()  # the first pixel inside, and the first one after the box
        of_each = images.expand(len(boxes), -1, -1, -1)
        return [image[:, y1:y2, x1:x2] for image, (x1, y1, x2, y2) in zip(of_each, edges, strict=True)]


def _scale(at: float | None, height: int, width: int) -> float:
    """Pixels of an image for one of an image whose shorter side has `at`."""
    return 1.0 if at is None else min(height, width) / at


def _at_least(key: str, value: float, least: float) -> float:
    if not value >= least:
        raise ValueError(f"method.markers: {key}={value}: give a number, {least} or more.")
    return value


MARKERS: Mapping[str, type[Marker]] = {
    "fill_box": FillBox,
    "fill_mask": FillMask,
    "outline_box": OutlineBox,
    "ellipse": Ellipse,
    "blur_outside": BlurOutside,
    "grey_outside": GreyOutside,
    "blur_circle": BlurCircle,
    "grey_circle": GreyCircle,
    "crop": Crop,
}


def make_markers(entries: Sequence[str | Mapping[str, Any] | Marker]) -> list[Marker]:
    """Markers from names, or from mappings with a name and options, {name: ellipse, thickness: 4}; instances are kept as given.

    Raises:
        ValueError: none, an unknown name, or an option that the marker does not take or that is of another type.
    """
    if isinstance(entries, str) or not entries:
        raise ValueError(f"method.markers={entries!r}: give a list with some of {', '.join(MARKERS)}.")
    return [entry if isinstance(entry, Marker) else _made(entry) for entry in entries]


def _made(entry: str | Mapping[str, Any]) -> Marker:
    options = {"name": entry} if isinstance(entry, str) else dict(entry) if isinstance(entry, Mapping) else {}
    name = options.pop("name", None)
    if name not in MARKERS:
        raise ValueError(f"method.markers: {str(entry)[:80]!r} is no marker: choose among {', '.join(MARKERS)}.")
    made = MARKERS[name].__init__
    hints, taken = typing.get_type_hints(made), list(inspect.signature(made).parameters.values())[1:]
    types = {option.name: option.annotation for option in taken}
    for key, value in options.items():
        if key not in types:
            raise ValueError(f"method.markers: {name} cannot be made from {options}: it takes {', '.join(types)}.")
        if not is_of(value, hints[key]):
            raise ValueError(f"method.markers: {key}={value!r:.80} of {name} is not of the type {types[key]}.")
    return MARKERS[name](**options)
