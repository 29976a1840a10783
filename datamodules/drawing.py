"""Drawn images: small pictures of a shape in a colour, a texture and a style, made by code from a random state.

`data=shapes` and its relatives are made of them, and the tiny CLIP was trained on captioned ones.
Legend: S picture side (32 px); masks are (S, S, 1) floats in [0, 1], pictures (S, S, 3) floats in [0, 1]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.random import RandomState  # its streams never change between versions of numpy, unlike default_rng's
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIZE = 32
OVERSAMPLE = 3

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 38, 38),
    "orange": (240, 132, 26),
    "yellow": (238, 212, 40),
    "green": (46, 156, 62),
    "blue": (42, 84, 208),
    "purple": (134, 56, 176),
    "pink": (240, 130, 178),
    "brown": (132, 82, 44),
}
TEXTURES = ("plain", "striped", "dotted", "checked")


def _polar(radius: Callable[[np.ndarray], np.ndarray], points: int = 48) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([radius(t) * np.sin(t), -radius(t) * np.cos(t)], 1)


def _circle(r: float = 1.0, x: float = 0.0, y: float = 0.0, flat: float = 1.0) -> np.ndarray:
    return _polar(lambda t: np.full_like(t, r)) * (1, flat) + (x, y)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([np.sin(t) ** 3, -y / 16 - 0.1], 1)


def _leaf() -> np.ndarray:
    u = np.linspace(-1, 1, 17)
    side = np.stack([0.55 * (1 - u**2), u], 1)
    return np.concatenate([side, side[::-1] * (-1, 1)])


def _points(*xy: float) -> np.ndarray:
    return np.array(xy, float).reshape(-1, 2)


# Each shape: outlines drawn one after the other within [-1, 1], y downwards; "+" adds ink, "-" cuts a hole.
_SQUARE = _points(-0.85, -0.85, 0.85, -0.85, 0.85, 0.85, -0.85, 0.85)
SHAPES: dict[str, list[tuple[str, np.ndarray]]] = {
    "circle": [("+", _circle(0.95))],
    "ring": [("+", _circle(0.98)), ("-", _circle(0.52))],
    "moon": [("+", _circle(0.98)), ("-", _circle(0.85, 0.52, -0.16))],
    "square": [("+", _SQUARE)],
    "triangle": [("+", _points(0, -0.95, 1, 0.8, -1, 0.8))],
    "diamond": [("+", _points(0, -1, 0.72, 0, 0, 1, -0.72, 0))],
    "star": [("+", _polar(lambda t: np.where(np.arange(10) % 2, 0.42, 1.0), 10))],
    "cross": [("+", _points(-0.3, -1, 0.3, -1, 0.3, 1, -0.3, 1)), ("+", _points(-1, -0.3, 1, -0.3, 1, 0.3, -1, 0.3))],
    "heart": [("+", _heart())],
    "arrow": [("+", _points(0, -1, 0.85, 0, 0.3, 0, 0.3, 1, -0.3, 1, -0.3, 0, -0.85, 0))],
    "drop": [("+", _circle(0.66, 0, 0.34)), ("+", _points(0, -1, 0.6, 0.1, -0.6, 0.1))],
    "house": [("+", _points(0, -1, 0.95, -0.15, 0.7, -0.15, 0.7, 0.9, -0.7, 0.9, -0.7, -0.15, -0.95, -0.15))],
    "tree": [("+", _points(-0.2, 0.4, 0.2, 0.4, 0.2, 1, -0.2, 1)), ("+", _points(0, -1, 0.8, 0.5, -0.8, 0.5))],
    "fish": [("+", _circle(0.78, -0.2, 0, 0.62)), ("+", _points(0.3, 0, 1, -0.55, 1, 0.55))],
    "flower": [("+", _polar(lambda t: 0.68 + 0.3 * np.cos(5 * t)))],
    "leaf": [("+", _leaf())],
    "bolt": [("+", _points(0.25, -1, -0.65, 0.15, -0.05, 0.15, -0.3, 1, 0.65, -0.25, 0.05, -0.25, 0.55, -1))],
    "cup": [
        ("+", _circle(0.46, 0.52, 0)),
        ("-", _circle(0.24, 0.52, 0)),
        ("+", _points(-0.85, -0.75, 0.55, -0.75, 0.4, 0.8, -0.7, 0.8)),
    ],
    "boat": [("+", _points(-1, 0.3, 1, 0.3, 0.6, 0.9, -0.6, 0.9)), ("+", _points(0, -1, 0.7, 0.15, -0.15, 0.15))],
    "crown": [("+", _points(-0.95, -0.6, -0.45, 0, 0, -0.9, 0.45, 0, 0.95, -0.6, 0.75, 0.75, -0.75, 0.75))],
}


def draw_silhouette(shape: str, rng: RandomState, radius: float) -> Image.Image:
    """The filled shape, moved, turned and stretched a little at random; OVERSAMPLE times too large, radius in px."""
    big = Image.new("L", (SIZE * OVERSAMPLE,) * 2)
    turn, stretch = rng.uniform(-0.3, 0.3), rng.uniform(0.88, 1.12)
    slack = SIZE / 2 - radius
    centre = (SIZE / 2 + rng.uniform(-slack, slack, 2)) * OVERSAMPLE
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * (stretch, 1 / stretch)
    pen = ImageDraw.Draw(big)
    for sign, points in SHAPES[shape]:
        xy = [tuple(p) for p in points @ matrix.T * radius * OVERSAMPLE + centre]
        pen.polygon(xy, fill=255 if sign == "+" else 0)
    return big


def mask_of(big: Image.Image) -> np.ndarray:
    """A silhouette as a mask (S, S, 1)."""
    return np.asarray(big.reduce(OVERSAMPLE), np.float32)[..., None] / 255


def texture(name: str, rng: RandomState, size: int = SIZE) -> np.ndarray:
    """The mask of the second colour, (size, size): zeros for plain, else a pattern with a period of about 5 px."""
    if name == "plain":
        return np.zeros((size, size), np.float32)
    turn = rng.uniform(-0.35, 0.35) + (rng.randint(2) * np.pi / 2 if name == "striped" else np.pi / 4)
    y, x = np.mgrid[:size, :size] * (2 * np.pi / rng.uniform(4.6, 5.8))
    u = np.cos(x * np.cos(turn) + y * np.sin(turn) + rng.uniform(0, 6.28))
    if name == "striped":
        return np.clip(0.5 + 1.6 * u, 0, 1).astype(np.float32)
    v = np.cos(y * np.cos(turn) - x * np.sin(turn) + rng.uniform(0, 6.28))
    wave = u * v if name == "checked" else u + v - 0.75
    return np.clip(0.5 + 2 * wave, 0, 1).astype(np.float32)


class Scene:
    """The input of a style: the masks of one object, its colour and its random generator."""

    size = SIZE  # S; a subclass may have another, but the busy style supports 32 px alone

    def __init__(self, shape: str, colour: str, pattern: str, rng: RandomState):
        self.rng = rng
        self.silhouette = draw_silhouette(shape, rng, rng.uniform(9, 13.5))
        self.mask = mask_of(self.silhouette)
        self.rgb = np.clip(np.array(COLOURS[colour]) / 255 + rng.uniform(-0.07, 0.07, 3), 0, 1)
        self.pattern = texture(pattern, rng)[..., None]

    @cached_property
    def edge(self) -> np.ndarray:
        """The mask of the object's outline, (S, S, 1)."""
        outer, inner = self.silhouette.filter(ImageFilter.MaxFilter(3)), self.silhouette.filter(ImageFilter.MinFilter(5))
        return mask_of(ImageChops.subtract(outer, inner))

    def surface(self, second: np.ndarray | float) -> np.ndarray:
        """The object's colour with the pattern in a second colour."""
        return self.rgb * (1 - self.pattern) + second * self.pattern

    def ramp(self) -> np.ndarray:
        """Light that falls off across the picture, (S, S, 1), 0 to 1."""
        turn = self.rng.uniform(0, 6.28)
        y, x = np.mgrid[: self.size, : self.size] / self.size - 0.5
        return (0.5 + 0.7 * (x * np.cos(turn) + y * np.sin(turn)))[..., None]

    def blotches(self, cells: int, channels: int = 1) -> np.ndarray:
        """Smooth noise, about -1 to 1, with so many cells a side in 32 px."""
        cells = cells * self.size // SIZE
        coarse = (self.rng.uniform(0, 255, (cells, cells, channels))).astype(np.uint8)
        big = Image.fromarray(coarse.squeeze()).resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(big, np.float32).reshape(self.size, self.size, channels) / 127.5 - 1

    def grain(self, amount: float) -> np.ndarray:
        """Gaussian noise of standard deviation `amount`, (S, S, 1)."""
        return self.rng.normal(0, amount, (self.size, self.size, 1))


