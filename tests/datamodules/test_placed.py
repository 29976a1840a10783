"""The larger pictures of several things: their masks and boxes say where the things are, as far as they are seen."""

import hashlib

import numpy as np
import pytest

from datamodules import placed
from datamodules.drawn_masks import DrawnMasks


@pytest.fixture(scope="module")
def drawn() -> dict:
    keys = [key for split in placed.SIZES for key in placed.keys(split)[:40]]
    return {key: placed.draw_placed(key) for key in keys}


def test_pictures_and_places_follow_from_the_key_alone(drawn):
    pixels = {key: np.asarray(image) for key, (image, _) in drawn.items()}
    assert {picture.shape for picture in pixels.values()} == {(64, 64, 3)}
    assert len({hashlib.sha256(picture.tobytes()).digest() for picture in pixels.values()}) == len(pixels)
    for key in list(drawn)[:5]:
        image, things = placed.draw_placed(key)
        assert (np.asarray(image) == pixels[key]).all()
        assert all((a.mask == b.mask).all() and a.box == b.box for a, b in zip(things, drawn[key][1], strict=True))
    for key in ("placed", "placed/train", "scenes/train/1", "placed/train/x", "placed/a/b/1"):
        with pytest.raises(ValueError, match="is the key of no placed scene"):
            placed.draw_placed(key)


def test_every_thing_is_seen_in_a_place_of_its_own(drawn):
    hidden = 0
    for key, (_, things) in drawn.items():
        assert [one.thing for one in things] == list(placed.placed_scene(key).things)
        assert 2 <= len(things) == len({one.thing.shape for one in things}) <= 5
        assert sum(one.mask.astype(int) for one in things).max() == 1  # a pixel is of the nearest thing alone
        for one in things:
            x1, y1, x2, y2 = (int(edge) for edge in one.box)
            assert 0 <= x1 < x2 <= 64
            assert 0 <= y1 < y2 <= 64
            assert one.mask.sum() == one.mask[y1:y2, x1:x2].sum() > 20
            assert one.mask[y1].any()
            assert one.mask[y2 - 1].any()
            assert one.mask[:, x1].any()
            assert one.mask[:, x2 - 1].any()
        boxes = [one.box for one in things]
        hidden += any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a in boxes for b in boxes if a != b)
    assert len(drawn) / 4 < hidden < len(drawn)  # many overlap, and not all


def test_the_nearer_thing_hides_the_farther():
    """Of a drawing, which has flat colours: a plain thing's visible pixels have its colour."""
    from scipy.ndimage import binary_erosion

    from datamodules.drawing import COLOURS

    seen = 0
    for key in placed.keys("train")[:120]:
        if placed.placed_scene(key).style != "drawing":
            continue
        image, things = placed.draw_placed(key)
        pixels = np.asarray(image).astype(int)
        for one in things:
            inner = binary_erosion(one.mask, np.ones((5, 5)))  # without the outlines
            if one.thing.texture == "plain" and inner.sum() > 20:
                middle = np.median(pixels[inner], 0)
                assert np.abs(middle - COLOURS[one.thing.colour]).max() <= 20, (key, one.thing)
                seen += 1
    assert seen > 10


@pytest.mark.parametrize(("classes", "count"), [("colours", 9), ("shapes", 21)])
def test_label_maps_of_drawn_pictures(classes, count):
    source = DrawnMasks(classes)
    splits = source.splits(7)
    assert {split: len(getattr(splits, split)) for split in placed.SIZES} == placed.SIZES
    assert splits.classnames[0] == "background"
    assert len(splits.classnames) == count
    item = splits.test[3]
    things = placed.draw_placed(item.path)[1]
    label_map = source.open_mask(item)
    assert label_map.dtype == np.uint8
    assert label_map.shape == source.open(item).size[::-1]
    of = [splits.classnames.index(placed.class_of(one.thing, classes)) for one in things]
    assert set(np.unique(label_map)) == {0, *of}
    assert (label_map > 0).sum() == sum(one.mask.sum() for one in things)
    assert all((label_map[one.mask] == number).all() for number, one in zip(of, things, strict=True))
    assert source.content_digest(splits.val) == DrawnMasks().content_digest(splits.val) != source.content_digest(splits.val[:3])
