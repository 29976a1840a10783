"""`data=scenes_refer` and `scenes_refer_position`: expressions for one thing of a drawn picture of three to five things.

A picture is a function of its key, such as "refer/train/17". Things may have the same shape or colour, but no two are alike. In
the domain "refer" an expression names properties that one thing alone has ("the red star", "the small striped thing"); in
"refer_position" its properties fit several things, and the position decides ("the circle on the left").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from itertools import product
from typing import NamedTuple, get_args

import numpy as np
from numpy.random import RandomState
from PIL import Image

from datamodules.boxes import Box, clamp
from datamodules.captions import COLOUR_SHARE, RARE_SHAPES, pick, word
from datamodules.drawing import SHAPES, TEXTURES
from datamodules.grounding_items import Expression, GroundingSplits, Proposals
from datamodules.identity import digest_of
from datamodules.placed import SIZE, PlacedThing, paint, place
from datamodules.scenes import DOMAINS, SceneContent, Thing, generator

EACH = 2  # expressions of a picture, for different things
SIZES = {"train": 300, "val": 75, "test": 200}  # pictures
NUMBERS = {"3": 0.4, "4": 0.35, "5": 0.25}  # probabilities of the numbers of things
SAME_SHAPE, SAME_COLOUR = 0.4, 0.25  # probabilities that a thing has the shape, or the colour, of the one before it
NO_SHAPE = 0.35  # weight of the word "thing" against that of a shape's name
APART = 8.0  # px between the middle of a thing at a side and that of the next one like it
# Positions of a thing: the axis of its middle (0: x, 1: y), and the sign with which the outermost thing has the least value.
SIDES = {"on the left": (0, 1), "on the right": (0, -1), "at the top": (1, 1), "at the bottom": (1, -1)}
# The simulated detector: the probability of missing a thing, the standard deviation of an edge as a share of the side, and the
# number of boxes around nothing.
MISSED, OFF, FALSE = 0.06, 0.07, (1, 3)
TRIES = 60  # scenes that are drawn until one has two expressions


class ReferScene(NamedTuple):
    """A picture's content, its places, and its expressions, each with the index of its thing."""

    content: SceneContent
    picture: str  # with the key, the seed of the picture's random numbers
    things: list[PlacedThing]
    expressions: list[tuple[str, int]]


def keys(domain: str, split: str) -> list[str]:
    """The keys of all pictures of a split (train, val, test). ValueError for a domain that is not known."""
    if domain not in EXPRESSIONS:
        raise ValueError(f"domain={domain!r} of referring expressions is not known: use one of {', '.join(EXPRESSIONS)}.")
    return [f"{domain}/{split}/{number}" for number in range(SIZES[split])]


@cache  # two milliseconds each, and a process may make several sources
def refer_scene(key: str) -> ReferScene:
    """The scene of a key. ValueError for an unknown key."""
    domain, _, rest = key.partition("/")
    if domain not in EXPRESSIONS or rest.count("/") != 1 or not rest.rpartition("/")[2].isdecimal():
        raise ValueError(f"{key[:80]!r} is the key of no scene of expressions: keys are like refer/train/0.")
    for tried in range(TRIES):
        content, picture = _content(generator(key, f"content {tried}")), f"picture {tried}"
        things = place(content, generator(key, picture))
        expressions = _expressions(EXPRESSIONS[domain], things, generator(key, f"expressions {tried}"))
        if len(expressions) == EACH:
            return ReferScene(content, picture, things, expressions)
    raise AssertionError(f"{key}: no scene has {EACH} expressions")


def _content(rng: RandomState) -> SceneContent:
    style, count = pick(rng, DOMAINS["scenes"]), int(pick(rng, NUMBERS))
    things: list[Thing] = []
    while len(things) < count:
        shape = pick(rng, {name: 0.5 if name in RARE_SHAPES else 1.0 for name in SHAPES})
        colour, pattern = pick(rng, COLOUR_SHARE), pick(rng, {name: 0.4 if name == "plain" else 0.2 for name in TEXTURES})
        if things and rng.uniform() < SAME_SHAPE:
            shape = things[-1].shape
        if things and rng.uniform() < SAME_COLOUR:
            colour = things[-1].colour
        if all((shape, colour, pattern) != one[:3] for one in things):
            things.append(Thing(shape, colour, pattern, small=rng.uniform() < 0.25))
    return SceneContent(style, tuple(things))


# ---- expressions


class Description(NamedTuple):
    """The properties that an expression names; "" and False for those that it does not."""

    shape: str
    colour: str
    texture: str
    small: bool

    def fits(self, thing: Thing) -> bool:
        """Whether it is true of the thing."""
        said = zip((self.shape, self.colour, self.texture), thing[:3], strict=True)
        return all(name in ("", true) for name, true in said) and (thing.small or not self.small)

    def text(self, rng: RandomState) -> str:
        """In words: "the small red striped star"."""
        adjectives = ["small"] if self.small else []
        adjectives += [word(name, rng) for name in (self.colour, self.texture) if name]
        return " ".join(["the", *adjectives, word(self.shape, rng) if self.shape else "thing"])


def descriptions(thing: Thing) -> list[Description]:
    """All descriptions of a thing, including "the thing"."""
    properties = [("", value) for value in thing[:3]]
    sizes = (False, True) if thing.small else (False,)
    return [Description(*names, small) for names in product(*properties) for small in sizes]  # type: ignore[arg-type, call-arg]


