"""RefCOCO's official files: their lists, boxes, masks and sizes; what is refused."""

import json
import pickle

import numpy as np
import pytest
from caption_trees import put_json
from refer_trees import SIZE, THINGS, pickled, put_refcoco, python2, refs

from datamodules import referred
from datamodules.boxes import iou
from datamodules.disk import MissingFilesError
from datamodules.grounding import GroundingData
from datamodules.grounding_items import Expression
from datamodules.refer_files import ReferFiles, read_refs


def source(root, refs="refs(unc).p", **options):
    return ReferFiles(str(root), "refcoco", refs, **{"test": "testA", "proposals": "gold"} | options)


@pytest.mark.parametrize("protocol", [0, 2])
def test_pickles_of_python_2_are_read_as_they_are(tmp_path, protocol):
    (tmp_path / "refs.p").write_bytes(pickled(refs(), protocol))
    assert read_refs(tmp_path / "refs.p") == refs()
    assert pickle.loads(pickled(refs(), protocol)) == refs()  # so these bytes are what Python 2 would have written
    (tmp_path / "refs.p").write_bytes(pickle.dumps(refs()))
    assert read_refs(tmp_path / "refs.p") == refs()
    assert pickle.loads(python2("ça") + b".") == "ça"


def test_expressions_with_their_boxes(tmp_path):
    put_refcoco(tmp_path)
    lists = source(tmp_path).splits(1)
    assert [item.text for item in lists.train] == [
        "the red box", "left thing", "the other one", "all of it", "small one", "the corner"
    ]  # fmt: skip
    first, third = lists.train[0], lists.train[2]
    assert first.path == "train2014/COCO_train2014_000000000009.jpg"
    assert (first.image_id, first.expression_id, first.size) == (9, 0, SIZE)
    assert first.gold == (2.0, 3.0, 12.0, 11.0)
    assert first.proposals == third.proposals == ((2.0, 3.0, 12.0, 11.0), (20.0, 3.0, 29.0, 12.0))
    assert third.gold == first.proposals[1]
    assert [item.text for item in lists.val] == ["middle"]
    assert len(lists.val[0].proposals) == 2  # the second thing of image 30 has no expression, and may be meant all the same
    assert [(item.text, item.gold) for item in lists.test][2] == ("woman", (15.0, 2.0, 27.5, 22.0))
    assert source(tmp_path).open(first).size == SIZE
    b = source(tmp_path, test="testB").splits(1).test
    assert [item.text for item in b] == ["big dog", "cup", "mug", "white cat"]
    assert source(tmp_path, text="raw").splits(1).val[0].text == "MIDDLE!"


def test_images_of_the_lists_are_apart(tmp_path):
    put_refcoco(tmp_path)
    lists = source(tmp_path).splits(1)
    paths = [{item.path for item in items} for items in (lists.train, lists.val, lists.test)]
    assert sum(map(len, paths)) == len(set.union(*paths)) == 4


def test_masks_of_gold_boxes(tmp_path):
    """The mask of a thing is the left half of its box."""
    put_refcoco(tmp_path)
    reader = source(tmp_path)
    item = reader.splits(1).train[0]
    mask = reader.region_mask(item, 0)
    assert mask.shape == SIZE[::-1]
    ys, xs = np.nonzero(mask)
    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (2, 3, 7, 11)
    plain = source(tmp_path, masks=False)
    assert plain.region_mask(plain.splits(1).train[0], 0) is None


def test_detected_boxes_are_clamped_and_an_image_without_one_has_the_whole_image(tmp_path):
    put_refcoco(tmp_path)
    reader = source(tmp_path, proposals="detected", test="testB")
    lists = reader.splits(1)
    first = lists.train[0]
    assert first.proposals == ((3.0, 3.0, 13.0, 11.0), (21.0, 3.0, 30.0, 12.0), (0.0, 0.0, 6.0, 7.0))
    assert (first.regions, reader.region_mask(first, 0)) == ((), None)
    assert iou(first.proposals[0], first.gold) == pytest.approx(9 / 11)
    assert {item.proposals for item in lists.test[:3]} == {((0.0, 0.0, 32.0, 24.0),)}
    assert [item.detected for item in lists.test] == [False, False, False, True]
    with pytest.raises(ValueError, match=r"image 73 has no box in .*dets.json: give without=whole_image"):
        source(tmp_path, proposals="detected", test="testB", without="refuse").splits(1)


