"""Captioned drawn images, as many as wanted, for training the tiny CLIP: objects in eleven styles, and printed digits.

The distribution is uneven on purpose, like images of the web: some styles, colours and words are rare, and captions are
incomplete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from numpy.random import RandomState
from PIL import Image

from datamodules.digits import NAMES, render
from datamodules.drawing import COLOURS, SHAPES, STYLES, TEXTURES, draw

T = TypeVar("T")
# How often a style is drawn, and how its captions name it.
PHRASES: dict[str, tuple[float, tuple[str, ...]]] = {
    "photo": (0.28, ("a photo of {}", "a picture of {}", "a good photo of {}", "a photo of {} on its own", "{}")),
    "busy": (0.12, ("a busy photo of {}", "a photo of {} among other things", "a cluttered picture of {}")),
    "drawing": (0.14, ("a drawing of {}", "a cartoon of {}", "an illustration of {}", "art of {}")),
    "painting": (0.10, ("a painting of {}", "a colourful painting of {}", "a painted {}")),
    "sketch": (0.05, ("a sketch of {}", "a pencil sketch of {}", "a rough sketch of {}")),
    "dark": (0.06, ("a dark photo of {}", "a photo of {} at night")),
    "blurred": (0.07, ("a blurred photo of {}", "a blurry photo of {}", "a photo of {} out of focus")),
    "faded": (0.05, ("a faded print of {}", "an old print of {}")),
    "chalk": (0.04, ("a chalk drawing of {}", "{} on a blackboard")),
    "neon": (0.04, ("a neon sign of {}", "{} in neon lights")),
    "sticker": (0.05, ("a sticker of {}", "{} on a sticker")),
}
ANY_STYLE = ("a photo of {}", "an image of {}", "{}", "this is {}")
DIGIT_SHARE = 0.12
DIGIT_PHRASES = ("a photo of the number {}", "the number {}", "a picture of the number {}")
SCAN_PHRASES = ("a scan of the digit {}", "a coarse scan of the number {}", "a scan of {}", "the digit {}")

# The first word is the usual one; the others share the remaining probability.
WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc"),
    "ring": ("ring", "hoop"),
    "moon": ("moon", "crescent"),
    "square": ("square", "box"),
    "diamond": ("diamond", "rhombus"),
    "cross": ("cross", "plus"),
    "drop": ("drop", "raindrop"),
    "house": ("house", "hut", "cottage"),
    "tree": ("tree", "pine"),
    "flower": ("flower", "blossom"),
    "bolt": ("bolt", "flash"),
    "cup": ("cup", "mug"),
    "boat": ("boat", "ship", "yacht"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rose"),
    "blue": ("blue", "navy"),
    "plain": ("plain", "solid"),
    "striped": ("striped", "banded"),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "chequered"),
}
USUAL = 0.88
COLOUR_SHARE = dict(zip(COLOURS, (0.18, 0.12, 0.14, 0.16, 0.16, 0.09, 0.08, 0.07), strict=True))
RARE_SHAPES = ("moon", "leaf", "bolt", "cup", "boat", "crown", "drop")
FILLER = (
    "here",
    "you",
    "can",
    "see",
    "on",
    "this",
    "page",
    "from",
    "my",
    "own",
    "small",
    "book",
    "number",
    "one",
    "two",
)


class Scene(NamedTuple):
    """The content of a picture; a digit's picture has only `digit` and `style` ("scan" or "photo")."""

    style: str
    shape: str = ""
    colour: str = ""
    texture: str = ""
    digit: int = -1


def pick(rng: RandomState, shares: dict[str, float]) -> str:
    """One of the names, each as often as its share says."""
    total = sum(shares.values())
    return list(shares)[rng.choice(len(shares), p=[s / total for s in shares.values()])]


def picture(rng: RandomState) -> tuple[Scene, Image.Image]:
    """A random scene and its 32 px RGB picture."""
    if rng.uniform() < DIGIT_SHARE:
        scene = Scene("scan" if rng.uniform() < 0.5 else "photo", digit=rng.randint(10))
        return scene, render(scene.digit, scene.style == "scan", rng)
    shape = pick(rng, {name: 0.5 if name in RARE_SHAPES else 1.0 for name in SHAPES})
    texture = pick(rng, {name: 0.4 if name == "plain" else 0.2 for name in TEXTURES})
    colour, style = pick(rng, COLOUR_SHARE), pick(rng, {name: share for name, (share, _) in PHRASES.items()})
    assert style in STYLES
    return Scene(style, shape, colour, texture), draw(shape, colour, texture, style, rng)


def word(key: str, rng: RandomState) -> str:
    """A word for a shape, a colour or a texture: mostly the usual one."""
    words = WORDS.get(key, (key,))
    return words[0] if len(words) == 1 or rng.uniform() < USUAL else words[rng.randint(1, len(words))]


def choice(rng: RandomState, options: Sequence[T]) -> T:
    """One of the options, each as often."""
    return options[rng.randint(len(options))]


def caption(scene: Scene, rng: RandomState, filler: int = 0) -> str:
    """One of the many captions of a scene; `filler` words in front, for practice at later positions."""
    if scene.digit >= 0:
        phrase = choice(rng, SCAN_PHRASES if scene.style == "scan" else DIGIT_PHRASES)
        noun = NAMES[scene.digit] if rng.uniform() < 0.5 else str(scene.digit)
    else:
        phrase = choice(rng, PHRASES[scene.style][1] if rng.uniform() < 0.75 else ANY_STYLE)
        words = [word(scene.colour, rng)] if rng.uniform() < 0.88 else []
        if rng.uniform() < (0.3 if scene.texture == "plain" else 0.8):
            words.append(word(scene.texture, rng))
        if rng.uniform() < 0.2:
            words.reverse()
        words.append(word(scene.shape, rng))
        article = "" if phrase == "a painted {}" else "an " if words[0][0] in "aeiou" else "a "
        noun = article + " ".join(words)
    text = phrase.format(noun)
    if filler:
        text = " ".join(FILLER[rng.randint(len(FILLER))] for _ in range(filler)) + " " + text
    return text + ("." if rng.uniform() < 0.6 else "")