def _expressions(of_thing: Callable, things: list[PlacedThing], rng: RandomState) -> list[tuple[str, int]]:
    """Up to `EACH` expressions for different things."""
    found: list[tuple[str, int]] = []
    for number in rng.permutation(len(things)):
        if len(found) < EACH and (text := of_thing(things, int(number), rng)):
            found.append((text, int(number)))
    return found


def _by_properties(things: list[PlacedThing], number: int, rng: RandomState) -> str:
    """An expression for a thing that is true of no other; it always has one, as no two things are alike."""
    said = [one for one in descriptions(things[number].thing) if sum(one.fits(other.thing) for other in things) == 1]
    shares = np.array([1.0 if one.shape else NO_SHAPE for one in said])
    return said[rng.choice(len(said), p=shares / shares.sum())].text(rng)


def _by_position(things: list[PlacedThing], number: int, rng: RandomState) -> str:
    """An expression that is true of several things without its position; "" where there is none."""
    found = []
    for said in descriptions(things[number].thing):
        like = [other for other, one in enumerate(things) if said.fits(one.thing)]
        found += [(said, side) for side in SIDES if len(like) > 1 and outermost(things, like, side) == number]
    if not found:
        return ""
    shares = np.array([1.0 if any(said[:3]) else NO_SHAPE for said, _ in found])
    said, side = found[rng.choice(len(found), p=shares / shares.sum())]
    return f"{said.text(rng)} {side}"


def outermost(things: list[PlacedThing], among: list[int], side: str) -> int | None:
    """The index of the thing that is nearest to that side of the picture, by at least `APART`; None where there is none."""
    axis, sign = SIDES[side]
    middles = {number: sign * ((things[number].box[axis] + things[number].box[axis + 2]) / 2 - SIZE / 2) for number in among}
    first, second = sorted(middles, key=middles.get)[:2]
    return first if middles[first] < 0 and middles[second] - middles[first] >= APART else None


EXPRESSIONS: dict[str, Callable] = {"refer": _by_properties, "refer_position": _by_position}


# ---- boxes


def detected(key: str) -> tuple[Box, ...]:
    """The boxes of a simulated detector for the picture of a key: they are slightly inaccurate, some are around nothing, and a
    thing may be missed."""
    rng, boxes = generator(key, "detections"), []
    for thing in refer_scene(key).things:
        x1, y1, x2, y2 = thing.box
        by = rng.normal(0, OFF, 4) * (x2 - x1, y2 - y1, x2 - x1, y2 - y1)
        if rng.uniform() >= MISSED:
            boxes.append(np.add(thing.box, by))
    for _ in range(rng.randint(FALSE[0], FALSE[1] + 1)):
        width, height = rng.uniform(8, 28, 2)
        x1, y1 = rng.uniform(0, SIZE - width), rng.uniform(0, SIZE - height)
        boxes.append(np.array((x1, y1, x1 + width, y1 + height)))
    return tuple(clamp(np.round(boxes[i], 1).tolist(), (SIZE, SIZE)) for i in rng.permutation(len(boxes)))


@cache
def referred(domain: str, split: str, proposals: Proposals) -> tuple[Expression, ...]:
    """The expressions of a split."""
    items = []
    for key in keys(domain, split):
        scene = refer_scene(key)
        gold = tuple(thing.box for thing in scene.things)
        boxes, regions = (gold, tuple(range(len(gold)))) if proposals == "gold" else (detected(key), ())
        for number, (text, which) in enumerate(scene.expressions):
            items.append(Expression(key, key, f"{key}/{number}", text, gold[which], boxes, regions, size=(SIZE, SIZE)))
    return tuple(items)


class DrawnReferences:
    """Source of the expressions of one domain; a path is a scene's key.

    Args:
        domain: "refer" or "refer_position".
        proposals: "gold", the boxes of all things, or "detected", those of the simulated detector.
    """

    in_memory = True

    def __init__(self, domain: str = "refer", proposals: Proposals = "gold"):
        keys(domain, "test")  # a ValueError for an unknown one
        if proposals not in get_args(Proposals):
            raise ValueError(f"proposals={proposals!r}: choose one of {', '.join(get_args(Proposals))}.")
        self.domain, self.proposals = domain, proposals
        self._drawn: dict[str, Image.Image] = {}

    def splits(self, seed: int) -> GroundingSplits:
        """All expressions of the domain, for any seed."""
        return GroundingSplits(**{split: list(referred(self.domain, split, self.proposals)) for split in SIZES})

    def digest(self, seed: int) -> str:
        """A constant: the data come with the code."""
        return f"expressions: {self.domain}, {self.proposals} proposals"

    def content_digest(self, items: Iterable[Expression]) -> str:
        """A digest of the keys, which determine the pictures."""
        return digest_of([item.path for item in items])

    def open(self, item: Expression) -> Image.Image:
        """The picture of a key, 64 px RGB, drawn at the first call. ValueError for an unknown key."""
        if item.path not in self._drawn:
            scene = refer_scene(item.path)
            self._drawn[item.path] = paint(scene.content, generator(item.path, scene.picture))[0]
        return self._drawn[item.path]

    def region_mask(self, item: Expression, number: int) -> np.ndarray | None:
        """The visible pixels of a thing, (64, 64) bool; None for a detected box."""
        return refer_scene(item.path).things[item.regions[number]].mask if item.regions else None  # type: ignore[call-overload]
