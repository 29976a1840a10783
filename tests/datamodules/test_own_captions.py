"""A user's own captioned images: COCO's files, and tables."""

import csv

import pytest
from caption_trees import put_images, put_json

from datamodules.own_captions import OwnCaptions
from tools import doctor


def coco(first, count):
    numbers = range(first, first + count)
    return {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in numbers],
        "annotations": [{"id": 2 * n + k, "image_id": n, "caption": f"caption {k} of {n}"} for n in numbers for k in range(2)],
    }


def table(folder, rows, head=("path", "caption")):
    put_images(folder / "images", dict.fromkeys(row[0] for row in rows))
    with (folder / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return str(folder)


def test_files_in_the_form_of_coco_without_validation_images(tmp_path):
    put_images(tmp_path / "images", [f"{n}.png" for n in range(5)])
    put_json(tmp_path / "train.json", coco(0, 3))
    put_json(tmp_path / "test.json", coco(3, 2))
    before = sorted(tmp_path.rglob("*"))
    splits = OwnCaptions("nowhere", str(tmp_path)).splits(1)
    assert [len(items) for items in (splits.train, splits.val, splits.test)] == [3, 0, 2]
    assert splits.test[0].captions == ("caption 0 of 3", "caption 1 of 3")
    assert OwnCaptions(str(tmp_path)).open(splits.test[0]).size == (8, 8)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_table_is_divided_by_its_own_seed_with_all_captions_of_an_image(tmp_path):
    folder = table(tmp_path, [(f"{n}.png", f"text {k} of {n}") for n in range(10) for k in range(3)])
    splits = OwnCaptions("nowhere", folder).splits(1)
    assert [len(items) for items in (splits.train, splits.val, splits.test)] == [5, 2, 3]
    assert OwnCaptions("nowhere", folder).splits(2) == splits
    assert OwnCaptions("nowhere", folder, split_seed=2).splits(1) != splits
    assert all(len(item.captions) == 3 for item in splits.train)


def test_a_table_says_which_images_are_for_what(tmp_path):
    rows = [("a.png", "one", "train"), ("b.png", "two", "test"), ("a.png", "three", "train")]
    splits = OwnCaptions("nowhere", table(tmp_path, rows, ("path", "caption", "split"))).splits(1)
    assert [item.captions for item in splits.train] == [("one", "three")]
    assert [item.path for item in splits.test] == ["b.png"]


@pytest.mark.parametrize(
    ("rows", "head", "message"),
    [
        ([("a.png", "x", "dev")], ("path", "caption", "split"), "line 2: the split is 'dev'"),
        ([("a.png", "x", "train"), ("a.png", "y", "test")], ("path", "caption", "split"), "is in train and in test"),
        ([("a.png", "x")], ("path", "text"), "names the columns path and caption"),
        ([("a.png", "x")], ("path", "caption"), "has 1 images, and 4 are needed"),
        ([("a.png", " ")], ("path", "caption"), "line 2: the caption"),
    ],
)
def test_a_wrong_table_is_one_sentence(tmp_path, rows, head, message):
    with pytest.raises(ValueError, match=message) as error:
        OwnCaptions("nowhere", table(tmp_path, rows, head)).splits(1)
    assert "\n" not in str(error.value)


def test_a_path_does_not_leave_the_folder(tmp_path):
    (tmp_path / "captions.csv").write_text("path,caption\n../secret.png,x\n")
    with pytest.raises(ValueError, match=r"line 2: the path"):
        OwnCaptions("nowhere", str(tmp_path)).splits(1)


def test_the_doctor_and_a_run_take_the_folder(tmp_path, run_here, capsys):
    folder = table(tmp_path / "photos", [(f"{n}.png", f"a red thing number {n}") for n in range(8)])
    assert doctor.main(["data=captions_folder", f"folder={folder}"]) == 0
    assert "4 / 1 / 3 training / validation / test images" in capsys.readouterr().out
    result = run_here("data=captions_folder", f"folder={folder}", "method=zeroshot", "output=out", "lm=tiny")
    assert result["metrics"]["captions_folder"]["images"] == 3