@pytest.mark.parametrize("form", ["dets", "by image"])
def test_other_forms_of_detections(tmp_path, form):
    folder = put_refcoco(tmp_path)
    expected = source(tmp_path, proposals="detected").splits(1)
    rows = json.loads((folder / "dets.json").read_text())
    if form == "dets":
        put_json(folder / "dets.json", {"dets": rows})
    else:
        put_json(folder / "dets.json", {str(i): [row["box"] for row in rows if row["image_id"] == i] for i in THINGS})
    assert source(tmp_path, proposals="detected").splits(1) == expected


def google():
    """Things of image 9 train and validate, those of image 25 validate and are tested."""
    rows = refs()
    rows[0]["split"], rows[1]["split"], rows[2]["split"], rows[3]["split"] = "train", "val", "val", "testA"
    return rows


def test_an_image_in_two_lists_is_refused_or_left_out_of_training(tmp_path):
    folder = put_refcoco(tmp_path)
    (folder / "refs(unc).p").write_bytes(pickled(google()))
    with pytest.raises(ValueError, match="has 3 expressions in train or val for things in images that are also in"):
        source(tmp_path).splits(1)
    lists = source(tmp_path, shared="leave_out").splits(1)
    paths = [{item.path for item in items} for items in (lists.train, lists.val, lists.test)]
    assert sum(map(len, paths)) == len(set.union(*paths))
    assert [item.text for item in lists.val] == ["the other one", "middle"]
    assert [item.text for item in lists.test][:2] == ["small one", "the corner"]


def test_an_empty_text_is_taken_from_the_other_one(tmp_path):
    folder, rows = put_refcoco(tmp_path), refs()
    rows[0]["sentences"][0]["sent"] = ""
    (folder / "refs(unc).p").write_bytes(pickled(rows))
    assert source(tmp_path).splits(1).train[0].text == "THE RED BOX!"


def changed(change):
    rows = refs()
    change(rows)
    return rows


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows[2].update(ann_id=777), "ref_id 2 is for annotation 777 of image 25, which instances.json lacks"),
        (lambda rows: rows[2].update(ann_id=91), "ref_id 2 is for annotation 91 of image 25"),  # it is one of another image
        (lambda rows: rows[2].update(image_id=5), "ref_id 2 is of image 5, which instances.json lacks"),
        (lambda rows: rows[2].update(ref_id=0), "the ref_id 0 occurs twice"),
        (lambda rows: rows[2].pop("ref_id"), "entry 2: ref_id is None"),
        (lambda rows: rows[2].update(sentences=[]), "ref_id 2: sentences is no list of 1 to 1,000 objects"),
        (lambda rows: rows[2].update(sentences={}), "ref_id 2: sentences is no list"),
        (lambda rows: rows[2].update(split=3), "a split is 3, not text"),
        (lambda rows: rows[2]["sentences"][0].update(sent="", raw=""), "ref_id 2: sentence 0: the text is empty"),
    ],
)
def test_expressions_that_are_none(tmp_path, change, reason):
    folder = put_refcoco(tmp_path)
    (folder / "refs(unc).p").write_bytes(pickled(changed(change)))
    with pytest.raises(ValueError, match=reason):
        source(tmp_path).splits(1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"test": "testC"}, r"test=testC: the file of expressions .* has the splits testA, testB, train, val; choose one"),
        ({"val": "testA"}, "train, val and test are train, testA, testA: two lists cannot be the same split"),
        ({"proposals": "drawn"}, "proposals='drawn': choose one of gold, detected"),
        ({"without": "nothing"}, "without='nothing': choose one of whole_image, refuse"),
        ({"text": "tokens"}, "text='tokens': choose one of sent, raw"),
        ({"shared": "keep"}, "shared='keep': choose one of refuse, leave_out"),
        ({"proposals": "detected", "detections": None}, "proposals=detected needs a file of detections"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, options, reason):
    put_refcoco(tmp_path)
    with pytest.raises(ValueError, match=reason):
        source(tmp_path, **options).splits(1)


def test_boxes_outside_the_image(tmp_path):
    folder = put_refcoco(tmp_path)
    content = json.loads((folder / "instances.json").read_text())
    content["annotations"][1] |= {"bbox": [27, -4, 20, 10]}
    put_json(folder / "instances.json", content)
    assert source(tmp_path).splits(1).train[0].proposals[1] == (27.0, 0.0, 32.0, 6.0)
    content["annotations"][1] |= {"bbox": [40, 3, 5, 5]}
    put_json(folder / "instances.json", content)
    with pytest.raises(ValueError, match=r"annotation 91: bbox \(40, 3, 45, 8\) is outside the image of 32 x 24 pixels"):
        source(tmp_path).splits(1)


