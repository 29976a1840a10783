"""Each dataset's own files, read through the dataset's yaml as a run does."""

import json
import logging
import random

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.io import savemat

from datamodules.fallback import camel_to_underscores, split_8020, split_503020, sun_name, year_first
from datamodules.items import Item, by_label
from tools.dataset_config import DEFAULTS
from tools.doctor import disk_source


@pytest.fixture
def source(tmp_path):
    return lambda name: disk_source(name, OmegaConf.create(DEFAULTS | {"data_root": str(tmp_path)}))


def everything(splits):
    return sorted({*splits.train, *splits.val, *splits.test})


def numbers(splits):
    return len(splits.train), len(splits.val), len(splits.test)


def struct(**columns) -> np.ndarray:
    """A MATLAB struct array."""
    rows = list(zip(*columns.values(), strict=True))
    array = np.zeros((1, len(rows)), dtype=[(name, object) for name in columns])
    array[0] = rows
    return array


@pytest.mark.parametrize(("count", "sizes"), [(10, (5, 2, 3)), (5, (2, 1, 2)), (3, (2, 1, 0)), (1, (0, 0, 1))])
def test_503020_rounds_half_to_even(count, sizes):
    assert numbers(split_503020([[Item(str(i), 0, "x") for i in range(count)]], random.Random(1))) == sizes


def test_8020_keeps_the_test_list_and_goes_class_by_class():
    trainval = [Item(f"{label}/{i}", label, "x") for i in range(12) for label in (1, 0)]
    splits = split_8020(trainval, [Item("t", 0, "x")], random.Random(3))
    assert numbers(splits) == (20, 4, 1)
    expected, rng = [], random.Random(3)
    for label in (1, 0):
        order = list(range(12))
        rng.shuffle(order)
        expected += [f"{label}/{i}" for i in order[:2]]
    assert [item.path for item in splits.val] == expected
    assert sorted([*splits.train, *splits.val]) == sorted(trainval)


@pytest.mark.parametrize(
    ("clean", "name", "cleaned"),
    [
        (camel_to_underscores, "ApplyEyeMakeup", "Apply_Eye_Makeup"),
        (camel_to_underscores, "Biking", "Biking"),
        (camel_to_underscores, "YoYo", "Yo_Yo"),
        (year_first, "Acura RL Sedan 2012", "2012 Acura RL Sedan"),
        (sun_name, "/a/abbey", "abbey"),
        (sun_name, "/b/bow_window/outdoor", "outdoor bow_window"),
    ],
)
def test_names(clean, name, cleaned):
    assert clean(name) == cleaned


def test_caltech101(tmp_path, put_images, source):
    names = ["BACKGROUND_Google", "Faces", "Faces_easy", "Leopards", "Motorbikes", "accordion", "airplanes"]
    put_images(tmp_path / "caltech-101/101_ObjectCategories", [f"{n}/image_{i:04d}.jpg" for n in names for i in range(10)])
    put_images(tmp_path / "caltech-101/101_ObjectCategories", [".DS_Store/x.jpg", "accordion/.hidden.jpg"])
    splits = source("caltech101").splits(1)
    assert splits.classnames == ["face", "leopard", "motorbike", "accordion", "airplane"]
    assert numbers(splits) == (25, 10, 15)
    assert {item.path.split("/")[0] for item in splits.test if item.label == 0} == {"Faces"}


def test_eurosat(tmp_path, put_images, source):
    names = "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential River SeaLake"
    put_images(tmp_path / "eurosat/2750", [f"{n}/{n}_{i}.jpg" for n in names.split() for i in range(5)])
    assert source("eurosat").splits(1).classnames == [
        "Annual Crop Land",
        "Forest",
        "Herbaceous Vegetation Land",
        "Highway or Road",
        "Industrial Buildings",
        "Pasture Land",
        "Permanent Crop Land",
        "Residential Buildings",
        "River",
        "Sea or Lake",
    ]


@pytest.mark.parametrize(("name", "images"), [("food101", "food-101/images"), ("dtd", "dtd/images")])
def test_class_folders(tmp_path, put_images, source, name, images):
    put_images(tmp_path / images, [f"{n}/{i}.jpg" for n in ("apple_pie", "baklava") for i in range(10)])
    splits = source(name).splits(2)
    assert splits.classnames == ["apple_pie", "baklava"]
    assert numbers(splits) == (10, 4, 6)
    assert len(everything(splits)) == 20


