"""`data=scenes_relations`: pairs of things of the pictures of `datamodules.placed`, one left of, right of, above or below the
other."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import permutations

from PIL import Image

from datamodules import placed
from datamodules.boxes import Box
from datamodules.identity import digest_of
from datamodules.placed import PlacedThing, draw_placed, place, placed_scene
from datamodules.relation_items import Pair, PairSplits
from datamodules.scenes import generator

RELATIONS = ("left of", "right of", "above", "below")
APART, CLEARLY = 14.0, 1.5  # px between the middles of a pair along its relation, and how many times that across it


def relation_of(subject: Box, other: Box) -> int | None:
    """The relation of the subject to the other, as a position in `RELATIONS`; None where it is ambiguous."""
    dx, dy = (((subject[i] + subject[i + 2]) - (other[i] + other[i + 2])) / 2 for i in (0, 1))
    along, across, first = (dx, dy, 0) if abs(dx) > abs(dy) else (dy, dx, 2)
    if abs(along) < APART or abs(along) < CLEARLY * abs(across):
        return None
    return first + (along > 0)


def named(thing: PlacedThing) -> str:
    """ "red star": a scene has one thing of each shape."""
    return f"{thing.thing.colour} {thing.thing.shape}"


@cache  # six milliseconds each, and a process may make several sources
def pair_of(key: str, number: int) -> Pair | None:
    """One pair of the picture of a key, drawn among the unambiguous ones; None where there is none."""
    things = place(placed_scene(key), generator(key, "picture"))  # as they will be drawn
    found = [(*pair, relation_of(pair[0].box, pair[1].box)) for pair in permutations(things, 2)]
    clear = [entry for entry in found if entry[2] is not None]
    if not clear:
        return None
    subject, other, label = clear[generator(key, "pair").randint(len(clear))]
    return Pair(key, number, key, named(subject), subject.box, named(other), other.box, label)


class DrawnRelations:
    """Source of pairs of placed things, one pair of each picture that has an unambiguous one; a path is a picture's key."""

    in_memory = True

    def splits(self, seed: int) -> PairSplits:
        """The test pairs, for any seed: nothing is learned from others."""
        pairs = [pair for number, key in enumerate(placed.keys("test")) if (pair := pair_of(key, number))]
        return PairSplits([], [], pairs, list(RELATIONS))

    def digest(self, seed: int) -> str:
        """A constant: the data come with the code."""
        return "placed scenes: relations"

    def content_digest(self, items: Iterable[Pair]) -> str:
        """A digest of the keys, which determine the pictures."""
        return digest_of([item.path for item in items])

    def open(self, item: Pair) -> Image.Image:
        """The picture of a key, 64 px RGB. ValueError for an unknown key."""
        return draw_placed(item.path)[0]
