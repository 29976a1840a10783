"""A user's own images: class folders without splits, and tables; those with splits are in test_class_folders.py."""

import csv
import re

import pytest
from test_class_folders import put_image
from toys import ROOT

from datamodules.own_images import OwnImages
from runs import jobs
from tools import doctor

NAMES = ["Sea gull", "house sparrow", "robin"]


@pytest.fixture
def birds(tmp_path):
    for name in ("house_sparrow", "robin", "Sea gull"):
        for i in range(10):
            put_image(tmp_path / "birds" / name / f"{i}.jpg", [i])
    return tmp_path / "birds"


def table(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_class_folders_are_divided_once_for_all_seeds(birds):
    before = contents(birds)
    splits = OwnImages("nowhere", str(birds)).splits(1)
    assert splits.classnames == NAMES
    assert [len(items) for items in (splits.train, splits.val, splits.test)] == [15, 6, 9]
    paths = {item.path for items in (splits.train, splits.val, splits.test) for item in items}
    assert len(paths) == 30
    assert OwnImages(str(birds)).splits(2) == splits
    assert OwnImages(str(birds), split_seed=2).splits(1) != splits
    assert contents(birds) == before


def test_folders_of_splits_stay(birds):
    for split in ("train", "test"):
        for name in ("a", "b"):
            put_image(birds / "all" / split / name / f"{split}.png")
    splits = OwnImages("nowhere", str(birds / "all")).splits(1)
    assert [item.path for item in splits.test] == ["test/a/test.png", "test/b/test.png"]
    assert OwnImages("nowhere", str(birds / "all")).needs == {"train": "the training images", "test": "the test images"}


def test_a_table_with_splits(birds):
    rows = [["path", "label", "split"]]
    rows += [[f"robin/{i}.jpg", "robin", split] for i, split in enumerate(["train", "train", "val", "test"])]
    rows += [[f"Sea gull/{i}.jpg", "a gull", split] for i, split in enumerate(["train", "test"])]
    splits = OwnImages("nowhere", str(table(birds / "birds.csv", rows))).splits(1)
    assert splits.classnames == ["a gull", "robin"]
    assert [item.path for item in splits.test] == ["robin/3.jpg", "Sea gull/1.jpg"]
    assert OwnImages("nowhere", str(birds / "birds.csv")).open(splits.test[0]).size == (24, 20)


def test_a_table_without_splits_is_divided(birds):
    rows = [["label", "path"], *([name, f"{name}/{i}.jpg"] for name in ("robin", "house_sparrow") for i in range(10))]
    splits = OwnImages("nowhere", str(table(birds / "birds.csv", rows))).splits(1)
    assert [len(items) for items in (splits.train, splits.val, splits.test)] == [10, 4, 6]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no row"),
        ([["file", "label"], ["robin/1.jpg", "robin"]], "the columns path and label"),
        ([["path", "label"], ["../secret.jpg", "robin"]], "line 2: the path"),
        ([["path", "label"], ["robin/99.jpg", "robin"]], "are missing under"),
        ([["path", "label"], ["robin/1.jpg", " "]], "line 2: the label is empty"),
        ([["path", "label"], ["robin/1.jpg"]], "line 2: the label is None"),
        ([["path", "label", "split"], ["robin/1.jpg", "robin", "dev"]], "give one of train, val, test"),
        ([["path", "label"], ["robin/1.jpg", "robin"], ["robin/1.jpg", "gull"]], "twice"),
        ([["path", "label"], ["robin/1.jpg", "robin"]], "has 1 images of 'robin', and a class needs 4"),
    ],
)
def test_a_wrong_table_is_one_sentence(birds, rows, said):
    path = table(birds / "birds.csv", rows)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        OwnImages("nowhere", str(path)).splits(1)
    assert "birds.csv" in str(caught.value)


def test_few_and_stray_images_are_one_sentence(birds):
    put_image(birds / "stray.jpg")
    with pytest.raises(ValueError, match="stray.jpg is in no class folder"):
        OwnImages(str(birds)).splits(1)
    (birds / "stray.jpg").unlink()
    for i in range(7):
        (birds / "robin" / f"{i}.jpg").unlink()
    with pytest.raises(ValueError, match="has 3 images of 'robin'"):
        OwnImages(str(birds)).splits(1)


def test_a_run_and_the_doctor_read_a_folder_anywhere(birds, run_here, capsys):
    result = run_here("data=folder", "clip=toy", f"folder={birds}", "shots=2", "epochs=1")
    assert result["classnames"] == NAMES
    assert len(result["selected"]["train"]) == 6
    assert result["metrics"]["test"]["images"] == 9
    assert doctor.main(["data=folder", f"folder={birds}"]) == 0
    assert str(birds) in capsys.readouterr().out


def test_a_folder_that_the_data_do_not_read_is_refused(tmp_path):
    with pytest.raises(ValueError, match="data=shapes does not read: add data=folder"):
        jobs.compose_job([f"folder={tmp_path}"], ROOT / "conf")


def test_where_a_folder_lies_does_not_change_the_digest(birds, tmp_path):
    def digest():
        return jobs.describe(*jobs.compose_job(["data=folder", "clip=tiny", f"folder={birds}"], ROOT / "conf")).digest

    first = digest()
    birds = birds.rename(tmp_path / "moved")
    assert digest() == first
    put_image(birds / "robin" / "new.jpg")
    assert digest() != first
