"""The published segmentation datasets, in small trees laid out as the official ones."""

import re

import numpy as np
import pytest
from mask_trees import (
    put_ade,
    put_cityscapes,
    put_context,
    put_list,
    put_map,
    put_own,
    put_picture,
    put_sbd,
    put_stuff,
    put_voc,
)

from datamodules.own_masks import OwnMasks
from datamodules.segmentation_sets import ADE20K, VOC2012, Cityscapes, COCOStuff, PascalContext, palette

READERS = {
    "ade20k": (put_ade, ADE20K, (150, 3, 2)),
    "voc2012": (put_voc, VOC2012, (21, 2, 2)),
    "pascal_context": (put_context, PascalContext, (59, 2, 1)),
    "cityscapes": (put_cityscapes, Cityscapes, (19, 3, 2)),
    "coco_stuff": (put_stuff, COCOStuff, (171, 2, 1)),
}


@pytest.mark.parametrize("name", READERS)
def test_official_layouts(tmp_path, name):
    put, reader, (classes, train, test) = READERS[name]
    put(tmp_path)
    source = reader(str(tmp_path))
    splits = source.splits(1)
    assert (len(splits.classnames), len(splits.train), len(splits.val), len(splits.test)) == (classes, train, 0, test)
    assert len(set(splits.classnames)) == classes
    assert splits.colours is None or len(splits.colours) == classes
    for item in (*splits.train, *splits.test):
        assert source.open_mask(item).shape == source.open(item).size[::-1]
    assert source.splits(2) == splits
    held = reader(str(tmp_path), held_out=1).splits(1)
    assert (len(held.train), len(held.val), held.test) == (train - 1, 1, splits.test)
    assert set(held.train + held.val) == set(splits.train)
    with pytest.raises(ValueError, match=r"held_out=\d+: there are \d images to take that many from"):
        reader(str(tmp_path), held_out=train).splits(1)


def ids(source, numbers_seen=None):
    """The ids of the first test image's map, as many as were put."""
    return source.open_mask(source.splits(1).test[0]).reshape(-1).tolist()


def test_2_9_13_ade20k_has_its_zero_left_out_and_the_classes_one_lower(tmp_path):
    put_ade(tmp_path, [0, 1, 2, 149, 150, 255])
    source = ADE20K(str(tmp_path))
    assert ids(source)[:6] == [255, 0, 1, 148, 149, 255]
    names = source.splits(1).classnames
    assert [names[i] for i in (0, 7, 44, 149)] == ["wall", "bed", "chest of drawers", "flag"]
    put_map(tmp_path / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png", [1, 151, 151])
    with pytest.raises(ValueError, match=r"00000001.png has the number 151, which is no class \(64 px\), where 0 to 150"):
        ids(source)


def test_voc_reads_palettes_and_leaves_borders_out(tmp_path):
    folder = put_voc(tmp_path)
    source = VOC2012(str(tmp_path))
    assert ids(source)[:4] == [0, 5, 20, 255]  # the indices of a palette, whatever its colours
    assert (source.classnames[5], source.classnames[20]) == ("bottle", "tv monitor")
    assert [source.colours[i] for i in (0, 1, 2, 3, 15, 20)] == [
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (192, 128, 128), (0, 64, 128)
    ]  # fmt: skip
    put_sbd(folder)
    more = VOC2012(str(tmp_path), train="trainaug").splits(1)
    assert [item.mask for item in more.train] == [
        "SegmentationClass/2007_000032.png", "SegmentationClass/2007_000039.png", "SegmentationClassAug/2008_000002.png"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="image 2007_000032.jpg of .*VOC2012 is in train and in test: leave one of the two"):
        VOC2012(str(tmp_path), test="train").splits(1)


def test_context_with_and_without_background(tmp_path):
    put_context(tmp_path)
    assert ids(PascalContext(str(tmp_path)))[:3] == [255, 0, 58]
    with_background = PascalContext(str(tmp_path), background=True)
    assert ids(with_background)[:3] == [0, 1, 59]
    assert len(with_background.splits(1).classnames) == 60 == len(set(palette(60)))
    assert with_background.classnames[1:] == PascalContext(str(tmp_path)).classnames
    assert with_background.digest(1) != PascalContext(str(tmp_path)).digest(1)


def test_cityscapes_has_19_of_34_label_ids(tmp_path):
    put_cityscapes(tmp_path)
    source = Cityscapes(str(tmp_path))
    seen = ids(source)[:34]
    assert [seen[number] for number in (7, 8, 11, 13, 23, 24, 33)] == [0, 1, 2, 4, 10, 11, 18]
    assert sorted(set(seen)) == [*range(19), 255]
    assert seen.count(255) == 15
    assert source.splits(1).test[0].path == "val/frankfurt/frankfurt_000000_000019_leftImg8bit.png"


def test_coco_stuff_closes_the_gaps_of_its_numbers(tmp_path):
    folder = put_stuff(tmp_path)
    source = COCOStuff(str(tmp_path))
    assert ids(source)[:7] == [0, 10, 11, 79, 80, 170, 255]
    assert [source.classnames[i] for i in (0, 10, 11, 79, 80, 170)] == [
        "person", "fire hydrant", "stop sign", "toothbrush", "banner", "wood"
    ]  # fmt: skip
    put_map(folder / "stuffthingmaps/val2017/000000000139.png", [11])
    with pytest.raises(ValueError, match="has the number 11, which is no class"):
        ids(source)


MISSING = {
    "ADEChallengeData2016/annotations/training/ADE_train_00000002.png": (put_ade, ADE20K, "1 label map(s) named by the images"),
    "ADEChallengeData2016/images/training/ADE_train_00000002.jpg": (
        put_ade,
        ADE20K,
        "1 image(s) named by a list or",
    ),
    "VOCdevkit/VOC2012/SegmentationClass/2007_000042.png": (put_voc, VOC2012, "the first is SegmentationClass/2007_000042.png"),
    "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt": (put_voc, VOC2012, "the list of the test images is missing"),
    "cityscapes/gtFine/val/frankfurt/frankfurt_000001_000019_gtFine_labelIds.png": (
        put_cityscapes,
        Cityscapes,
        "1 label map(s)",
    ),
    "cityscapes/leftImg8bit/train/bochum/bochum_000000_000019_leftImg8bit.png": (put_cityscapes, Cityscapes, "1 image(s)"),
}


@pytest.mark.parametrize("path", MISSING)
def test_what_is_missing_is_named(tmp_path, path):
    put, reader, words = MISSING[path]
    put(tmp_path)
    (tmp_path / path).unlink()
    with pytest.raises(ValueError, match=re.escape(words)):
        reader(str(tmp_path)).splits(1)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "val.txt names no image: download it again"),
        (["2007_000033", "../../x"], "val.txt, entry 2: '../../x' is no name of an image without folder and suffix"),
        (["2007_000033.jpg"], "'2007_000033.jpg' is no name of an image"),
        (["2007_000033", "2007_000033"], "image 2007_000033.jpg of .* is twice in test: leave one of the two"),
        (["2007_000099"], "1 image.s. named by a list or a label map are missing"),
    ],
)
def test_lists_that_are_not_as_they_should_be(tmp_path, lines, words):
    put_list(put_voc(tmp_path) / "ImageSets/Segmentation/val.txt", lines)
    with pytest.raises(ValueError, match=words):
        VOC2012(str(tmp_path)).splits(1)


