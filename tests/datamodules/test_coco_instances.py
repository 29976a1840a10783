"""COCO's files of objects: masks as COCO's own code draws them, boxes, crowds, categories."""

import json

import numpy as np
import pytest
from detection_trees import compressed, instances_content, rectangle, runs
from pycocotools import mask as coco_masks

from datamodules.coco_instances import drawn, mask_of, read_instances

H, W = 30, 41
RNG = np.random.default_rng(3)
BLOB = np.kron(RNG.random((6, 9)) < 0.5, np.ones((5, 5), bool))[:H, :W]


@pytest.mark.parametrize("mask", [BLOB, np.zeros((H, W), bool), np.ones((H, W), bool), RNG.random((H, W)) < 0.5])
def test_codes_give_back_their_mask(mask):
    for counts in (runs(mask), compressed(mask)):
        assert np.array_equal(mask_of({"segmentation": {"size": [H, W], "counts": counts}}, H, W), mask)


def test_polygons_are_drawn_as_coco_draws_them():
    polygons = [[3.2, 4.1, 30.7, 2.2, 35.0, 25.5, 10.3, 28.0], [0, 0, 5, 0, 5, 5], rectangle(33, 20, 12, 14)]
    expected = np.zeros((H, W), bool)
    for code in coco_masks.frPyObjects(polygons, H, W):
        expected |= coco_masks.decode(code).astype(bool)
    assert np.array_equal(mask_of({"segmentation": polygons}, H, W), expected)
    assert not mask_of({}, H, W).any()


def test_a_file_is_read(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(instances_content()))
    images, names = read_instances(path)
    assert list(names.items()) == [(1, "person"), (3, "car"), (17, "cat")]
    assert [(image.image_id, len(image.annotations)) for image in images] == [(100, 3), (101, 2), (102, 2), (103, 0)]
    cat, car, crowd = images[0].annotations
    assert cat.box == (4.0, 5.0, 20.0, 17.0)
    assert (cat.category_id, cat.area, cat.crowd, crowd.crowd) == (17, 192.0, False, True)
    for thing, (x1, y1, x2, y2) in ((cat, (4, 5, 20, 17)), (car, (26, 5, 42, 17)), (crowd, (2, 25, 40, 30))):
        expected = np.zeros((32, 48), bool)
        expected[y1:y2, x1:x2] = True
        assert np.array_equal(drawn(thing.region, 32, 48), expected)
    assert all(thing.region is None for thing in read_instances(path, masks=False)[0][0].annotations)
