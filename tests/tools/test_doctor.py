import json
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.layouts import SIZES
from tools import doctor

PATHS = {
    split: [f"{c}/{c}_{i}.jpg" for c in ("banded", "dotted") for i in numbers]
    for split, numbers in {"train": range(4), "val": range(4, 6), "test": range(6, 10)}.items()
}
LABELS = {"banded": 0, "dotted": 1}


def rows(prefix: str = "") -> dict:
    return {
        split: [[prefix + path, LABELS[path.split("/")[0]], path.split("/")[0]] for path in paths]
        for split, paths in PATHS.items()
    }


def everything(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def check(tmp_path, capsys):
    """Runs the doctor on tmp_path; it must change nothing. Returns (status, what it printed)."""

    def run(name: str, *options: str) -> tuple[int, str]:
        before = everything(tmp_path)
        status = doctor.main([f"data={name}", f"data_root={tmp_path}", *options])
        assert everything(tmp_path) == before
        return status, "".join(capsys.readouterr()).replace(f"{tmp_path}/", "")

    return run


@pytest.fixture
def dtd(tmp_path, put_images, put_text):
    folder = tmp_path / "dtd"
    put_images(folder / "images", [path for paths in PATHS.values() for path in paths])
    put_text(folder / "split_zhou_DescribableTextures.json", json.dumps(rows()))
    return folder


def test_all_is_well(dtd, check):
    status, text = check("dtd", "images=true")
    assert status == 0
    assert text.startswith("ok   dtd in dtd\n     2 classes, 8 / 4 / 8 training / validation / test images\n")
    assert "this is not the published split: it should have 47 classes, 2820 / 1128 / 1692 images" in text


def test_a_fallback_split_is_told_from_the_published_one(dtd, check):
    (dtd / "split_zhou_DescribableTextures.json").unlink()
    doctor.disk_source("dtd", doctor.OmegaConf.create(doctor.DEFAULTS | {"data_root": str(dtd.parent)})).splits(3)
    status, text = check("dtd")
    assert status == 0
    assert "split_zhou_DescribableTextures.json was made here by a fallback and is not the published split" in text


def test_missing_files_are_listed_by_folder(dtd, check):
    for name in ("banded/banded_0.jpg", "banded/banded_7.jpg", "dotted/dotted_9.jpg"):
        (dtd / "images" / name).unlink()
    status, text = check("dtd")
    assert status == 1
    assert "2 missing in dtd/images/banded: banded_0.jpg, banded_7.jpg\n     -> extract or download" in text
    assert "1 missing in dtd/images/dotted: dotted_9.jpg" in text
    limited = check("dtd", "limit=1")[1]
    assert "2 missing in dtd/images/banded: banded_0.jpg, ...\n" in limited
    assert "dotted_9" not in limited
    assert "the same in 1 more folder(s)\n     -> limit=0 lists them" in limited
    assert check("dtd", "limit=0")[1] == text


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ("images/images", "20 image(s) of dtd/images are in dtd/images/images\n     -> move the contents of dtd/images/images"),
        ("dtd/images", "move the contents of dtd/dtd/images into dtd/images"),
        ("", "move the contents of dtd into dtd/images"),
        ("pictures", "move the contents of dtd/pictures into dtd/images"),
    ],
)
def test_images_in_the_wrong_folder_are_found(dtd, check, wrong, advice):
    (dtd / "images").rename(dtd / "was")
    for path in sorted((dtd / "was").iterdir()):
        (dtd / wrong).mkdir(parents=True, exist_ok=True)
        path.rename(dtd / wrong / path.name)
    (dtd / "was").rmdir()
    status, text = check("dtd")
    assert status == 1
    assert advice in text
    assert "missing in dtd/images/" not in text, "what was found is not listed as lost"