def test_oxford_pets(tmp_path, put_images, put_text, source):
    breeds = {"Abyssinian": 1, "american_bulldog": 2, "Egyptian_Mau": 3}
    put_images(tmp_path / "oxford_pets/images", [f"{b}_{i}.jpg" for b in breeds for i in range(15)])
    for name, span in (("trainval", range(10)), ("test", range(10, 15))):
        lines = [f"{breed}_{i} {label} 1 1" for breed, label in breeds.items() for i in span]
        put_text(tmp_path / f"oxford_pets/annotations/{name}.txt", "\n".join(lines) + "\n")
    splits = source("oxford_pets").splits(1)
    assert splits.classnames == ["abyssinian", "american_bulldog", "egyptian_mau"]
    assert numbers(splits) == (24, 6, 15)
    assert splits.test[0] == Item("Abyssinian_10.jpg", 0, "abyssinian")


def test_stanford_cars(tmp_path, put_images, source):
    folder = tmp_path / "stanford_cars"
    put_images(folder, [f"cars_{split}/{i:05d}.jpg" for split in ("train", "test") for i in range(1, 11)])
    (folder / "devkit").mkdir()
    names = np.array([["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]], dtype=object)
    savemat(folder / "devkit/cars_meta.mat", {"class_names": names})
    for path, count in (("devkit/cars_train_annos.mat", 10), ("cars_test_annos_withlabels.mat", 4)):
        annotations = struct(
            bbox_x1=[1] * count, **{"class": [1 + i % 2 for i in range(count)]},
            fname=[f"{i:05d}.jpg" for i in range(1, count + 1)],
        )  # fmt: skip
        savemat(folder / path, {"annotations": annotations})
    splits = source("stanford_cars").splits(1)
    assert splits.classnames == ["2000 AM General Hummer SUV", "2012 Acura RL Sedan"]
    assert numbers(splits) == (8, 2, 4)
    assert splits.test[1] == Item("cars_test/00002.jpg", 1, "2012 Acura RL Sedan")


def test_flowers102(tmp_path, put_images, put_text, source):
    folder = tmp_path / "oxford_flowers"
    put_images(folder / "jpg", [f"image_{i:05d}.jpg" for i in range(1, 21)])
    savemat(folder / "imagelabels.mat", {"labels": np.array([[2] * 10 + [1] * 10], dtype=np.uint8)})
    put_text(folder / "cat_to_name.json", json.dumps({"2": "hard-leaved pocket orchid", "1": "pink primrose"}))
    splits = source("flowers102").splits(1)
    assert splits.classnames == ["pink primrose", "hard-leaved pocket orchid"]
    assert numbers(splits) == (10, 4, 6)
    assert list(by_label(splits.train)) == [1, 0], "classes in order of first appearance"
    assert {item.path for item in everything(splits) if item.label == 1} == {f"image_{i:05d}.jpg" for i in range(1, 11)}


def test_sun397(tmp_path, put_images, put_text, source):
    categories = ["/a/abbey", "/b/bow_window/outdoor"]
    folder = tmp_path / "sun397"
    put_text(folder / "ClassName.txt", "\n".join(categories))
    for file, span in (("Training_01.txt", range(10)), ("Testing_01.txt", range(10, 14))):
        lines = [f"{c}/sun_{i}.jpg" for c in categories for i in span]
        put_images(folder / "SUN397", [line[1:] for line in lines])
        put_text(folder / file, "\n".join(lines))
    splits = source("sun397").splits(1)
    assert splits.classnames == ["abbey", "outdoor bow_window"]
    assert numbers(splits) == (16, 4, 8)
    assert splits.test[-1] == Item("b/bow_window/outdoor/sun_13.jpg", 1, "outdoor bow_window")


def test_ucf101(tmp_path, put_images, put_text, source):
    folder = tmp_path / "ucf101"
    put_text(folder / "ucfTrainTestlist/classInd.txt", "1 ApplyEyeMakeup\n2 Biking\n")
    clips = {n: [f"v_{n}_g{i:02d}_c01" for i in range(14)] for n in ("ApplyEyeMakeup", "Biking")}
    train = [f"{n}/{c}.avi {1 + i}" for i, n in enumerate(clips) for c in clips[n][:10]]
    put_text(folder / "ucfTrainTestlist/trainlist01.txt", "\n".join(train))
    put_text(folder / "ucfTrainTestlist/testlist01.txt", "\n".join(f"{n}/{c}.avi" for n in clips for c in clips[n][10:]))
    put_images(folder / "UCF-101-midframes", [f"Apply_Eye_Makeup/{c}.jpg" for c in clips["ApplyEyeMakeup"]])
    put_images(folder / "UCF-101-midframes", [f"Biking/{c}.jpg" for c in clips["Biking"]])
    splits = source("ucf101").splits(1)
    assert splits.classnames == ["Apply_Eye_Makeup", "Biking"]
    assert numbers(splits) == (16, 4, 8)
    assert splits.test[0] == Item("Apply_Eye_Makeup/v_ApplyEyeMakeup_g10_c01.jpg", 0, "Apply_Eye_Makeup")


@pytest.fixture
def aircraft(tmp_path, put_images, put_text):
    folder = tmp_path / "fgvc_aircraft"
    put_text(folder / "variants.txt", "707-320\nBoeing 717\n")
    for split in ("train", "val", "test"):
        put_text(folder / f"images_variant_{split}.txt", f"{split}01 707-320\n{split}02 Boeing 717\n")
        put_images(folder / "images", [f"{split}01.jpg", f"{split}02.jpg"])
    return folder


def test_fgvc_aircraft(aircraft, source):
    splits = source("fgvc_aircraft").splits(1)
    assert splits.classnames == ["707-320", "Boeing 717"]
    assert splits.val == [Item("val01.jpg", 0, "707-320"), Item("val02.jpg", 1, "Boeing 717")]
    assert not list(aircraft.glob("*.json")), "the official split is not a fallback"


def test_fgvc_aircraft_with_an_unknown_variant(aircraft, source):
    (aircraft / "images_variant_val.txt").write_text("val01 A380\n")
    with pytest.raises(ValueError, match="names the variant 'A380', which variants.txt lacks"):
        source("fgvc_aircraft").splits(1)


def test_a_missing_image_of_a_list_is_named_and_no_split_is_written(tmp_path, put_images, put_text, source):
    put_images(tmp_path / "oxford_pets/images", ["a_1.jpg"])
    put_text(tmp_path / "oxford_pets/annotations/trainval.txt", "a_1 1 1 1\na_2 1 1 1")
    put_text(tmp_path / "oxford_pets/annotations/test.txt", "a_3 1 1 1")
    with pytest.raises(ValueError, match=r"2 image\(s\) named by the dataset's own lists are missing .*first is a_2.jpg"):
        source("oxford_pets").splits(1)
    assert not list((tmp_path / "oxford_pets").glob("*.json"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [("a_1 one 1 1", "invalid literal.*download them again"), ("a_1", "are not in their usual form"), ("", "no images")],
)
def test_a_list_in_another_form_is_named(tmp_path, put_images, put_text, source, line, reason):
    put_images(tmp_path / "oxford_pets/images", ["a_1.jpg"])
    put_text(tmp_path / "oxford_pets/annotations/trainval.txt", line)
    put_text(tmp_path / "oxford_pets/annotations/test.txt", "")
    with pytest.raises(ValueError, match=reason) as error:
        source("oxford_pets").splits(1)
    assert "oxford_pets" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file, truncated", b"version https://git-lfs.github.com/spec/v1"])
def test_a_broken_mat_file_is_named(tmp_path, put_images, put_text, source, content):
    put_images(tmp_path / "oxford_flowers/jpg", ["image_00001.jpg"])
    put_text(tmp_path / "oxford_flowers/cat_to_name.json", "{}")
    (tmp_path / "oxford_flowers/imagelabels.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"imagelabels.mat cannot be read .*download it again"):
        source("flowers102").splits(1)


def test_a_missing_list_is_named(tmp_path, put_images, source):
    put_images(tmp_path / "sun397/SUN397", ["a/abbey/1.jpg"])
    with pytest.raises(ValueError, match=r"the class list is missing: .*ClassName.txt does not exist"):
        source("sun397").splits(1)


def test_the_fallback_is_loud(tmp_path, put_images, source, caplog):
    put_images(tmp_path / "dtd/images", [f"banded/{i}.jpg" for i in range(10)])
    with caplog.at_level(logging.WARNING):
        source("dtd").splits(1)
        assert "split_zhou_DescribableTextures.json is missing" in caplog.text
        caplog.clear()
        source("dtd").splits(1)
        assert not caplog.text
