"""COCO's official files of captions, and NoCaps', as they are laid out."""

import json

import pytest
from caption_trees import caption_file, coco_name, nocaps_content, put_caption_files, put_images, put_json, put_nocaps

from datamodules.caption_lists import CaptionLists

OF_2014 = {
    "train": "annotations/captions_train2014.json",
    "train_images": "train2014",
    "test": "annotations/captions_val2014.json",
    "test_images": "val2014",
}


def coco(root, **options):
    return CaptionLists(str(root), "coco", **(OF_2014 | options))


def nocaps(root, **options):
    return CaptionLists(str(root), "nocaps", images="images", **({"test": "nocaps_val_4500_captions.json"} | options))


def ids(items):
    return [item.image_id for item in items]


def test_coco_of_2014(tmp_path):
    put_caption_files(tmp_path)
    splits = coco(tmp_path).splits(1)
    assert [ids(items) for items in (splits.train, splits.val, splits.test)] == [[9, 25, 30, 34], [], [42, 73]]
    assert splits.test[0].path == f"val2014/{coco_name(42, 'val2014')}"
    assert splits.test[0].captions[1] == "A horse and its rider. 42"
    assert coco(tmp_path).open(splits.test[0]).mode == "RGB"
    assert {len(item.captions) for item in coco(tmp_path, captions_each=2).splits(1).train} == {2}


def test_coco_of_2017_is_the_same_with_other_names(tmp_path):
    for split, numbers in (("train2017", (9, 25)), ("val2017", (42,))):
        content = caption_file(split, numbers)
        for image in content["images"]:
            image["file_name"] = f"{image['id']:012d}.jpg"  # without a prefix
        put_images(tmp_path / "coco" / split, [image["file_name"] for image in content["images"]])
        put_json(tmp_path / f"coco/annotations/captions_{split}.json", content)
    renamed = {key: value.replace("2014", "2017") for key, value in OF_2014.items()}
    splits = coco(tmp_path, **renamed).splits(1)
    assert splits.test[0].path == "val2017/000000000042.jpg"


def test_images_held_out_are_always_the_same(tmp_path):
    put_caption_files(tmp_path)
    splits = coco(tmp_path, held_out=2).splits(1)
    assert (len(splits.train), len(splits.val)) == (2, 2)
    assert sorted(ids(splits.train) + ids(splits.val)) == [9, 25, 30, 34]
    assert ids(splits.val) == [25, 30]  # pinned: another draw would be other validation images
    with pytest.raises(ValueError, match="held_out=4: there are 4 images to take that many from"):
        coco(tmp_path, held_out=4).splits(1)


def test_an_image_that_trains_in_one_year_and_is_tested_in_another_is_refused(tmp_path):
    put_caption_files(tmp_path)
    put_images(tmp_path / "coco/val2017", ["000000000025.jpg"])
    leaked = caption_file("val2017", (25,))
    leaked["images"][0]["file_name"] = "000000000025.jpg"
    put_json(tmp_path / "coco/annotations/captions_val2017.json", leaked)
    with pytest.raises(ValueError, match="image 25 of .*coco is in train and in test: take it out of one of the two lists"):
        coco(tmp_path, test="annotations/captions_val2017.json", test_images="val2017").splits(1)


def test_nocaps_has_domains_and_ten_captions_each(tmp_path):
    put_nocaps(tmp_path)
    splits = nocaps(tmp_path).splits(1)
    assert ids(splits.test) == list(range(6))
    assert [item.domain for item in splits.test[:3]] == ["in-domain", "near-domain", "out-domain"]
    assert {len(item.captions) for item in splits.test} == {10}
    assert not splits.train and not splits.val  # noqa: PT018
    some = nocaps(tmp_path, for_training=2).splits(1)
    assert (len(some.train), len(some.test)) == (2, 4)


def test_lists_of_a_test_server_have_images_alone(tmp_path):
    put_nocaps(tmp_path)
    content = nocaps_content()
    del content["annotations"]
    put_json(tmp_path / "nocaps/nocaps_test_image_info.json", content)
    splits = nocaps(tmp_path, test="nocaps_test_image_info.json", uncaptioned=True).splits(1)
    assert [item.captions for item in splits.test] == [()] * 6
    with pytest.raises(ValueError, match="nocaps_test_image_info.json has no list of objects under 'annotations'"):
        nocaps(tmp_path, test="nocaps_test_image_info.json").splits(1)


def without_captions_of(number):
    content = nocaps_content()
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] != number]
    return content


def with_annotation(**fields):
    content = nocaps_content()
    content["annotations"][3] |= fields
    return content


def with_image(**fields):
    content = nocaps_content()
    content["images"][1] |= fields
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (without_captions_of(0), "image 0 has no caption: each needs one, unless uncaptioned=true says otherwise"),
        (without_captions_of(5), "image 5 has no caption"),
        (with_annotation(image_id=77), "annotation 3 is of image 77, which is not in its list of images"),
        (with_annotation(id=4), "annotations: the id 4 occurs twice: remove one of the two"),
        (with_annotation(caption=None), "annotation 3: caption is None, not text"),
        (with_annotation(caption="x" * 3000), "annotation 3: caption has 3,000 characters"),
        (with_image(id=0), "images: the id 0 occurs twice"),
        (with_image(id=True), "entry 1: id is True: an id is an integer"),
        (with_image(file_name=""), "image 1: file_name is empty"),
        (with_image(domain=3), "image 1: domain is 3, not text"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_sentence(tmp_path, content, message):
    put_nocaps(tmp_path).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        nocaps(tmp_path).splits(1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": None, "test": None}, "neither train nor test names a file"),
        ({"val": "a.json", "held_out": 1}, "held_out=1: images of train are held out for validation only where val is null"),
        ({"for_training": 1}, "for_training=1: captioned images of test train only where train is null"),
        ({"captions_each": 0}, "captions_each=0"),
    ],
)
def test_options_that_contradict_each_other(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        coco(tmp_path, **options)