def test_numbered_files_of_another_folder_are_not_taken_for_the_missing_ones(tmp_path, put_images, put_text, check):
    content = {"train": [["cars_train/00001.jpg", 0, "x"]], "val": [], "test": [["cars_test/00001.jpg", 0, "x"]]}
    put_text(tmp_path / "stanford_cars/split_zhou_StanfordCars.json", json.dumps(content))
    put_images(tmp_path / "stanford_cars", ["cars_train/cars_train/00001.jpg", "elsewhere/00001.jpg"])
    status, text = check("stanford_cars")
    assert status == 1
    wanted = "1 image(s) of stanford_cars/cars_train are in stanford_cars/cars_train/cars_train"
    assert wanted in text
    assert "1 missing in stanford_cars/cars_test: 00001.jpg" in text


def test_kaggle_flowers_in_class_folders(tmp_path, put_images, put_text, check):
    names = [f"image_{i:05d}.jpg" for i in range(1, 5)]
    content = {"train": [[name, 0, "primrose"] for name in names], "val": [], "test": []}
    put_text(tmp_path / "oxford_flowers/split_zhou_OxfordFlowers.json", json.dumps(content))
    put_images(tmp_path / "oxford_flowers", [f"dataset/{s}/1/{n}" for s, n in zip(("train", "valid") * 2, names, strict=True)])
    status, text = check("flowers102")
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
def test_the_folder_under_another_name(tmp_path, check, name, found, wanted):
    (tmp_path / found).mkdir()
    status, text = check(name)
    assert status == 1
    assert f"the dataset's folder {wanted} is missing\n     -> it seems to be at {found}: mv '{found}' '{wanted}'" in text


def test_nothing_at_all_says_where_it_comes_from(check):
    status, text = check("food101")
    assert status == 1
    assert "the dataset's folder food-101 is missing\n     -> download it, or set data_root=PATH" in text
    assert "# From data.vision.ee.ethz.ch" in text


def test_an_archive_left_packed(tmp_path, check):
    (tmp_path / "food-101.tar.gz").touch()
    assert "-> extract food-101.tar.gz" in check("food101")[1]
    (tmp_path / "caltech-101").mkdir()
    (tmp_path / "caltech-101/101_ObjectCategories.tar.gz").touch()
    assert "-> extract caltech-101/101_ObjectCategories.tar.gz" in check("caltech101")[1]


@pytest.mark.parametrize("outer", ["fgvc_aircraft/data", "fgvc-aircraft-2013b/data"])
def test_aircraft_whose_data_folder_was_not_renamed(tmp_path, put_images, put_text, check, outer):
    put_images(tmp_path / outer / "images", ["0034309.jpg"])
    put_text(tmp_path / outer / "variants.txt", "707-320")
    (tmp_path / "fgvc_aircraft").mkdir(exist_ok=True)
    status, text = check("fgvc_aircraft")
    assert status == 1
    assert f"the image folder fgvc_aircraft/images is missing\n     -> it seems to be at {outer}/images: mv" in text
    assert f"the class list fgvc_aircraft/variants.txt is missing\n     -> it seems to be at {outer}/variants.txt: mv" in text


@pytest.mark.parametrize("place", ["", "ILSVRC/Data/CLS-LOC/"])
def test_imagenet_with_train_and_val_elsewhere(tmp_path, put_images, check, place):
    put_images(tmp_path / "imagenet" / place, ["train/n01440764/a.JPEG", "val/n01440764/b.JPEG"])
    status, text = check("imagenet")
    assert status == 1
    for part in ("train", "val"):
        assert f"mv 'imagenet/{place}{part}' 'imagenet/images/{part}'" in text


def test_imagenet_incomplete_and_flat(tmp_path, put_images, check):
    put_images(tmp_path / "imagenet/images", ["train/n01440764/a.JPEG", "train/n01443537/a.JPEG", "val/n01440764/b.JPEG"])
    assert "1 missing in imagenet/images/val: n01443537" in check("imagenet")[1]
    put_images(tmp_path / "imagenet/images", ["val/n01443537/b.JPEG"])
    status, text = check("imagenet")
    assert status == 1
    assert "it should have 1000 classes, 1281167 / 50000 / 50000 images" in text
    assert "there is no classnames.txt: open_clip's class names are used" in text