def blend(ground: np.ndarray | float, ink: np.ndarray | float, mask: np.ndarray | float) -> np.ndarray:
    """`ink` where the mask is 1, `ground` where it is 0."""
    return ground * (1 - mask) + ink * mask  # type: ignore[return-value]


def _photo(s: Scene) -> np.ndarray:
    ground = s.rng.uniform(0.25, 0.85) + s.rng.uniform(-0.12, 0.12, 3) + 0.12 * s.blotches(4, 3)
    shadow = np.roll(s.mask, (2, 1), (0, 1))
    light = 0.75 + 0.4 * s.ramp()
    return blend(ground * (1 - 0.35 * shadow), s.surface(0.95) * light, s.mask) + s.grain(0.02)


def _busy(s: Scene) -> np.ndarray:
    """A photo with other, smaller things behind the object."""
    ground = np.full((SIZE, SIZE, 3), s.rng.uniform(0.3, 0.8)) + 0.1 * s.blotches(4, 3)
    for _ in range(3):
        mask = mask_of(draw_silhouette(list(SHAPES)[s.rng.randint(len(SHAPES))], s.rng, s.rng.uniform(4, 7)))
        rgb = np.array(list(COLOURS.values())[s.rng.randint(len(COLOURS))]) / 255
        ground = blend(ground, 0.7 * rgb + 0.15, np.roll(mask, s.rng.randint(-9, 10, 2), (0, 1)))
    return blend(ground, s.surface(0.95) * (0.8 + 0.3 * s.ramp()), s.mask) + s.grain(0.02)


