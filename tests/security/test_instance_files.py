"""Files of objects that somebody else made: refused in one sentence, or read as plain data."""

import json
from pathlib import Path

import numpy as np
import pytest
from detection_trees import instances_content
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import few, one_sentence, refused
from test_split_files import MAKE, PLAIN

from datamodules import coco_instances
from datamodules.coco_instances import mask_of, read_instances


def put(folder: Path, content) -> Path:
    path = folder / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def changed(key: str, value, kind: str = "annotations", place: int = 1) -> dict:
    content = instances_content()
    content[kind][place] = {**content[kind][place], key: value}
    return content


WRONG = [None, True, "12", [], {}, "a\x1b[2J", 10**30, -1]


@pytest.mark.parametrize("value", [*WRONG, 0.5, 0, 200_000])
@pytest.mark.parametrize("key", ["height", "width"])
def test_sizes_are_numbers_of_pixels(tmp_path, key, value):
    assert f"image 101: {key}" in refused(read_instances, put(tmp_path, changed(key, value, "images")))


def test_an_image_of_absurd_size(tmp_path):
    content = changed("height", 100_000, "images")
    content["images"][1]["width"] = 100_000
    assert "more than 268,435,456 pixels" in refused(read_instances, put(tmp_path, content))


@pytest.mark.parametrize("value", [*WRONG[:5], [1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, True], [0, 0, -1, 2], [1, 2, 1e300, 2]])
def test_boxes_are_four_numbers(tmp_path, value):
    assert "annotation 1001: bbox" in refused(read_instances, put(tmp_path, changed("bbox", value)))


@pytest.mark.parametrize("value", [None, True, "a", [], 1e300])
def test_areas_and_crowds(tmp_path, value):
    assert "annotation 1001: area" in refused(read_instances, put(tmp_path, changed("area", value)))
    if value is not True:
        assert "annotation 1001: iscrowd" in refused(read_instances, put(tmp_path, changed("iscrowd", value)))


def test_objects_belong_to_an_image_and_a_category(tmp_path):
    assert "of image 9, which is not" in refused(read_instances, put(tmp_path, changed("image_id", 9)))
    assert "of category 9, which is not" in refused(read_instances, put(tmp_path, changed("category_id", 9)))
    assert "the id 1000 occurs twice" in refused(read_instances, put(tmp_path, changed("id", 1000)))
    assert "has 0 categories" in refused(read_instances, put(tmp_path, instances_content() | {"categories": []}))
    twice = changed("name", "cat", "categories", 2)
    assert "two categories have the same name" in refused(read_instances, put(tmp_path, twice))
    assert "category 3: name" in refused(read_instances, put(tmp_path, changed("name", "a\x1b[2J", "categories")))


SIZE = {"size": [32, 48]}
SEGMENTATIONS = {
    "a text": "1 2 3",
    "a number": 7,
    "a flat list": [1, 2, 3, 4, 5, 6],
    "two points": [[1, 2, 3, 4]],
    "an odd polygon": [[1, 2, 3, 4, 5, 6, 7]],
    "no numbers": [[1, 2, 3, 4, 5, "6"]],
    "a huge number": [[1, 2, 3, 4, 5, 1e300]],
    "far outside": [[1, 2, 3, 4, 5, 1e6]],
    "a long polygon": [[1.0] * 200_002],
    "an empty code": {},
    "another size": {"size": [48, 32], "counts": [48 * 32]},
    "no counts": SIZE,
    "too few": SIZE | {"counts": [3]},
    "too many": SIZE | {"counts": [2**40]},
    "below zero": SIZE | {"counts": [48 * 32 + 5, -5]},
    "booleans": SIZE | {"counts": [48 * 32, False]},
    "damaged text": SIZE | {"counts": "\x01\x02"},
    "a text without end": SIZE | {"counts": "P" * 100},
    "a cut text": SIZE | {"counts": "P"},
    "a long text": SIZE | {"counts": "1" * 10**6},
    "text below zero": SIZE | {"counts": "ON"},
}


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_masks_fit_their_image(tmp_path, name):
    value = SEGMENTATIONS[name]
    assert "segmentation" in refused(read_instances, put(tmp_path, changed("segmentation", value)))
    assert "segmentation" in refused(mask_of, {"id": 3, "segmentation": value}, 32, 48)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[" * 100_000, "nested"), ("[]", "a list, not an object"), ('{"images": {}, "categories": [{"id": 1, "name": "a"}]}',
     "no list of objects"), ('{"images": [], "images": []}', "stands twice"), ("NaN", "no JSON number")],
)  # fmt: skip
def test_files_of_another_form(tmp_path, text, reason):
    assert reason in refused(read_instances, put(tmp_path, text))


def test_larger_files_than_there_are(tmp_path, monkeypatch):
    path = put(tmp_path, instances_content())
    monkeypatch.setattr(coco_instances, "MAX_VALUES", 100)
    assert "has more than 100 values" in refused(read_instances, path)
    monkeypatch.setattr(coco_instances, "MAX_BYTES", 100)
    assert "is larger than" in refused(read_instances, path)


@pytest.mark.parametrize("kind", MAKE)
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    MAKE[kind](tmp_path / "instances.json")
    refused(read_instances, tmp_path / "instances.json")


CODES = st.fixed_dictionaries({"size": st.just([32, 48])}, optional={"counts": PLAIN | st.lists(st.integers(), max_size=4)})
ROW = st.dictionaries(
    st.sampled_from(["id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "name", "height", "width"]),
    PLAIN | CODES | st.just(1) | st.lists(st.lists(st.floats(), max_size=6), max_size=2),
)
FILE = st.fixed_dictionaries(dict.fromkeys(("images", "annotations", "categories"), st.lists(ROW, max_size=3)))


@settings(few, max_examples=25)
@given(content=FILE | PLAIN, segmentation=PLAIN | CODES)
def test_any_json_is_read_or_refused(tmp_path, content, segmentation):
    one_sentence(read_instances, put(tmp_path, content))
    mask = one_sentence(mask_of, {"segmentation": segmentation}, 32, 48)
    assert isinstance(mask, ValueError) or (mask.shape == (32, 48) and mask.dtype == np.bool_)
