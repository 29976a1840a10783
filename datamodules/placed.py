"""Larger pictures of several drawn things with known places, for segmentation, detection and grounding.

A picture is a function of its key, such as "placed/train/17". Things may overlap, and nearer ones hide farther ones.
Legend: S picture side (64 px); masks are (S, S) bool, boxes (x1, y1, x2, y2) in px whose x2 and y2 are exclusive edges
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState
from PIL import Image, ImageChops, ImageFilter

from datamodules.captions import COLOUR_SHARE, RARE_SHAPES, pick
from datamodules.drawing import (
    COLOURS,
    OVERSAMPLE,
    SHAPES,
    STYLES,
    TEXTURES,
    Scene,
    blend,
    draw_silhouette,
    mask_of,
    texture,
    to_image,
)
from datamodules.scenes import DOMAINS, SceneContent, Thing, generator

SIZE = 64
SIZES = {"train": 600, "val": 100, "test": 200}
DOMAIN = "placed"
# By the number of things: its probability, and the radii of things in px.
NUMBERS: dict[int, tuple[float, tuple[float, float]]] = {
    2: (0.25, (10.0, 13.0)),
    3: (0.3, (9.5, 12.5)),
    4: (0.25, (9.0, 11.5)),
    5: (0.2, (8.5, 10.5)),
}
SMALL = 0.75  # the radius of a small thing, as a part of the others'
TRIES = 40  # places that are tried for a thing
VISIBLE = 0.7  # the share of a thing's pixels that should be visible

Box = tuple[float, float, float, float]


class PlacedThing(NamedTuple):
    """A thing of a picture and where it is."""

    thing: Thing
    mask: np.ndarray  # (S, S) bool, its visible pixels
    box: Box  # around them


CLASSES: dict[str, tuple[str, ...]] = {"colours": tuple(COLOURS), "shapes": tuple(SHAPES)}  # the class lists, by their kind


def check_classes(classes: str) -> None:
    """ValueError unless `classes` is one of `CLASSES`."""
    if classes not in CLASSES:
        raise ValueError(f"data.source.classes={classes!r}: give {' or '.join(CLASSES)}.")


def class_of(thing: Thing, classes: str) -> str:
    """The name of a thing's class: its colour or its shape."""
    return thing.colour if classes == "colours" else thing.shape


def keys(split: str) -> list[str]:
    """The keys of all pictures of a split (train, val, test)."""
    return [f"{DOMAIN}/{split}/{number}" for number in range(SIZES[split])]


@lru_cache(maxsize=1024)
def placed_scene(key: str) -> SceneContent:
    """The content of the picture of a key: two to five things of different shapes, the farthest first.

    Raises:
        ValueError: an unknown key.
    """
    domain, _, rest = key.partition("/")
    if domain != DOMAIN or rest.count("/") != 1 or not rest.rpartition("/")[2].isdecimal():
        raise ValueError(f"{key[:80]!r} is the key of no placed scene: keys are like {DOMAIN}/train/0.")
    rng = generator(key, "content")
    style, count = pick(rng, DOMAINS["scenes"]), int(pick(rng, {str(n): share for n, (share, _) in NUMBERS.items()}))
    things: list[Thing] = []
    while len(things) < count:
        shape = pick(rng, {name: 0.5 if name in RARE_SHAPES else 1.0 for name in SHAPES})
        if any(thing.shape == shape for thing in things):
            continue
        colour, pattern = pick(rng, COLOUR_SHARE), pick(rng, {name: 0.4 if name == "plain" else 0.2 for name in TEXTURES})
        things.append(Thing(shape, colour, pattern, small=rng.uniform() < 0.25))
    return SceneContent(style, tuple(things))


