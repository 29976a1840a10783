"""Drawn referring expressions: each fits one thing, places are as they are said, and boxes are those of what is drawn."""

import numpy as np
import pytest

from datamodules.boxes import ious
from datamodules.captions import WORDS
from datamodules.drawing import COLOURS, SHAPES, TEXTURES
from datamodules.placed import SIZE, PlacedThing, paint, place
from datamodules.refer_scenes import (
    APART,
    EXPRESSIONS,
    SIDES,
    SIZES,
    Description,
    DrawnReferences,
    descriptions,
    detected,
    keys,
    outermost,
    refer_scene,
)
from datamodules.scenes import generator

NAMES = {word: name for name, words in WORDS.items() for word in words} | {n: n for n in (*SHAPES, *COLOURS, *TEXTURES)}
SOME = [f"{domain}/{split}/{n}" for domain in EXPRESSIONS for split in SIZES for n in range(12)]


def read(text):
    """What an expression says, and where: its words, read back."""
    side = next((side for side in SIDES if text.endswith(side)), None)
    said = text.removesuffix(side or "").split()
    assert said[0] == "the"
    names = [NAMES[word] for word in said[1:] if word not in ("small", "thing")]
    shape, colour, texture = ("".join(n for n in names if n in group) for group in (SHAPES, COLOURS, TEXTURES))
    return Description(shape, colour, texture, "small" in said), side


@pytest.mark.parametrize("key", SOME)
def test_an_expression_is_for_one_thing(key):
    scene = refer_scene(key)
    assert len({which for _, which in scene.expressions}) == len(scene.expressions) == 2
    for text, which in scene.expressions:
        said, side = read(text)
        like = [n for n, one in enumerate(scene.things) if said.fits(one.thing)]
        if key.startswith("refer/"):
            assert (like, side) == ([which], None)
        else:
            assert len(like) > 1
            axis, sign = SIDES[side]
            middles = {n: sign * (scene.things[n].box[axis] + scene.things[n].box[axis + 2]) / 2 for n in like}
            assert min(middles, key=middles.get) == which
            others = [middles[n] for n in like if n != which]
            assert min(others) - middles[which] >= APART
            assert sign * middles[which] < SIZE / 2 if sign > 0 else -middles[which] > SIZE / 2


def test_things_too_near_each_other_are_not_told_apart_by_their_place():
    scene = refer_scene("refer/train/0")
    box = (2.0, 2.0, 20.0, 20.0)
    near = [PlacedThing(one.thing, one.mask, box) for one in scene.things[:2]]
    assert outermost(near, [0, 1], "on the left") is None
    apart = [near[0], PlacedThing(*near[1][:2], (40.0, 2.0, 60.0, 20.0))]
    assert [outermost(apart, [0, 1], side) for side in SIDES] == [0, 1, None, None]


def test_descriptions_are_true_of_their_thing():
    for one in refer_scene("refer/train/3").things:
        assert all(said.fits(one.thing) for said in descriptions(one.thing))
        assert len(descriptions(one.thing)) == 16 if one.thing.small else 8


@pytest.mark.parametrize("key", SOME[::12])
def test_boxes_and_masks_are_those_of_the_picture(key):
    scene = refer_scene(key)
    content, picture = scene.content, scene.picture
    for one, placed in zip(paint(content, generator(key, picture))[1], place(content, generator(key, picture)), strict=True):
        assert one.box == placed.box
        assert (one.mask == placed.mask).all()
    source = DrawnReferences(key.partition("/")[0])
    item = next(item for items in vars(source.splits(1)).values() for item in items if item.path == key)
    assert source.open(item).size == (SIZE, SIZE) == item.size
    for number, box in enumerate(item.proposals):
        x1, y1, x2, y2 = map(int, box)
        mask = source.region_mask(item, number)
        assert mask[y1:y2, x1:x2].sum() == mask.sum() > 0


@pytest.mark.parametrize("domain", EXPRESSIONS)
def test_lists_are_as_large_as_they_should_be_and_share_no_image(domain):
    lists = DrawnReferences(domain).splits(1)
    assert [len(items) for items in (lists.train, lists.val, lists.test)] == [600, 150, 400]
    paths = [{item.path for item in items} for items in (lists.train, lists.val, lists.test)]
    assert sum(map(len, paths)) == len(set.union(*paths)) == sum(SIZES.values())
    items = [*lists.train, *lists.val, *lists.test]
    assert len({item.expression_id for item in items}) == len(items)
    assert all(item.gold in item.proposals for item in items)
    chance = np.mean([1 / len(item.proposals) for item in items])
    assert 0.2 < chance < 0.34
    assert lists == DrawnReferences(domain).splits(2)


def test_detected_boxes_are_near_most_things_and_some_are_around_none():
    gold, found = DrawnReferences().splits(1).test, DrawnReferences(proposals="detected").splits(1).test
    assert [item[:5] for item in gold] == [item[:5] for item in found]
    right = [(ious(item.proposals, item.gold) > 0.5).any() for item in found]
    assert 0.9 < np.mean(right) < 1
    assert not any(item.gold in item.proposals for item in found)
    assert np.mean([len(a.proposals) < len(b.proposals) for a, b in zip(gold, found, strict=True)]) > 0.5
    for item in found[:40]:
        assert all(0 <= x1 < x2 <= SIZE and 0 <= y1 < y2 <= SIZE for x1, y1, x2, y2 in item.proposals)
        assert item.proposals == detected(item.path)
    assert DrawnReferences(proposals="detected").region_mask(found[0], 0) is None


def test_digests_differ_by_domain_and_proposals():
    sources = [DrawnReferences(domain, proposals) for domain in EXPRESSIONS for proposals in ("gold", "detected")]
    assert len({source.digest(1) for source in sources}) == 4
    items = DrawnReferences().splits(1).test
    assert DrawnReferences().content_digest(items) != DrawnReferences().content_digest(items[2:])


def test_what_is_not_known():
    with pytest.raises(ValueError, match="domain='photos' of referring expressions is not known: use one of refer,"):
        keys("photos", "test")
    with pytest.raises(ValueError, match="proposals='drawn': choose one of gold, detected"):
        DrawnReferences(proposals="drawn")
    for key in ("refer/train", "refer/train/x", "placed/train/0", "refer/train/0/1"):
        with pytest.raises(ValueError, match="is the key of no scene of expressions"):
            refer_scene(key)
