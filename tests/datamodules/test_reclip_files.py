"""RefCOCO in the files of ReCLIP's authors: the same expressions and boxes as in the official ones; what is refused."""

import pytest
from refer_trees import SIZE, put_lines, put_reclip, put_refcoco, reclip_lines

from datamodules.reclip_files import ReclipFiles, image_name
from datamodules.refer_files import ReferFiles

FILES = {"train": "refcoco_train.jsonl", "val": "refcoco_val.jsonl", "test": "refcoco_testa.jsonl"}


def source(root, **options):
    return ReclipFiles(str(root), "reclip_data", **FILES | {"detections": "refcoco_dets_dict.json"} | options)


@pytest.mark.parametrize("proposals", ["gold", "detected"])
def test_the_lists_are_those_of_the_official_files(tmp_path, proposals):
    put_refcoco(tmp_path)
    put_reclip(tmp_path)
    ours = source(tmp_path, proposals=proposals, text="sent").splits(1)
    theirs = ReferFiles(
        str(tmp_path), "refcoco", "refs(unc).p", test="testA", proposals=proposals, text="sent", masks=False
    ).splits(1)
    assert ours == theirs
    assert ours.test[0].size == SIZE


def test_texts_are_as_they_were_typed(tmp_path):
    put_reclip(tmp_path)
    assert source(tmp_path).splits(1).val[0].text == "MIDDLE!"
    testb = source(tmp_path, train=None, val=None, test="refcoco_testb.jsonl").splits(1)
    assert [item.text for item in testb.test] == ["BIG DOG!", "CUP!", "MUG!", "WHITE CAT!"]
    assert (testb.train, testb.val) == ([], [])
    assert testb.test[0].proposals == ((0.0, 0.0, 32.0, 24.0),)  # nothing was detected: the whole image
    assert [item.detected for item in testb.test] == [False, False, False, True]


def test_things_without_ids_of_their_sentences_get_the_line_and_a_number(tmp_path):
    put_reclip(tmp_path)
    rows = reclip_lines("val")
    del rows[0]["sentences"][0]["sent_id"]
    put_lines(tmp_path / "reclip_data/refcoco_val.jsonl", rows)
    assert [item.expression_id for item in source(tmp_path).splits(1).val] == ["1-0"]


def test_names_of_images():
    assert image_name("COCO_train2014_000000581857_16.jpg", "name") == "COCO_train2014_000000581857.jpg"
    assert image_name("white_wearing/17_3.jpg", "name") == "white_wearing/17_3.jpg"  # RefGTA's


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ann_id": 5}, "line 1: ann_id is 5, which is not among its anns"),
        ({"ann_id": [300, 301]}, "line 1: ann_id names 2 annotations: an expression for one thing is wanted"),
        ({"anns": []}, "line 1: anns is no list of objects"),
        ({"anns": [{"id": 300, "bbox": [1, 2, 3]}]}, "line 1: the bbox of annotation 300 is list"),
        ({"anns": [{"id": 300, "bbox": [1, 2, -3, 4]}]}, r"bbox of annotation 300 is \[1, 2, -3, 4\]"),
        ({"anns": [{"id": 300, "bbox": [50, 2, 3, 4]}]}, "outside the image of 32 x 24 pixels"),
        ({"anns": [{"id": 300, "bbox": [1, 1, 3, 4]}] * 2}, "the annotation 300 occurs twice"),
        ({"file_name": "../x_1.jpg"}, "line 1: file_name"),
        ({"sentences": [{"raw": ""}]}, "line 1: sentence 0: the text is None"),
    ],
)
def test_lines_that_are_none(tmp_path, change, reason):
    put_reclip(tmp_path)
    rows = reclip_lines("val")
    put_lines(tmp_path / "reclip_data/refcoco_val.jsonl", [rows[0] | change])
    with pytest.raises(ValueError, match=reason):
        source(tmp_path, proposals="gold").splits(1)


def test_a_list_of_one_annotation_is_that_one(tmp_path):
    put_reclip(tmp_path)
    rows = reclip_lines("val")
    put_lines(tmp_path / "reclip_data/refcoco_val.jsonl", [rows[0] | {"ann_id": [300]}])
    assert source(tmp_path).splits(1).val[0].gold == (5.0, 5.0, 15.0, 15.0)


def test_an_image_that_is_missing_or_in_two_lists(tmp_path):
    put_reclip(tmp_path)
    with pytest.raises(ValueError, match="is in val and in test"):
        source(tmp_path, test=FILES["val"]).splits(1)
    (tmp_path / "coco/train2014/COCO_train2014_000000000030.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 image\(s\) named by .* are missing"):
        source(tmp_path).splits(1)
    with pytest.raises(ValueError, match="neither train nor test names a file"):
        source(tmp_path, train=None, test=None).splits(1)