class _PlacedThings(Scene):
    """The input of a style (`datamodules.drawing.Scene`) for things at their places; `masks` has the visible pixels of each."""

    size = SIZE

    def __init__(self, content: SceneContent, rng: RandomState):
        self.rng = rng
        self.silhouettes = _placed_silhouettes(content, rng)
        alphas = [mask_of(silhouette) for silhouette in self.silhouettes]
        self.mask = np.zeros((SIZE, SIZE, 1))
        rgb, pattern = np.zeros((SIZE, SIZE, 3)), np.zeros((SIZE, SIZE, 1))
        for thing, alpha in zip(content.things, alphas, strict=True):  # each over the farther ones
            colour = np.clip(np.array(COLOURS[thing.colour]) / 255 + rng.uniform(-0.07, 0.07, 3), 0, 1)
            rgb, self.mask = blend(rgb, colour, alpha), blend(self.mask, 1.0, alpha)
            pattern = blend(pattern, texture(thing.texture, rng, SIZE)[..., None], alpha)
        self.rgb, self.pattern = (part / np.maximum(self.mask, 1e-6) for part in (rgb, pattern))
        self.masks = _visible([alpha[..., 0] >= 0.5 for alpha in alphas])

    @cached_property
    def edge(self) -> np.ndarray:
        """The outlines of all things, as far as no nearer thing hides them, (S, S, 1)."""
        lines = Image.new("L", self.silhouettes[0].size)
        for silhouette in self.silhouettes:
            outer, inner = silhouette.filter(ImageFilter.MaxFilter(3)), silhouette.filter(ImageFilter.MinFilter(5))
            lines = ImageChops.lighter(ImageChops.subtract(lines, outer), ImageChops.subtract(outer, inner))
        return mask_of(lines)


def _placed_silhouettes(content: SceneContent, rng: RandomState) -> list[Image.Image]:
    """The silhouette of each thing, OVERSAMPLE times too large, completely inside the picture.

    A place is drawn again, up to `TRIES` times, while less than `VISIBLE` of some thing would be visible; after that the best
    place is taken.
    """
    least, most = NUMBERS[len(content.things)][1]
    placed: list[Image.Image] = []
    for thing in content.things:
        radius = rng.uniform(least, most) * (SMALL if thing.small else 1)
        big = draw_silhouette(thing.shape, rng, radius)
        cut = big.crop(big.getbbox())
        best, best_share = None, -1.0
        for _ in range(TRIES):
            left, top = (rng.randint(SIZE * OVERSAMPLE - side + 1) for side in cut.size)
            tried = Image.new("L", (SIZE * OVERSAMPLE,) * 2)
            tried.paste(cut, (left, top))
            masks = [mask_of(one)[..., 0] >= 0.5 for one in (*placed, tried)]
            share = min(seen.sum() / mask.sum() for seen, mask in zip(_visible(masks), masks, strict=True))
            if share > best_share:
                best, best_share = tried, share
            if share >= VISIBLE:
                break
        placed.append(best)
    return placed


def _visible(masks: list[np.ndarray]) -> list[np.ndarray]:
    """The part of each mask, farthest first, that no nearer one hides."""
    hidden, seen = np.zeros_like(masks[0]), []
    for mask in reversed(masks):
        seen.append(mask & ~hidden)
        hidden = hidden | mask
    return seen[::-1]


def box_of(mask: np.ndarray) -> Box:
    """The smallest box around the true pixels of a mask (H, W), which has at least one."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)


def draw_placed(key: str) -> tuple[Image.Image, list[PlacedThing]]:
    """The picture of a key, 64 px RGB, and its things, the farthest first. ValueError for an unknown key."""
    return paint(placed_scene(key), generator(key, "picture"))


def paint(content: SceneContent, rng: RandomState) -> tuple[Image.Image, list[PlacedThing]]:
    """A picture of two to five things, 64 px RGB, and the things, the farthest first."""
    scene = _PlacedThings(content, rng)
    return to_image(STYLES[content.style](scene)), _placed_things(content, scene.masks)


def place(content: SceneContent, rng: RandomState) -> list[PlacedThing]:
    """The things that `paint` returns for the same random state, in a sixth of the time, as no picture is drawn."""
    alphas = [mask_of(silhouette) for silhouette in _placed_silhouettes(content, rng)]
    return _placed_things(content, _visible([alpha[..., 0] >= 0.5 for alpha in alphas]))


def _placed_things(content: SceneContent, masks: list[np.ndarray]) -> list[PlacedThing]:
    return [PlacedThing(thing, mask, box_of(mask)) for thing, mask in zip(content.things, masks, strict=True)]