def test_files_and_images_that_are_missing(tmp_path):
    folder = put_refcoco(tmp_path)
    (tmp_path / "coco/train2014/COCO_train2014_000000000042.jpg").unlink()
    with pytest.raises(MissingFilesError) as caught:
        source(tmp_path).splits(1)
    assert caught.value.paths == ["train2014/COCO_train2014_000000000042.jpg"]
    (folder / "dets.json").unlink()
    with pytest.raises(ValueError, match="the file of detections is missing"):
        source(tmp_path, proposals="detected").splits(1)


def test_an_image_of_another_size_than_its_boxes_are_for(tmp_path):
    put_refcoco(tmp_path)
    reader = source(tmp_path)
    item = reader.splits(1).train[0]
    with pytest.raises(ValueError, match=r"000009.jpg has 32 x 24 pixels, and its boxes are for one of 640 x 480"):
        reader.open(Expression(*item[:-1], (640, 480)))


def test_digests_follow_texts_boxes_and_masks(tmp_path):
    folder = put_refcoco(tmp_path)
    digests = {source(tmp_path).digest(1), source(tmp_path, masks=False).digest(1), source(tmp_path, text="raw").digest(1)}
    digests |= {source(tmp_path, proposals="detected").digest(1)}
    assert len(digests) == 4
    assert source(tmp_path).digest(2) in digests
    content = json.loads((folder / "instances.json").read_text())
    content["annotations"][0]["segmentation"][0][0] += 1
    put_json(folder / "instances.json", content)
    digests |= {source(tmp_path).digest(1)}
    (folder / "refs(unc).p").write_bytes(pickled(changed(lambda rows: rows[0]["sentences"][0].update(sent="a red box"))))
    assert len(digests | {source(tmp_path).digest(1)}) == 6


def test_more_than_there_can_be(tmp_path, monkeypatch):
    folder = put_refcoco(tmp_path)
    monkeypatch.setattr(referred, "MAX_BOXES", 2)
    with pytest.raises(ValueError, match="image 9 of .* has 3 boxes, more than 2"):
        source(tmp_path, proposals="detected").splits(1)
    rows = changed(lambda rows: rows[0].update(sentences=rows[0]["sentences"] * 600))
    (folder / "refs(unc).p").write_bytes(pickled(rows))
    with pytest.raises(ValueError, match="sentences is no list of 1 to 1,000"):
        source(tmp_path).splits(1)


def test_a_datamodule_of_such_files(tmp_path):
    put_refcoco(tmp_path)
    image_spec = {"size": 32, "mean": (0.5,) * 3, "std": (0.3,) * 3}
    data = GroundingData("refcoco", source(tmp_path), image_spec, shots=3, seed=1, batch_size=3)
    (batch,) = data.train_loader()
    assert batch["image"].shape == (3, 3, *SIZE[::-1])
    assert data.selection()["val"] == ["6"]


@pytest.mark.parametrize(
    "content",
    [[], {}, [{"image_id": 999, "box": [0, 0, 5, 5]}], {"img_9": [[0, 0, 5, 5]]}, {"42": []}, {"9": [[0, 0, 5, 5]]}],
)
def test_detections_of_other_images_are_refused_where_they_are_needed(tmp_path, content):
    """The last ones are of an image that trains, and of none that is tested: what `tools.proposals --splits` may leave."""
    put_json(put_refcoco(tmp_path) / "dets.json", content)
    image_spec = {"size": 32, "mean": (0.5,) * 3, "std": (0.3,) * 3}
    data = {
        shots: GroundingData("refcoco", source(tmp_path, proposals="detected"), image_spec, shots, seed=1) for shots in (0, 6)
    }
    with pytest.raises(
        ValueError, match=r"none of the images of its test expressions \(1\) has a box in .*refcoco/dets.json: give"
    ):
        data[0].evaluation("refcoco", "test", "all")
    if "9" in content:
        assert len(data[6].train_set()) == 6
    else:
        with pytest.raises(ValueError, match="data=refcoco: none of the images of its training expressions"):
            data[6].train_set()
    gold = GroundingData("refcoco_gold", source(tmp_path), image_spec, shots=6, seed=1)
    assert (len(gold.train_set()), gold.evaluation("refcoco_gold", "test", "all").list_name) == (6, "testA")
