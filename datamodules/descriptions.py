"""Sentences about each class of `data=shapes`, like those of a language model: many are similar, some vague, some wrong, some
about nothing. They are generated from the words of the captions that the tiny CLIP was trained on.

`python -m tools.prompt_bank shapes PATH` writes them to a file.
"""

from __future__ import annotations

import zlib

from numpy.random import RandomState

from datamodules.captions import Scene, caption
from datamodules.drawing import COLOURS, SHAPES, TEXTURES
from datamodules.shapes import classes_of

COMPLETIONS = 10  # per question
# Kinds of sentences, with their shares: right (though it may be incomplete), a repeated one, wrong in one thing, about nothing.
SHARES = {"right": 0.55, "repeated": 0.15, "wrong": 0.2, "empty": 0.1}
STYLES = (("photo", "busy"), ("painting", "faded", "blurred"), ("drawing", "sketch", "sticker"))  # by question
EMPTY = ("this is my own page.", "you can see one on this page.", "here you can see one from my small book.", "a photo of one.")


def shape_descriptions(seed: int = 0, domain: str = "shapes") -> dict[str, list[str]]:
    """{class name: 30 sentences}, ten to each of three questions in turn. A function of the class and `seed` alone.

    Args:
        domain: whose classes, as `Shapes` takes it.
    """
    kinds = classes_of(domain).items()
    return {name: _sentences(kind, RandomState([seed, zlib.crc32(name.encode())])) for name, kind in kinds}


def _sentences(kind: tuple[str, str, str], rng: RandomState) -> list[str]:
    texts: list[str] = []
    for styles in STYLES:
        for number in range(COMPLETIONS):
            fate = rng.choice(list(SHARES), p=list(SHARES.values())) if number else "right"
            if fate == "repeated":
                texts.append(texts[rng.randint(len(texts))])
            elif fate == "empty":
                texts.append(EMPTY[rng.randint(len(EMPTY))])
            else:
                texts.append(caption(_scene(kind, styles[rng.randint(len(styles))], fate == "wrong", rng), rng))
    return texts


def _scene(kind: tuple[str, str, str], style: str, wrong: bool, rng: RandomState) -> Scene:
    truth = list(kind)
    if wrong:
        which = rng.randint(3)
        others = [word for word in (SHAPES, COLOURS, TEXTURES)[which] if word != truth[which]]
        truth[which] = others[rng.randint(len(others))]
    return Scene(style, *truth)  # type: ignore[arg-type]
