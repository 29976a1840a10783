"""Decoded images in memory, for lists that are read again in every epoch."""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Callable

import numpy as np
import PIL.Image

SMALLEST = 3 * 32 * 32  # bytes of a small image: a list is not kept at all if not even images of this size would fit


class DecodedImages:
    """RGB images as they were before any augmentation, kept in memory that forked processes share.

    Images are kept until the memory is full; the others are read anew each time. Memory is taken as images come.

    Args:
        count: N, the images of the list.
        megabytes: the most memory for pixels; 0: no image is kept.
    """

    def __init__(self, count: int, megabytes: int) -> None:
        self.size = megabytes * 2**20
        self.keeps = 0 < count * SMALLEST <= self.size
        if not self.keeps:
            return
        try:
            self._lock = multiprocessing.Lock()
            self._pixels = np.frombuffer(mmap.mmap(-1, self.size), np.uint8)
            # where each image starts (0: not kept), its height and width; in the last row where the next one will start
            self._places = np.frombuffer(mmap.mmap(-1, (count + 1) * 24), np.int64).reshape(-1, 3)
        except OSError as error:
            raise ValueError(f"decoded_mb={megabytes}: {error.strerror}: give fewer megabytes, or 0.") from error

    def __reduce__(self) -> tuple:
        return DecodedImages, (0, 0)  # a process that is not forked cannot see the memory, and keeps nothing

    def open(self, index: int, read: Callable[[], PIL.Image.Image]) -> PIL.Image.Image:
        """The image at `index` of the list: kept, or else from `read`, whose errors pass."""
        if not self.keeps:
            return read()
        with self._lock:
            start, height, width = self._places[index].tolist()
        if start:
            pixels = self._pixels[start - 1 : start - 1 + height * width * 3]
            return PIL.Image.frombytes("RGB", (width, height), pixels)
        image = read()
        if image.mode == "RGB":
            self._keep(index, np.asarray(image))
        return image

    def _keep(self, index: int, pixels: np.ndarray) -> None:
        with self._lock:
            start = int(self._places[-1, 0])
            if start + pixels.size > self.size:
                return
            self._places[-1, 0] = start + pixels.size
        self._pixels[start : start + pixels.size] = pixels.reshape(-1)
        with self._lock:
            self._places[index] = start + 1, *pixels.shape[:2]
