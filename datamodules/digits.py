"""Handwritten digits: the 1,797 real 8 x 8 scans that scikit-learn bundles, from the UCI repository.

Splits are fixed, in the file's order, which keeps most writers apart: train 0-899, val 900-1099, test 1100-1796.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.random import RandomState
from PIL import Image, ImageDraw, ImageFont

from datamodules.identity import digest_of
from datamodules.items import Item, Splits

SIZE = 32
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TRAIN_END, VAL_END = 900, 1100


class Digits:
    """Source of the scans: dark ink on white paper, enlarged to 32 px RGB. Keys are "scan/NUMBER"."""

    in_memory = True

    @cached_property
    def _data(self) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.datasets import load_digits

        scans = load_digits()
        return scans.images, scans.target  # (1797, 8, 8) ink 0-16, (1797,)

    def splits(self, seed: int) -> Splits:
        """The fixed splits, for any seed."""
        labels = self._data[1]
        items = [Item(f"scan/{i:04d}", int(y), NAMES[y]) for i, y in enumerate(labels)]
        return Splits(train=items[:TRAIN_END], val=items[TRAIN_END:VAL_END], test=items[VAL_END:])

    def digest(self, seed: int) -> str:
        """A constant: the data come with the code."""
        return "digits"

    def content_digest(self, items: Iterable[Item]) -> str:
        """A digest of the keys: the scans do not change."""
        return digest_of([item.path for item in items])

    def open(self, item: Item) -> Image.Image:
        """The scan as a 32 px RGB picture. ValueError for an unknown key."""
        prefix, _, number = item.path.partition("/")
        if prefix != "scan" or not number.isdigit() or int(number) >= len(self._data[0]):
            raise ValueError(f"{item.path!r} is no scan of the digits data: keys run from scan/0000 to scan/1796")
        return as_scan(self._data[0][int(number)] / 16)


def as_scan(ink: np.ndarray) -> Image.Image:
    """8 x 8 ink, 0 to 1, to a 32 px RGB picture."""
    paper = Image.fromarray((255 * (1 - np.clip(ink, 0, 1))).astype(np.uint8))
    return paper.resize((SIZE, SIZE), Image.Resampling.BICUBIC).convert("RGB")


def render(digit: int, scan: bool, rng: RandomState) -> Image.Image:
    """A digit set in Pillow's bundled font, slanted, turned and stretched: a coarse scan, or crisp in two colours."""
    big = Image.new("L", (96, 96))
    font = ImageFont.load_default(rng.randint(60, 84))
    ImageDraw.Draw(big).text((48, 48), str(digit), fill=255, font=font, anchor="mm", stroke_width=rng.randint(5))
    shear, turn, sx, sy = rng.uniform(-0.35, 0.35), rng.uniform(-0.2, 0.2), *rng.uniform(0.8, 1.35, 2)
    m = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[sx, shear], [0, 1 / sy]]
    shift = 48 - m @ (48 + rng.uniform(-5, 5, 2))
    ink = big.transform(big.size, Image.Transform.AFFINE, (*m[0], shift[0], *m[1], shift[1]), Image.Resampling.BILINEAR)
    if scan:  # the scans fill their frame from top to bottom
        left, top, right, bottom = ink.getbbox()
        middle = (left + right) / 2
        ink = ink.crop((int(middle) - 40, top - rng.randint(4), int(middle) + 40, bottom + rng.randint(4)))
        coarse = np.asarray(ink.resize((8, 8), Image.Resampling.BOX), np.float32) / 255
        return as_scan(coarse * rng.uniform(0.9, 1.3))
    mask = np.asarray(ink.reduce(3), np.float32)[..., None] / 255
    ground, pen = rng.uniform(0, 255, (2, 3))
    if abs(ground.mean() - pen.mean()) < 60:
        ground, pen = np.full(3, 245.0), np.full(3, 20.0)
    picture = ground * (1 - mask) + pen * mask + rng.normal(0, 6, (SIZE, SIZE, 1))
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
