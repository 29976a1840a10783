"""`data=shapes`: a few-shot benchmark of 36 classes of drawn images, each drawn from its key when it is opened.

A class is a colour, a texture and a shape. The classes are ordered so that both halves have all twelve shapes and every colour
and texture: a context learned on the base half can generalise to the new half, or fail to.
Splits per class: 40 train, 8 val, 20 test. The domains share the class list and differ in the styles drawn. The domain `search`
alone has 36 other classes, in the styles of `shapes`: settings are chosen on them, and no table reports them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from numpy.random import RandomState
from PIL import Image, ImageEnhance

from datamodules.drawing import COLOURS, TEXTURES, draw
from datamodules.identity import digest_of
from datamodules.items import Item, Splits

# class name: (shape, colour, texture). Some names are words that captions seldom use ("spotted", "mug", "crescent").
CLASSES: dict[str, tuple[str, str, str]] = {
    "red striped star": ("star", "red", "striped"),
    "blue spotted fish": ("fish", "blue", "dotted"),
    "violet plain mug": ("cup", "purple", "plain"),
    "green checked leaf": ("leaf", "green", "checked"),
    "yellow plain crescent": ("moon", "yellow", "plain"),
    "pink striped drop": ("drop", "pink", "striped"),
    "brown spotted house": ("house", "brown", "dotted"),
    "orange checked bolt": ("bolt", "orange", "checked"),
    "navy striped yacht": ("boat", "blue", "striped"),
    "red plain flower": ("flower", "red", "plain"),
    "green spotted crown": ("crown", "green", "dotted"),
    "yellow checked rhombus": ("diamond", "yellow", "checked"),
    "orange spotted star": ("star", "orange", "dotted"),
    "violet striped fish": ("fish", "purple", "striped"),
    "brown checked mug": ("cup", "brown", "checked"),
    "yellow striped leaf": ("leaf", "yellow", "striped"),
    "blue spotted crescent": ("moon", "blue", "dotted"),
    "red plain drop": ("drop", "red", "plain"),
    "pink checked house": ("house", "pink", "checked"),
    "yellow spotted bolt": ("bolt", "yellow", "dotted"),
    "green plain yacht": ("boat", "green", "plain"),
    "violet spotted flower": ("flower", "purple", "dotted"),
    "orange striped crown": ("crown", "orange", "striped"),
    "navy plain rhombus": ("diamond", "blue", "plain"),
    "pink plain star": ("star", "pink", "plain"),
    "orange checked fish": ("fish", "orange", "checked"),
    "green striped mug": ("cup", "green", "striped"),
    "brown spotted leaf": ("leaf", "brown", "dotted"),
    "red checked crescent": ("moon", "red", "checked"),
    "navy spotted drop": ("drop", "blue", "dotted"),
    "violet striped house": ("house", "purple", "striped"),
    "green plain bolt": ("bolt", "green", "plain"),
    "pink spotted yacht": ("boat", "pink", "dotted"),
    "brown striped flower": ("flower", "brown", "striped"),
    "red checked crown": ("crown", "red", "checked"),
    "violet plain rhombus": ("diamond", "purple", "plain"),
}
RARE_WORDS = {"moon": "crescent", "cup": "mug", "boat": "yacht", "diamond": "rhombus", "purple": "violet", "dotted": "spotted"}


def _other_classes() -> dict[str, tuple[str, str, str]]:
    """By name, 36 more classes: for each of `CLASSES` one of the next shape, the colour two before and the next texture.

    With these steps none of them is one of `CLASSES`, and both halves have all shapes, colours and textures again.
    """
    shapes, colours = list(dict.fromkeys(shape for shape, _, _ in CLASSES.values())), list(COLOURS)
    others = {}
    for shape, colour, texture in CLASSES.values():
        shape = shapes[(shapes.index(shape) + 1) % len(shapes)]
        colour = colours[colours.index(colour) - 2]
        texture = TEXTURES[(TEXTURES.index(texture) + 1) % len(TEXTURES)]
        words = RARE_WORDS | ({} if texture == "dotted" else {"blue": "navy"})
        others[" ".join(words.get(word, word) for word in (colour, texture, shape))] = (shape, colour, texture)
    return others


SEARCH_CLASSES = _other_classes()
# By domain, the saturation of the colours (1: full) and the styles. The tiny CLIP was not trained on pale colours, so its
# zero-shot accuracy drops, yet the classes remain distinguishable for a learned prompt.
DOMAINS: dict[str, tuple[float, tuple[str, ...]]] = {
    "shapes": (0.45, ("painting", "faded", "blurred", "busy")),
    "sketch": (0.45, ("sketch", "chalk")),
    "dark": (0.35, ("dark", "neon")),
}
DOMAINS["search"] = DOMAINS["shapes"]
SIZES = {"train": 40, "val": 8, "test": 20}


def classes_of(domain: str) -> dict[str, tuple[str, str, str]]:
    """Class name: (shape, colour, texture), in order of label. ValueError for a domain that is not known."""
    if domain not in DOMAINS:
        raise ValueError(f"domain={domain!r} of data=shapes is not known: use one of {', '.join(DOMAINS)}")
    return SEARCH_CLASSES if domain == "search" else CLASSES


class Shapes:
    """Source of one domain. Keys are "DOMAIN/SPLIT/CLASS NAME/NUMBER"; equal keys give equal pixels, anywhere."""

    in_memory = True

    def __init__(self, domain: str = "shapes"):
        self.domain, self.classes = domain, classes_of(domain)
        self._drawn: dict[str, Image.Image] = {}

    def splits(self, seed: int) -> Splits:
        """The keys of all pictures of the domain, for any seed."""
        return Splits(**{split: self._items(split) for split in SIZES})  # type: ignore[arg-type]

    def _items(self, split: str) -> list[Item]:
        return [
            Item(f"{self.domain}/{split}/{name}/{number}", label, name)
            for label, name in enumerate(self.classes)
            for number in range(SIZES[split])
        ]

    def digest(self, seed: int) -> str:
        """A constant: the data come with the code."""
        return f"shapes: {self.domain}"

    def content_digest(self, items: Iterable[Item]) -> str:
        """A digest of the keys, which determine the pictures."""
        return digest_of([item.path for item in items])

    def open(self, item: Item) -> Image.Image:
        """The picture of a key, 32 px RGB, drawn at the first call. ValueError for an unknown key."""
        if item.path not in self._drawn:
            self._drawn[item.path] = self._draw(item.path)
        return self._drawn[item.path]

    def _draw(self, path: str) -> Image.Image:
        match path.split("/"):
            case [domain, split, name, number] if (
                domain == self.domain and split in SIZES and name in self.classes and number.isdecimal()
            ):
                saturation, styles = DOMAINS[domain]
                style = styles[int(number) % len(styles)]
                picture = draw(*self.classes[name], style, RandomState(zlib.crc32(path.encode())))
                return ImageEnhance.Color(picture).enhance(saturation)
        raise ValueError(f"{path!r} is no picture of data=shapes: keys are like {self.domain}/train/{min(self.classes)}/0")
