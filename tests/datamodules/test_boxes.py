"""Boxes: their overlap against values by hand, clamping, and the conventions of files."""

import numpy as np
import pytest
from caption_trees import put_json
from hypothesis import given
from hypothesis import strategies as st
from refer_trees import THINGS, put_reclip, put_refcoco

from datamodules.boxes import area, clamp, from_xywh, iou, ious
from datamodules.reclip_files import ReclipFiles
from datamodules.refer_files import ReferFiles

A = (10.0, 10.0, 20.0, 30.0)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (A, A, 1.0),
        (A, (20.0, 10.0, 30.0, 30.0), 0.0),  # they touch
        (A, (40.0, 40.0, 50.0, 50.0), 0.0),
        (A, (15.0, 10.0, 20.0, 30.0), 0.5),  # half of it
        (A, (15.0, 20.0, 25.0, 40.0), 50 / 350),
        (A, (12.0, 15.0, 14.0, 20.0), 10 / 200),  # inside
        ((5.0, 5.0, 5.0, 5.0), (5.0, 5.0, 5.0, 5.0), 0.0),  # no area
    ],
)
def test_3_4_10_overlap_by_hand(a, b, expected):
    assert iou(a, b) == pytest.approx(expected, abs=1e-12)
    assert iou(b, a) == iou(a, b)


def test_many_at_once():
    boxes = [A, (15.0, 10.0, 20.0, 30.0), (0.0, 0.0, 1.0, 1.0)]
    np.testing.assert_allclose(ious(boxes, A), [1.0, 0.5, 0.0])
    assert ious([], A).shape == (0,)


READERS = {
    "refer": (ReferFiles, {"folder": "refcoco", "refs": "refs(unc).p", "test": "testA", "detections": "dets.json"}),
    "reclip": (ReclipFiles, {"folder": "reclip_data", "test": "refcoco_testa.jsonl", "detections": "dets.json"}),
}


@pytest.mark.parametrize("reader", READERS)
def test_3_4_02_readers_give_exclusive_far_edges(tmp_path, reader):
    """Files have (left, top, width, height): a width of 1 is one column, and far edges less near ones are width and height."""
    make, files = READERS[reader]
    for folder in (put_refcoco(tmp_path), put_reclip(tmp_path)):
        put_json(folder / "dets.json", {str(image): [[3, 4, 1, 1], [0, 0, 32, 24]] for image in THINGS})
    sources = [make(str(tmp_path), **files, proposals=proposals) for proposals in ("detected", "gold")]
    detected, gold = (source.splits(1).test for source in sources)
    assert {item.proposals for item in detected} == {((3, 4, 4, 5), (0, 0, 32, 24))}
    assert [area(box) for box in detected[0].proposals] == [1, 32 * 24]
    assert {item.proposals for item in gold} == {((0, 0, 12, 12), (15, 2, 27.5, 22))}
    assert [item.gold for item in gold] == [(0, 0, 12, 12), (0, 0, 12, 12), (15, 2, 27.5, 22)]


sides = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 9), st.integers(1, 9))


@given(sides, sides)
def test_3_4_02_overlaps_are_those_of_inclusive_boxes(a, b):
    """As CPT's code measures them: far edges inclusive, one pixel added to each length. One row or column it takes for none."""
    low, high = (np.maximum(a[:2], b[:2]), np.minimum(np.add(a[:2], a[2:]), np.add(b[:2], b[2:])) - 1)
    shared = int(np.prod(high - low + 1)) if (low < high).all() else 0
    theirs = shared / (a[2] * a[3] + b[2] * b[3] - shared)
    if (low != high).all():
        assert iou(from_xywh(a), from_xywh(b)) == pytest.approx(theirs)
    else:
        assert theirs == 0


@pytest.mark.parametrize(
    ("box", "clamped"),
    [
        ((-5, -5, 10, 10), (0, 0, 10, 10)),  # partly outside
        ((30, 20, 99, 99), (30, 20, 40, 30)),
        ((0, 0, 40, 30), (0, 0, 40, 30)),  # all of the image
        ((-1, -1, 41, 31), (0, 0, 40, 30)),
        ((7, 8, 8, 9), (7, 8, 8, 9)),  # one pixel
        ((7, 8, 7, 8), (7, 8, 8, 9)),  # no area: grown to one pixel
        ((7.25, 8, 7.5, 20), (7.25, 8, 8.25, 20)),
        ((40, 30, 40, 30), (39, 29, 40, 30)),  # in the corner
        ((-3, 5, 0.25, 9), (0, 5, 1, 9)),  # what is left is less than a pixel
    ],
)
def test_3_4_02_clamping_to_an_image_of_40_by_30(box, clamped):
    assert clamp(box, (40, 30)) == clamped


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((-9, 0, -1, 5), r"box 3 \(-9, 0, -1, 5\) is outside the image of 40 x 30 pixels"),
        ((-9, 0, 0, 5), "is outside the image"),  # it touches the image
        ((40, 0, 50, 5), "is outside the image"),
        ((0, 31, 5, 31), "is outside the image"),
        ((9, 0, 3, 5), "has a negative width or height"),
        ((0, 0, float("nan"), 5), "are not all numbers"),
        ((0, 0, float("inf"), 5), "are not all numbers"),
    ],
)
def test_boxes_of_which_nothing_is_left(box, reason):
    with pytest.raises(ValueError, match=reason):
        clamp(box, (40, 30), "box 3")


numbers = st.floats(-60, 60)


@given(st.tuples(numbers, numbers, numbers, numbers), st.tuples(st.integers(1, 50), st.integers(1, 50)))
def test_what_is_clamped_lies_in_the_image_and_has_a_pixel(box, size):
    try:
        x1, y1, x2, y2 = clamp(box, size)
    except ValueError:
        return
    assert 0 <= x1 <= x2 - 1 + 1e-9
    assert x2 <= size[0]
    assert 0 <= y1 <= y2 - 1 + 1e-9
    assert y2 <= size[1]
    assert clamp((x1, y1, x2, y2), size) == pytest.approx((x1, y1, x2, y2))
