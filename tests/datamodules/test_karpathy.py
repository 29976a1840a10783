"""COCO and Flickr30k with Karpathy's splits, as their files are laid out."""

import json

import pytest
from caption_trees import FIVE, karpathy_coco, put_coco, put_flickr

from datamodules.disk import MissingFilesError
from datamodules.identity import data_digest
from datamodules.karpathy import KarpathySplit


def coco(root, **options):
    return KarpathySplit(str(root), "coco", "dataset_coco.json", **options)


def ids(items):
    return [item.image_id for item in items]


def test_coco(tmp_path):
    put_coco(tmp_path)
    splits = coco(tmp_path).splits(1)
    assert [ids(items) for items in (splits.train, splits.val, splits.test)] == [[100, 101, 102], [103], [104, 105]]
    first = splits.train[0]
    assert first.path == "train2014/COCO_train2014_000000000100.jpg"
    assert first.captions[:3] == ("a man rides a horse 0", "A horse and its rider. 0", "someone on a horse 0")  # single spaces
    assert len(first.captions) == 6
    assert coco(tmp_path).open(first).size == (8, 8)
    assert splits == coco(tmp_path).splits(2)


def test_restval_and_the_first_captions_are_options(tmp_path):
    put_coco(tmp_path)
    splits = coco(tmp_path, restval=False, captions_each=5).splits(1)
    assert ids(splits.train) == [100, 101]
    assert {len(item.captions) for item in splits.test} == {5}
    with pytest.raises(ValueError, match="captions_each=0: give a number of captions, 1 or more, or null for all"):
        coco(tmp_path, captions_each=0)


def test_flickr30k(tmp_path):
    put_flickr(tmp_path)
    source = KarpathySplit(str(tmp_path), "flickr30k", "dataset_flickr30k.json", images="flickr30k-images")
    splits = source.splits(1)
    assert [ids(items) for items in (splits.train, splits.val, splits.test)] == [[0, 1], [2], [3, 4]]
    assert splits.test[1].path == "1004.jpg"
    assert splits.test[1].captions == tuple(" ".join(f"{text} 4".split()) for text in FIVE)


def test_missing_images_are_named(tmp_path):
    put_coco(tmp_path)
    (tmp_path / "coco/val2014/COCO_val2014_000000000104.jpg").unlink()
    with pytest.raises(
        MissingFilesError, match=r"1 image\(s\) named by dataset_coco.json are missing .*000000000104.jpg"
    ) as caught:
        coco(tmp_path).splits(1)
    assert caught.value.paths == ["val2014/COCO_val2014_000000000104.jpg"]


def changed(**fields):
    """A file whose third image has other fields; a field of value None is left out."""
    content = karpathy_coco()
    content["images"][2] |= fields
    content["images"][2] = {key: value for key, value in content["images"][2].items() if value is not None}
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            changed(split="training"),
            "image 2 .*102.jpg. has the split 'training': it should be one of train, restval, val, test",
        ),
        (changed(split=None), "has the split None"),
        (changed(sentences=[]), "image 2 .*102.jpg. has no sentences: each image needs a caption"),
        (changed(sentences=None), "image 2: sentences is no list"),
        (changed(sentences=[{"raw": " \n"}]), "image 2: sentences, number 0 is empty"),
        (changed(sentences=[{"tokens": ["a"]}]), "image 2: sentences, number 0 is None, not text"),
        (changed(cocoid=101), "images 1 and 2 are both 101: remove one of the two"),
        (changed(filename="COCO_val2014_000000000103.jpg"), "images 2 and 3 are both val2014/COCO_val2014_000000000103.jpg"),
        (changed(cocoid=None, imgid=None), "image 2: cocoid or imgid is None: an id is an integer"),
        (changed(filename=None), "image 2: filename is None, not text"),
        ({"dataset": "coco"}, "has no list of objects under 'images'"),
        ([], "holds a list, not an object"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_sentence(tmp_path, content, message):
    path = put_coco(tmp_path)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        coco(tmp_path).splits(1)
    assert "\n" not in str(caught.value)
    assert "dataset_coco.json" in str(caught.value)


def test_the_digest_follows_the_data_and_not_their_place(tmp_path):
    path = put_coco(tmp_path / "here")
    digest = data_digest(coco(tmp_path / "here"), 1)
    put_coco(tmp_path / "there")
    assert data_digest(coco(tmp_path / "there"), 2) == digest != data_digest(coco(tmp_path / "there", restval=False), 1)
    assert data_digest(coco(tmp_path / "here"), 1) == digest
    path.write_text(path.read_text().replace("someone", "somebody"))
    assert data_digest(coco(tmp_path / "here"), 1) != digest  # the process that has read the file notices that it has changed
    other = coco(tmp_path / "there")
    before = other.content_digest(other.splits(1).test)
    assert before == other.content_digest(other.splits(1).test) != other.content_digest(other.splits(1).val)
    image = tmp_path / "there/coco/val2014/COCO_val2014_000000000104.jpg"
    image.write_bytes(image.read_bytes() + b"\0")
    assert other.content_digest(other.splits(1).test) != before
    assert data_digest(other, 1) != digest
