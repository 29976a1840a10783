"""`data=scenes`, `scenes_sketch` and `scenes_vqa`: the pictures of `datamodules.scenes`, drawn when they are opened.

Legend: S picture side (32 px); masks are (S, S, 1) floats in [0, 1]
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.random import RandomState
from PIL import Image, ImageChops

from datamodules import scenes
from datamodules.captioned_items import CaptionedImage, CaptionSplits, Question, QuestionSplits
from datamodules.drawing import COLOURS, SIZE, STYLES, Scene, blend, draw_silhouette, mask_of, texture, to_image
from datamodules.identity import digest_of

# By the number of things: the largest radius in px, and the places of their centres from the middle, in px.
PLACES: dict[int, tuple[float, tuple[tuple[float, float], ...]]] = {
    1: (13.0, ((0, 0),)),
    2: (7.8, ((-8, 0), (8, 0))),
    3: (7.0, ((-8, -7.5), (8, -7.5), (0, 8))),
}
JITTER = 1.0  # the most px by which a thing is moved from its place, in each direction
SMALL = 0.7  # the radius of a small thing, as a part of the others'


class ManyThings(Scene):
    """The input of a style (`datamodules.drawing.Scene`) for several things: the union of their masks, and for each pixel the
    colour and pattern of the nearest thing.

    `rgb` is (S, S, 3).
    """

    def __init__(self, content: scenes.SceneContent, rng: RandomState):
        self.rng = rng
        radius, places = PLACES[content.count]
        turn, flip = rng.randint(2), rng.choice([-1, 1])  # side by side or one above the other
        things = [thing for thing in content.things for _ in range(thing.number)]
        y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
        nearest = np.full((SIZE, SIZE, 1), np.inf)
        self.rgb, self.pattern = np.zeros((SIZE, SIZE, 3)), np.zeros((SIZE, SIZE, 1))
        self.silhouette = Image.new("L", (SIZE * 3,) * 2)
        for thing, place in zip(things, rng.permutation(places), strict=True):
            dx, dy = (place[::-1] if turn else place) * flip + rng.uniform(-JITTER, JITTER, 2)
            size = radius * (SMALL if thing.small else 1) * rng.uniform(0.9, 1.0)
            self.silhouette = ImageChops.lighter(self.silhouette, _silhouette(thing.shape, rng, size, dx, dy))
            distance = np.hypot(x - dx, y - dy)[..., None]
            mine, nearest = distance < nearest, np.minimum(distance, nearest)
            colour = np.clip(np.array(COLOURS[thing.colour]) / 255 + rng.uniform(-0.07, 0.07, 3), 0, 1)
            self.rgb = blend(self.rgb, colour, mine)
            self.pattern = blend(self.pattern, texture(thing.texture, rng)[..., None], mine)
        self.mask = mask_of(self.silhouette)


def _silhouette(shape: str, rng: RandomState, radius: float, dx: float, dy: float) -> Image.Image:
    """A silhouette whose middle is at (dx, dy) px from the picture's."""
    big = draw_silhouette(shape, rng, radius)
    left, top, right, bottom = big.getbbox()
    scale = big.width / SIZE
    shift = round(big.width / 2 + dx * scale - (left + right) / 2), round(big.height / 2 + dy * scale - (top + bottom) / 2)
    moved = Image.new("L", big.size)
    moved.paste(big.crop((left, top, right, bottom)), (left + shift[0], top + shift[1]))
    return moved


def draw_scene(key: str) -> Image.Image:
    """The picture of a scene's key, 32 px RGB. ValueError for an unknown key."""
    content, rng = scenes.scene(key), scenes.generator(key, "picture")
    return to_image(STYLES[content.style](ManyThings(content, rng)))


@cache  # half a millisecond each, and a process may make several sources
def captioned(domain: str, split: str) -> tuple[CaptionedImage, ...]:
    """The captioned scenes of a split."""
    return tuple(CaptionedImage(key, number, scenes.captions(key)) for number, key in enumerate(scenes.keys(domain, split)))


@cache
def asked(domain: str, split: str) -> tuple[Question, ...]:
    """The questions about the scenes of a split, with their captions."""
    items = []
    for path, number, captions, *_ in captioned(domain, split):
        for position, question in enumerate(scenes.questions(path)):
            text, answers, answer_type, question_type = question
            question_id = number * scenes.QUESTIONS + position  # type: ignore[operator]
            items.append(Question(path, number, question_id, text, answers, captions, answer_type, question_type))
    return tuple(items)


class DrawnScenes:
    """Source of the captioned scenes of one domain; a path is a scene's key."""

    in_memory = True

    def __init__(self, domain: str = "scenes"):
        self.domain = domain
        scenes.keys(domain, "test")  # a ValueError for an unknown one
        self._drawn: dict[str, Image.Image] = {}

    def splits(self, seed: int) -> CaptionSplits | QuestionSplits:
        """All scenes of the domain, for any seed."""
        return CaptionSplits(**{split: list(captioned(self.domain, split)) for split in scenes.SIZES})

    def digest(self, seed: int) -> str:
        """A constant: the data come with the code."""
        return f"scenes: {self.domain}"

    def content_digest(self, items: Iterable[CaptionedImage | Question]) -> str:
        """A digest of the keys, which determine the pictures."""
        return digest_of([item.path for item in items])

    def open(self, item: CaptionedImage | Question) -> Image.Image:
        """The picture of a key, 32 px RGB, drawn at the first call. ValueError for an unknown key."""
        if item.path not in self._drawn:
            self._drawn[item.path] = draw_scene(item.path)
        return self._drawn[item.path]


class DrawnQuestions(DrawnScenes):
    """Source of the questions about the scenes of one domain, with the captions of these scenes."""

    def splits(self, seed: int) -> QuestionSplits:
        """All questions about the scenes of the domain, for any seed."""
        return QuestionSplits(**{split: list(asked(self.domain, split)) for split in scenes.SIZES})