# ---- images of one's own


def test_a_folder_of_ones_own(tmp_path):
    source = OwnMasks("nowhere", str(put_own(tmp_path / "streets")))
    splits = source.splits(1)
    assert splits.classnames == ["nothing", "road", "zebra crossing"]
    assert [len(items) for items in (splits.train, splits.val, splits.test)] == [2, 2, 2]
    assert splits.val[0] == ("val/images/val0.jpg", "val/masks/val0.png", 0)
    assert ids(source)[:4] == [0, 1, 2, 255]
    before = source.digest(1)
    (tmp_path / "streets").rename(tmp_path / "moved")
    moved = OwnMasks(str(tmp_path / "moved"))
    assert moved.digest(1) == before
    (tmp_path / "moved/classes.txt").write_text("nothing\nroad\nriver\n")
    assert OwnMasks(str(tmp_path / "moved")).digest(1) != before
    reduced = OwnMasks(str(tmp_path / "moved"), reduce_zero_label=True)
    assert ids(reduced)[:4] == [255, 0, 1, 255]
    alone = OwnMasks(str(tmp_path / "moved"), train=None, val=None).splits(1)
    assert (alone.train, alone.val, len(alone.test)) == ([], [], 2)


def test_own_folders_without_validation_images_may_hold_some_out(tmp_path):
    folder = put_own(tmp_path, splits=("train", "test"))
    assert OwnMasks("", str(folder)).splits(1).val == []
    assert len(OwnMasks("", str(folder), held_out=1).splits(1).val) == 1
    put_own(tmp_path)
    with pytest.raises(ValueError, match="held_out=1: .* has 2 validation images of its own; give 0"):
        OwnMasks("", str(folder), held_out=1).splits(1)


def _stray(folder):
    put_map(folder / "test/masks/other.png", [0])


def _twins(folder):
    put_picture(folder / "test/images/test0.png")


def _empty(folder):
    for part in ("images", "masks"):
        for path in (folder / "test" / part).iterdir():
            path.unlink()


def _classes(text):
    return lambda folder: (folder / "classes.txt").write_text(text)


WRONG = {
    "a map without image": (_stray, "the label map .*test/masks/other.png has no image in .*test/images: add it"),
    "twins": (_twins, "has test0.(jpg|png) and test0.(jpg|png), which would share a label map: rename one"),
    "an empty split": (_empty, "test/images holds no image: put the test images there, or set test to null"),
    "no map": (lambda folder: (folder / "test/masks/test1.png").unlink(), "1 label map.s. named by .* test/masks/test1.png"),
    "no classes": (_classes(""), "classes.txt has 0 classes: give 1 to 255"),
    "many classes": (_classes("\n".join(map(str, range(256)))), "classes.txt has 256 classes: give 1 to 255"),
    "equal classes": (_classes("a\nb\na\n"), "classes.txt names the class 'a' twice"),
    "no list": (lambda folder: (folder / "classes.txt").unlink(), "the list of classes is missing"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_in_an_own_folder_is_one_sentence(tmp_path, wrong):
    spoil, words = WRONG[wrong]
    folder = put_own(tmp_path)
    spoil(folder)
    with pytest.raises(ValueError, match=words) as caught:
        OwnMasks("", str(folder)).splits(1)
    assert "\n" not in str(caught.value)


def test_published_names_are_as_many_as_their_datasets_have():
    from datamodules.label_maps import known_classes

    sizes = {name: len(known_classes(name)) for name in ("ade20k", "voc2012", "pascal_context", "cityscapes", "coco_stuff")}
    assert sizes == {"ade20k": 150, "voc2012": 21, "pascal_context": 60, "cityscapes": 19, "coco_stuff": 171}
    assert sorted(known_classes("pascal_context")[1:]) == list(known_classes("pascal_context")[1:])  # its converter's order
    assert np.array_equal(palette(3), [(0, 0, 0), (128, 0, 0), (0, 128, 0)])