def _drawing(s: Scene) -> np.ndarray:
    return blend(blend(0.97, s.surface(1.0), s.mask), 0.08, s.edge)


def _painting(s: Scene) -> np.ndarray:
    ground = s.rng.uniform(0.3, 0.9, 3) + 0.22 * s.blotches(6, 3)
    ragged = np.clip(s.mask + 0.5 * s.blotches(12) * s.mask * (1 - s.mask) * 4, 0, 1)
    return blend(ground, s.surface(0.9) + 0.2 * s.blotches(9, 3), ragged)


def _sketch(s: Scene) -> np.ndarray:
    pencil = 0.55 * s.rgb + 0.12
    hatch = s.mask * (0.14 + 0.5 * s.pattern) * (0.75 + 0.5 * s.blotches(16))
    return blend(blend(0.93, pencil, np.clip(hatch, 0, 1)), pencil, s.edge * 0.9) + s.grain(0.05)


def _dark(s: Scene) -> np.ndarray:
    return (_photo(s) * s.rng.uniform(0.2, 0.34)) * (0.6 + 0.8 * s.ramp()) + s.grain(0.025)


def _blurred(s: Scene) -> np.ndarray:
    soft = to_image(_photo(s)).filter(ImageFilter.GaussianBlur(s.rng.uniform(1.5, 2.3)))
    return np.asarray(soft, np.float32) / 255


def _faded(s: Scene) -> np.ndarray:
    paper = np.array([0.80, 0.76, 0.66]) + 0.05 * s.blotches(5)
    ink = blend(blend(0.92, s.surface(0.85), s.mask), 0.4, 0.4 * s.edge)
    return blend(paper, ink, s.rng.uniform(0.25, 0.42)) + s.grain(0.02)


def _chalk(s: Scene) -> np.ndarray:
    board = np.array([0.13, 0.24, 0.2]) + 0.06 * s.blotches(5)
    dust = np.clip(0.7 + 0.6 * s.blotches(20), 0, 1)
    chalk = 0.55 * s.rgb + 0.45
    return blend(blend(board, chalk, s.mask * (0.16 + 0.45 * s.pattern) * dust), chalk, s.edge * dust)


def _neon(s: Scene) -> np.ndarray:
    glow = to_image(np.repeat(np.clip(s.edge + 0.4 * s.mask * s.pattern, 0, 1), 3, 2))
    halo = np.asarray(glow.filter(ImageFilter.GaussianBlur(2)), np.float32) / 255
    return 0.04 + s.rgb * (1.3 * halo) + (0.5 * s.rgb + 0.4) * s.edge * 0.8 + 0.5 * s.rgb * s.mask * s.pattern


def _sticker(s: Scene) -> np.ndarray:
    names = list(COLOURS)
    ground = np.array(COLOURS[names[s.rng.randint(len(names))]]) / 255 * s.rng.uniform(0.6, 1.1)
    halo = np.asarray(Image.fromarray((s.mask[..., 0] * 255).astype(np.uint8)).filter(ImageFilter.MaxFilter(5))) / 255
    return blend(blend(ground, 1.0, halo[..., None]), s.surface(0.15), s.mask) + s.grain(0.02)


STYLES: dict[str, Callable[[Scene], np.ndarray]] = {
    "photo": _photo,
    "busy": _busy,
    "drawing": _drawing,
    "painting": _painting,
    "sketch": _sketch,
    "dark": _dark,
    "blurred": _blurred,
    "faded": _faded,
    "chalk": _chalk,
    "neon": _neon,
    "sticker": _sticker,
}


def to_image(picture: np.ndarray) -> Image.Image:
    """A picture (S, S, 3) as 8-bit RGB."""
    return Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))


def draw(shape: str, colour: str, pattern: str, style: str, rng: RandomState) -> Image.Image:
    """One 32 px RGB picture; equal arguments and equal random state give equal pixels."""
    return to_image(STYLES[style](Scene(shape, colour, pattern, rng)))
