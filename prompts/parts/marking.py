"""Drawing operations of markers: areas of pixels, blending, blur, and the conversion of drawn images to a CLIP's input.

A box is (x1, y1, x2, y2) in pixels of the image as opened, with exclusive far edges. A pixel belongs to a box or an ellipse if
its centre, half a pixel from its corner, lies inside; there is no other rounding rule.

Shapes: N boxes, H x W the image's size, S the side of a CLIP's images. Levels are pixels as float32 from 0 to 255.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

ResizeMode = Literal["squash", "shortest"]
LUMA = (0.299, 0.587, 0.114)  # of ITU-R 601, as Pillow's grey has it


def clamp_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """The parts of boxes (N,4) inside an image, float32. A side that is then shorter than one pixel is made one pixel long, at
    its far end, or at its near end where the image ends, as in `datamodules.boxes.clamp`.

    Raises:
        ValueError: a box has numbers that are not finite, a negative width or height, or no part inside the image.
    """
    boxes = boxes.float()
    if not boxes.isfinite().all():
        raise ValueError(f"a box has the corners {_bad(boxes, ~boxes.isfinite().all(-1))}: they must be finite numbers.")
    start, end = boxes[:, :2], boxes[:, 2:]
    if (bad := (end < start).any(-1)).any():
        raise ValueError(f"the box {_bad(boxes, bad)} has a negative width or height: give x1 <= x2 and y1 <= y2.")
    most = boxes.new_tensor([width, height])
    low, high = start.clamp_min(0), torch.minimum(end, most)
    if (bad := ((high < low) | ((high == low) & (end > start))).any(-1)).any():
        raise ValueError(f"the box {_bad(boxes, bad)} is outside the image of {width} x {height} pixels: remove it.")
    short = high - low < 1
    low = torch.where(short, torch.minimum(low, most - 1), low)
    return torch.cat([low, torch.where(short, low + 1, high)], -1)


def _bad(boxes: Tensor, bad: Tensor) -> str:
    return "(" + ", ".join(f"{number:g}" for number in boxes[bad][0].tolist()) + ")"


def _centres(boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(1,1,W) and (1,H,1): the x and the y of the pixels' centres."""
    x = torch.arange(width, device=boxes.device) + 0.5
    y = torch.arange(height, device=boxes.device) + 0.5
    return x[None, None], y[None, :, None]


def box_area(boxes: Tensor, height: int, width: int) -> Tensor:
    """(N,H,W) bool: the pixels of boxes (N,4)."""
    x, y = _centres(boxes, height, width)
    x1, y1, x2, y2 = boxes[:, :, None, None].unbind(1)
    return (x >= x1) & (x < x2) & (y >= y1) & (y < y2)


def ellipse_area(boxes: Tensor, height: int, width: int, grow: float | Tensor = 0.0) -> Tensor:
    """(N,H,W) bool: the pixels of the ellipses inscribed in boxes (N,4), their half axes longer by `grow` pixels."""
    x, y = _centres(boxes, height, width)
    x1, y1, x2, y2 = boxes[:, :, None, None].unbind(1)
    half_x, half_y = (x2 - x1) / 2 + grow, (y2 - y1) / 2 + grow
    inside = ((x - (x1 + x2) / 2) / half_x) ** 2 + ((y - (y1 + y2) / 2) / half_y) ** 2 <= 1
    return inside & (half_x > 0) & (half_y > 0)


def grown(boxes: Tensor, height: int, width: int, pixels: float = 0.0, share: float = 0.0) -> Tensor:
    """Boxes (N,4) with every side moved out by `pixels` and by `share` of the image's side, then clamped to the image."""
    out = boxes.new_tensor([share * width + pixels, share * height + pixels])
    return clamp_boxes(torch.cat([boxes[:, :2] - out, boxes[:, 2:] + out], -1), height, width)


def blend(levels: Tensor, colour: Tensor, alpha: Tensor) -> Tensor:
    """round(alpha x colour + (1 - alpha) x level): levels (...,3,H,W), a colour (3,) in levels and alpha, a scalar from 0 to 1.
    Gradients pass through the rounding unchanged."""
    mixed = alpha * colour[:, None, None] + (1 - alpha) * levels
    return mixed + (mixed.round() - mixed).detach()


@lru_cache(maxsize=8)
def _blur_matrix(length: int, std: float) -> Tensor:
    """(length,length): the Gaussian blur of a row or column, whose first and last pixels are repeated beyond the border."""
    reach = int(4 * std) + 1
    at = torch.arange(-reach, length + reach, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((at - torch.arange(length, dtype=torch.float64)[:, None]) / std) ** 2)
    weights = weights / weights.sum(1, keepdim=True)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    return matrix.index_add_(1, at.clamp(0, length - 1).long(), weights).float()


def blurred(levels: Tensor, std: float) -> Tensor:
    """Levels (...,3,H,W) under a Gaussian of `std` pixels, as two products of matrices: its cost does not grow with `std`."""
    rows, columns = (_blur_matrix(n, std).to(levels.device) for n in levels.shape[-2:])
    return rows @ levels @ columns.T


def grey(levels: Tensor) -> Tensor:
    """Levels (...,3,H,W) without colour."""
    return (levels * levels.new_tensor(LUMA)[:, None, None]).sum(-3, keepdim=True).expand_as(levels)


def to_pixels(levels: Tensor | Sequence[Tensor], image_spec: Mapping[str, Any], mode: ResizeMode = "squash") -> Tensor:
    """Drawn images as a CLIP takes them: resized with antialiasing by its interpolation, and normalised.

    Args:
        levels: (N,3,H,W), or N images (3,h,w) of different sizes; uint8, or float levels from 0 to 255.
        image_spec: `FrozenCLIP.image_spec`.
        mode: squash (both sides, so that nothing is cut off), or shortest (CLIP's own: the shorter side, then a centre crop).

    Returns:
        (N,3,S,S) float32
    """
    if not isinstance(levels, Tensor):
        return torch.cat([to_pixels(image[None], image_spec, mode) for image in levels])
    size = image_spec["size"]
    with torch.autocast(levels.device.type, enabled=False):
        levels, (height, width) = levels.float(), levels.shape[-2:]
        if mode == "shortest":
            short = min(height, width)
            height, width = (size if n == short else max(size, int(size * n / short)) for n in (height, width))
        else:
            height = width = size
        if levels.shape[-2:] != (height, width):
            kind = image_spec.get("interpolation", "bicubic")
            levels = F.interpolate(levels, (height, width), mode=kind, antialias=True, align_corners=False).clamp(0, 255)
        top, left = round((height - size) / 2), round((width - size) / 2)
        levels = levels[..., top : top + size, left : left + size]
        mean, std = (levels.new_tensor(image_spec[key])[:, None, None] for key in ("mean", "std"))
        return (levels / 255 - mean) / std
