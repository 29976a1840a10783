import zlib

import numpy as np
import pytest

from datamodules.drawing import COLOURS, SHAPES, STYLES, TEXTURES
from datamodules.few_shot import select, subset
from datamodules.items import Item
from datamodules.shapes import CLASSES, DOMAINS, SEARCH_CLASSES, SIZES, Shapes

# crc32 of the pixels of the fourth training picture
DIGESTS = {"shapes": 4044407478, "sketch": 476605026, "dark": 2520497764, "search": 1569428575}


def pixels(source: Shapes, item: Item) -> np.ndarray:
    return np.asarray(source.open(item))


def test_splits_have_every_class_and_share_no_picture():
    splits = Shapes().splits(seed=1)
    assert splits.classnames == list(CLASSES)
    assert len(CLASSES) >= 24
    assert [len(splits.train), len(splits.val), len(splits.test)] == [n * len(CLASSES) for n in SIZES.values()]
    paths = [item.path for item in (*splits.train, *splits.val, *splits.test)]
    assert len(set(paths)) == len(paths)
    assert Shapes().splits(seed=2) == splits, "the seed must not change the benchmark"


def test_pictures_depend_on_their_key_alone():
    first, second = Shapes(), Shapes()
    items = first.splits(1).test[::60]
    forward, backward = [pixels(first, i) for i in items], [pixels(second, i) for i in items[::-1]][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert len({picture.tobytes() for picture in forward}) == len(items)
    assert forward[0].shape == (32, 32, 3)
    assert forward[0].dtype == np.uint8
    assert first.open(items[0]) is first.open(items[0]), "drawn once, then kept"


def test_every_class_is_drawable_and_visible_in_every_style():
    assert {style for _, styles in DOMAINS.values() for style in styles} <= set(STYLES)
    for shape, colour, texture in (*CLASSES.values(), *SEARCH_CLASSES.values()):
        assert shape in SHAPES
        assert colour in COLOURS
        assert texture in TEXTURES
    for domain in DOMAINS:
        source = Shapes(domain)
        spread = [pixels(source, item).std((0, 1)).max() for item in source.splits(1).val]
        assert min(spread) > 3, f"{domain}: a picture is nearly blank"


def test_domains_share_classes_but_no_picture():
    lists = [Shapes(domain).splits(1) for domain in DOMAINS if domain != "search"]
    assert all(splits.classnames == lists[0].classnames for splits in lists)
    assert len({splits.test[0].path for splits in lists}) == len(lists) == len(DOMAINS) - 1


def test_settings_are_chosen_on_other_classes_and_pictures_of_the_same_make():
    here, others = Shapes().splits(1), Shapes("search").splits(1)
    assert others.classnames == list(SEARCH_CLASSES)
    assert len(SEARCH_CLASSES) == len(CLASSES)
    assert not set(SEARCH_CLASSES) & set(CLASSES)
    assert not set(SEARCH_CLASSES.values()) & set(CLASSES.values())
    assert DOMAINS["search"] == DOMAINS["shapes"]
    reported = [Shapes(domain).splits(1) for domain in DOMAINS if domain != "search"]
    keys = [{item.path for s in those for item in (*s.train, *s.val, *s.test)} for those in (reported, [others])]
    assert not keys[0] & keys[1]
    assert [len(others.train), len(others.val), len(others.test)] == [len(here.train), len(here.val), len(here.test)]


def test_no_picture_has_changed():
    """Pixels of one picture of each domain, as the tables were made with."""
    digests = {
        domain: zlib.crc32(pixels(source, source.splits(1).train[3]).tobytes())
        for domain, source in ((domain, Shapes(domain)) for domain in DOMAINS)
    }
    assert digests == DIGESTS


@pytest.mark.parametrize(("domain", "classes"), [("shapes", CLASSES), ("search", SEARCH_CLASSES)])
def test_both_halves_share_attributes(domain, classes):
    splits = select(Shapes(domain).splits(1), shots=2, seed=1)
    halves = [subset(splits, half).classnames for half in ("base", "new")]
    assert len(halves[0]) == len(halves[1])
    assert not set(halves[0]) & set(halves[1])
    for attribute in range(3):
        base, new = ({classes[name][attribute] for name in half} for half in halves)
        assert base == new
        assert base == {kind[attribute] for kind in CLASSES.values()}


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="domain='clay'.*shapes, sketch, dark"):
        Shapes("clay")
    for path in ("shapes/train/red plain whale/0", "dark/train/red striped star/0", "shapes/train/red striped star/x", "a"):
        with pytest.raises(ValueError, match="is no picture of data=shapes"):
            Shapes().open(Item(path, 0, "red striped star"))
