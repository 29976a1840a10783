"""tools.doctor's advice where images, lists and archives are in the wrong folder."""

import json

import pytest


def test_numbered_files_of_another_folder_are_not_taken_for_the_missing_ones(tmp_path, put_images, put_text, run_doctor):
    content = {"train": [["cars_train/00001.jpg", 0, "x"]], "val": [], "test": [["cars_test/00001.jpg", 0, "x"]]}
    put_text(tmp_path / "stanford_cars/split_zhou_StanfordCars.json", json.dumps(content))
    put_images(tmp_path / "stanford_cars", ["cars_train/cars_train/00001.jpg", "elsewhere/00001.jpg"])
    status, text = run_doctor("stanford_cars")
    assert status == 1
    wanted = "1 image(s) of stanford_cars/cars_train are in stanford_cars/cars_train/cars_train"
    assert wanted in text
    assert "1 missing in stanford_cars/cars_test: 00001.jpg" in text


def test_kaggle_flowers_in_class_folders(tmp_path, put_images, put_text, run_doctor):
    names = [f"image_{i:05d}.jpg" for i in range(1, 5)]
    content = {"train": [[name, 0, "primrose"] for name in names], "val": [], "test": []}
    put_text(tmp_path / "oxford_flowers/split_zhou_OxfordFlowers.json", json.dumps(content))
    put_images(tmp_path / "oxford_flowers", [f"dataset/{s}/1/{n}" for s, n in zip(("train", "valid") * 2, names, strict=True)])
    status, text = run_doctor("flowers102")
    assert status == 1
    for part in ("train", "valid"):
        folder = f"oxford_flowers/dataset/{part}/1"
        assert f"2 image(s) of oxford_flowers/jpg are in {folder}\n     -> move the contents of {folder}" in text
    assert "download" not in text.lower()


@pytest.mark.parametrize(
    ("name", "found", "wanted"),
    [
        ("flowers102", "flowers-102", "oxford_flowers"),
        ("oxford_pets", "oxford-iiit-pet", "oxford_pets"),
        ("caltech101", "caltech101", "caltech-101"),
        ("sun397", "SUN397", "sun397"),
        ("eurosat", "EuroSAT", "eurosat"),
        ("fgvc_aircraft", "fgvc-aircraft-2013b", "fgvc_aircraft"),
        ("imagenet_a", "imagenet-a", "imagenet-adversarial"),
        ("imagenet", "ILSVRC2012", "imagenet"),
    ],
)
def test_the_folder_under_another_name(tmp_path, run_doctor, name, found, wanted):
    (tmp_path / found).mkdir()
    status, text = run_doctor(name)
    assert status == 1
    assert f"the dataset's folder {wanted} is missing\n     -> it seems to be at {found}: mv '{found}' '{wanted}'" in text


def test_nothing_at_all_says_where_it_comes_from(run_doctor):
    status, text = run_doctor("food101")
    assert status == 1
    assert "the dataset's folder food-101 is missing\n     -> download it, or set data_root=PATH" in text
    assert "# From data.vision.ee.ethz.ch" in text


def test_an_archive_left_packed(tmp_path, run_doctor):
    (tmp_path / "food-101.tar.gz").touch()
    assert "-> extract food-101.tar.gz" in run_doctor("food101")[1]
    (tmp_path / "caltech-101").mkdir()
    (tmp_path / "caltech-101/101_ObjectCategories.tar.gz").touch()
    assert "-> extract caltech-101/101_ObjectCategories.tar.gz" in run_doctor("caltech101")[1]


@pytest.mark.parametrize("outer", ["fgvc_aircraft/data", "fgvc-aircraft-2013b/data"])
def test_aircraft_whose_data_folder_was_not_renamed(tmp_path, put_images, put_text, run_doctor, outer):
    put_images(tmp_path / outer / "images", ["0034309.jpg"])
    put_text(tmp_path / outer / "variants.txt", "707-320")
    (tmp_path / "fgvc_aircraft").mkdir(exist_ok=True)
    status, text = run_doctor("fgvc_aircraft")
    assert status == 1
    assert f"the image folder fgvc_aircraft/images is missing\n     -> it seems to be at {outer}/images: mv" in text
    assert f"the class list fgvc_aircraft/variants.txt is missing\n     -> it seems to be at {outer}/variants.txt: mv" in text


@pytest.mark.parametrize("place", ["", "ILSVRC/Data/CLS-LOC/"])
def test_imagenet_with_train_and_val_elsewhere(tmp_path, put_images, run_doctor, place):
    put_images(tmp_path / "imagenet" / place, ["train/n01440764/a.JPEG", "val/n01440764/b.JPEG"])
    status, text = run_doctor("imagenet")
    assert status == 1
    for part in ("train", "val"):
        assert f"mv 'imagenet/{place}{part}' 'imagenet/images/{part}'" in text


def test_imagenet_incomplete_and_flat(tmp_path, put_images, run_doctor):
    put_images(tmp_path / "imagenet/images", ["train/n01440764/a.JPEG", "train/n01443537/a.JPEG", "val/n01440764/b.JPEG"])
    assert "1 missing in imagenet/images/val: n01443537" in run_doctor("imagenet")[1]
    put_images(tmp_path / "imagenet/images", ["val/n01443537/b.JPEG"])
    status, text = run_doctor("imagenet")
    assert status == 1
    assert "it should have 1000 classes, 1281167 / 50000 / 50000 images" in text
    assert "there is no classnames.txt: open_clip's class names are used" in text


def test_variants_unpacked_without_their_folder(tmp_path, put_images, run_doctor):
    put_images(tmp_path / "imagenet-adversarial", ["n01498041/a.jpg", "n01531178/a.jpg"])
    status, text = run_doctor("imagenet_a")
    assert status == 1
    wanted = "imagenet-adversarial: move the contents of that folder into imagenet-adversarial/imagenet-a"
    assert f"it seems to be in {wanted}" in text


def test_class_folders_without_image_folder_or_split(tmp_path, put_images, run_doctor):
    put_images(tmp_path / "eurosat", [f"{c}/{c}_{i}.jpg" for c in ("AnnualCrop", "Forest") for i in range(5)])
    status, text = run_doctor("eurosat")
    assert status == 1
    assert "the image folder eurosat/2750 is missing\n     -> it seems to be in eurosat: move the contents" in text
    assert "the published split file eurosat/split_zhou_EuroSAT.json is missing" in text
    assert "a split of its own" in text


def test_without_split_the_files_of_the_fallback_are_asked_for(tmp_path, put_images, put_text, run_doctor):
    put_images(tmp_path / "stanford_cars", ["cars_train/1.jpg"])
    put_text(tmp_path / "stanford_cars/car_devkit/devkit/cars_meta.mat", "x")
    status, text = run_doctor("stanford_cars")
    assert status == 1
    assert "the training annotations stanford_cars/devkit/cars_train_annos.mat is missing\n     -> download it" in text
    assert "mv 'stanford_cars/car_devkit/devkit/cars_meta.mat' 'stanford_cars/devkit/cars_meta.mat'" in text
