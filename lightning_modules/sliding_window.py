"""Dense prediction of test images: on the whole image or by sliding windows, at one size or several, optionally mirrored too;
and the classes of the pixels at the size of the labels.

As in DenseCLIP's test (Rao et al., CVPR 2022, by mmsegmentation), the logits of windows are averaged where they overlap. Over
sizes and mirror images the probabilities are averaged at the labels' size.

Shapes: B images, K classes, (h,w) an image as it is tested, (H,W) its label map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Segment = Callable[[Tensor], Tensor]  # images (B,3,h,w) uint8 -> logits (B,K,h',w'), usually of a coarser grid
BAND = 2**24  # numbers of (B,K,rows,W) that are resized at once: 64 MiB


@dataclass(frozen=True)
class TestMode:
    """The test mode: windows, sizes and mirror images.

    Args:
        window, stride: side of the square window and distance of neighbouring windows in pixels; None: the whole image.
        ratios: scale factors of the image; 1 is its own size.
        flip: predict each size mirrored, too.

    Raises:
        ValueError: windows that would leave pixels out, or ratios out of range.
    """

    __test__ = False  # keeps pytest from collecting the class as tests

    window: int | None = None
    stride: int | None = None
    ratios: Sequence[float] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if (self.window is None) != (self.stride is None):
            raise ValueError(
                f"task.module.window={self.window} and task.module.stride={self.stride}: give both in pixels, such as 512 and "
                "341, or null for both, which tests an image as a whole."
            )
        if self.window is not None and not 1 <= self.stride <= self.window:
            raise ValueError(
                f"task.module.stride={self.stride}: give a number of pixels from 1 to task.module.window={self.window}, so "
                "that windows leave nothing out."
            )
        if not self.ratios or not all(type(ratio) in (int, float) and 0.1 <= ratio <= 10 for ratio in self.ratios):
            raise ValueError(f"task.module.ratios={list(self.ratios)}: give numbers from 0.1 to 10, such as [0.5,1.0,1.5].")
        if len(set(self.ratios)) < len(self.ratios):
            raise ValueError(f"task.module.ratios={list(self.ratios)}: name each size once.")

    def classes(self, segment: Segment, image: Tensor, size: tuple[int, int], check: Callable[[Tensor], None]) -> Tensor:
        """The class (B,H,W) uint8 of every pixel: the largest logit or, of several sizes and mirror images, the largest mean
        probability.

        Args:
            image: (B,3,h,w) uint8.
            size: (H,W), of the label maps.
            check: called with the logits (B,K,·,·) of each size and mirror image.
        """
        total, found = None, image.new_empty(len(image), *size, dtype=torch.uint8)
        several = len(self.ratios) > 1 or self.flip
        for logits in self.maps(segment, image):
            check(logits)
            for rows, band in bands(logits.float(), size):
                if not several:
                    found[:, rows] = band.argmax(1).to(torch.uint8)
                    continue
                if total is None:
                    total = band.new_zeros(*logits.shape[:2], *size)
                total[:, :, rows] += band.softmax(1)
        return found if total is None else total.argmax(1).to(torch.uint8)

    def maps(self, segment: Segment, image: Tensor) -> Iterator[Tensor]:
        """The logits (B,K,·,·) of each size and mirror image, made one at a time, those of mirror images turned back.

        Args:
            image: (B,3,h,w) uint8.
        """
        for ratio in self.ratios:
            scaled = resized(image, ratio)
            yield self.logits(segment, scaled)
            if self.flip:
                yield self.logits(segment, scaled.flip(-1)).flip(-1)

    def logits(self, segment: Segment, image: Tensor) -> Tensor:
        """The logits (B,K,·,·) of images (B,3,h,w) of one size: (B,K,h,w) where windows slide."""
        return segment(image) if self.window is None else slide(segment, image, self.window, self.stride)


def resized(image: Tensor, ratio: float) -> Tensor:
    """Images (B,3,h,w) uint8, `ratio` times as large, uint8; bilinear without antialiasing, as in the published protocol."""
    if ratio == 1:
        return image
    size = [max(1, int(side * ratio + 0.5)) for side in image.shape[-2:]]
    larger = F.interpolate(image.float(), size, mode="bilinear", align_corners=False)
    return larger.round_().clamp_(0, 255).to(torch.uint8)


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side of `length` pixels: every `stride` pixels; the last one ends with the side.

    [0] where the side is no longer than the window.
    """
    last = max(length - window, 0)
    return [min(number * stride, last) for number in range(-(-last // stride) + 1)]


def slide(segment: Segment, image: Tensor, window: int, stride: int) -> Tensor:
    """Logits (B,K,h,w): the mean over the windows that a pixel lies in. A side shorter than the window is taken whole."""
    height, width = image.shape[-2:]
    total, count = None, image.new_zeros(height, width, dtype=torch.float32)
    for top in starts(height, window, stride):
        for left in starts(width, window, stride):
            part = image[..., top : top + window, left : left + window]
            logits = F.interpolate(segment(part).float(), part.shape[-2:], mode="bilinear", align_corners=False)
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], height, width)
            total[..., top : top + window, left : left + window] += logits
            count[top : top + window, left : left + window] += 1
    return total.div_(count)


def bands(logits: Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Logits (B,K,h,w) resized to (H,W), bilinear without aligned corners, one band of rows (B,K,rows,W) at a time: at full
    size the logits of 150 classes would take 600 bytes per pixel."""
    rows = max(1, BAND // (logits.shape[0] * logits.shape[1] * size[1]))
    source = ((torch.arange(size[0], device=logits.device) + 0.5) * (logits.shape[2] / size[0]) - 0.5).clamp_min(0)
    above = source.long().clamp_max(logits.shape[2] - 1)
    below, part = (above + 1).clamp_max(logits.shape[2] - 1), (source - above)[:, None].to(logits.dtype)
    for start in range(0, size[0], rows):
        here = slice(start, min(start + rows, size[0]))
        band = torch.lerp(logits[:, :, above[here]], logits[:, :, below[here]], part[here])
        yield here, F.interpolate(band, (band.shape[2], size[1]), mode="bilinear", align_corners=False)
