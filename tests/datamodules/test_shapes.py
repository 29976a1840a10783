import numpy as np
import pytest

from datamodules.drawing import COLOURS, SHAPES, STYLES, TEXTURES
from datamodules.few_shot import select, subset
from datamodules.items import Item
from datamodules.shapes import CLASSES, DOMAINS, SIZES, Shapes


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
    for shape, colour, texture in CLASSES.values():
        assert shape in SHAPES
        assert colour in COLOURS
        assert texture in TEXTURES
    for domain in DOMAINS:
        source = Shapes(domain)
        spread = [pixels(source, item).std((0, 1)).max() for item in source.splits(1).val]
        assert min(spread) > 3, f"{domain}: a picture is nearly blank"


def test_domains_share_classes_but_no_picture():
    lists = [Shapes(domain).splits(1) for domain in DOMAINS]
    assert all(splits.classnames == lists[0].classnames for splits in lists)
    assert len({splits.test[0].path for splits in lists}) == len(DOMAINS)


def test_both_halves_share_attributes():
    splits = select(Shapes().splits(1), shots=2, seed=1)
    halves = [subset(splits, half).classnames for half in ("base", "new")]
    assert len(halves[0]) == len(halves[1])
    assert not set(halves[0]) & set(halves[1])
    for attribute in range(3):
        base, new = ({CLASSES[name][attribute] for name in half} for half in halves)
        assert base == new


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="domain='clay'.*shapes, sketch, dark"):
        Shapes("clay")
    for path in ("shapes/train/red plain whale/0", "dark/train/red striped star/0", "shapes/train/red striped star/x", "a"):
        with pytest.raises(ValueError, match="is no picture of data=shapes"):
            Shapes().open(Item(path, 0, "red striped star"))