def test_variants_unpacked_without_their_folder(tmp_path, put_images, check):
    put_images(tmp_path / "imagenet-adversarial", ["n01498041/a.jpg", "n01531178/a.jpg"])
    status, text = check("imagenet_a")
    assert status == 1
    wanted = "imagenet-adversarial: move the contents of that folder into imagenet-adversarial/imagenet-a"
    assert f"it seems to be in {wanted}" in text


def test_class_folders_without_image_folder_or_split(tmp_path, put_images, check):
    put_images(tmp_path / "eurosat", [f"{c}/{c}_{i}.jpg" for c in ("AnnualCrop", "Forest") for i in range(5)])
    status, text = check("eurosat")
    assert status == 1
    assert "the image folder eurosat/2750 is missing\n     -> it seems to be in eurosat: move the contents" in text
    assert "the published split file eurosat/split_zhou_EuroSAT.json is missing" in text
    assert "a split of its own" in text


def test_without_split_the_files_of_the_fallback_are_asked_for(tmp_path, put_images, put_text, check):
    put_images(tmp_path / "stanford_cars", ["cars_train/1.jpg"])
    put_text(tmp_path / "stanford_cars/car_devkit/devkit/cars_meta.mat", "x")
    status, text = check("stanford_cars")
    assert status == 1
    assert "the training annotations stanford_cars/devkit/cars_train_annos.mat is missing\n     -> download it" in text
    assert "mv 'stanford_cars/car_devkit/devkit/cars_meta.mat' 'stanford_cars/devkit/cars_meta.mat'" in text


def test_broken_images(dtd, check):
    first, later = dtd / "images/banded/banded_0.jpg", dtd / "images/banded/banded_1.jpg"
    first.write_bytes(first.read_bytes()[:300])
    later.write_bytes(b"")
    status, text = check("dtd")
    assert status == 1
    assert "dtd/images/banded/banded_0.jpg cannot be decoded\n     -> extract or download it again" in text
    assert "banded_1.jpg" not in text
    assert "banded_1.jpg cannot be decoded" in check("dtd", "images=true")[1]
    assert "1 more image(s) cannot be decoded\n     -> limit=0 lists them" in check("dtd", "images=true", "limit=1")[1]


def test_a_broken_split_file(dtd, check):
    (dtd / "split_zhou_DescribableTextures.json").write_text('{"train": [')
    status, text = check("dtd")
    assert status == 1
    assert "split file dtd/split_zhou_DescribableTextures.json cannot be read" in text


def test_drawn_data_need_no_files(check):
    assert check("digits") == (0, "ok   digits: needs no files\n")


def test_all_datasets_are_looked_at(dtd, check):
    status, text = check("all")
    assert status == 1
    assert f" {doctor.NOT_A_DATASET} in " not in text
    for name in set(doctor.names()) - {doctor.NOT_A_DATASET}:
        assert f" {name} in " in text or f" {name}: needs no files" in text
    assert "ok   dtd" in text
    assert set(SIZES) < set(doctor.names())


@pytest.mark.parametrize(
    ("argument", "reason"),
    [("data=dtdd", "data=dtdd is not known: use all or one of"), ("dtd", "not understood"), ("root=x", "not understood")],
)
def test_wrong_arguments(argument, reason, capsys):
    assert doctor.main([argument]) == 1
    assert reason in capsys.readouterr().err


def test_the_command(dtd):
    command = [sys.executable, "-m", "tools.doctor", "data=dtd", f"data_root={dtd.parent}"]
    done = subprocess.run(command, cwd=doctor.CONF.parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout[:9], done.stderr) == (0, "ok   dtd ", "")
    (dtd / "images/banded/banded_3.jpg").unlink()
    assert subprocess.run(command, cwd=doctor.CONF.parent, capture_output=True).returncode == 1
