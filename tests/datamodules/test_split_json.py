import json
import os

import pytest

from datamodules.disk import MissingFilesError
from datamodules.fallback import ClassFolders
from datamodules.few_shot import select
from datamodules.items import Item, Splits
from datamodules.split_json import SplitJson, read_split, write_split

CONTENT = {
    "train": [["b/2.jpg", 1, "big dog"], ["a/1.jpg", 0, "cat"], ["b/1.jpg", 1, "big dog"]],
    "val": [["a/3.jpg", "0", "cat"]],
    "test": [["b/9.jpg", 1, "big dog"]],
}


@pytest.fixture
def source(tmp_path, put_images, put_text):
    put_images(tmp_path / "set" / "images", [row[0] for rows in CONTENT.values() for row in rows])
    put_text(tmp_path / "set" / "split.json", json.dumps(CONTENT))
    return SplitJson(str(tmp_path), "set", "split.json", "images")


def test_reads_in_order_with_integer_labels(source):
    splits = source.splits(seed=1)
    assert splits.train == [Item("b/2.jpg", 1, "big dog"), Item("a/1.jpg", 0, "cat"), Item("b/1.jpg", 1, "big dog")]
    assert splits.val == [Item("a/3.jpg", 0, "cat")]
    assert splits.classnames == ["cat", "big dog"]
    image = source.open(splits.test[0])
    assert (image.mode, image.size) == ("RGB", (4, 3))


def test_writes_what_it_reads(source, tmp_path):
    splits = source.splits(seed=1)
    write_split(tmp_path / "again.json", splits)
    assert read_split(tmp_path / "again.json") == splits
    text = (tmp_path / "again.json").read_text()
    assert json.loads(text) == {**CONTENT, "val": [["a/3.jpg", 0, "cat"]]}
    assert text.startswith('{\n    "train": [\n        [\n            "b/2.jpg",')


def test_images_may_lie_in_the_folder_itself(tmp_path, put_images, put_text):
    put_images(tmp_path / "set", ["cars_train/1.jpg"])
    put_text(tmp_path / "set" / "split.json", json.dumps({"train": [["cars_train/1.jpg", 0, "x"]], "val": [], "test": []}))
    source = SplitJson(str(tmp_path), "set", "split.json")
    assert source.open(source.splits(1).train[0]).mode == "RGB"


def test_missing_images_are_counted_and_the_first_is_named(source):
    (source.images / "a/1.jpg").unlink()
    (source.images / "b/9.jpg").unlink()
    with pytest.raises(MissingFilesError, match=r"2 image\(s\) named by split.json are missing .* the first is a/1.jpg") as e:
        source.splits(1)
    assert e.value.paths == ["a/1.jpg", "b/9.jpg"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"train": [["a/1.j', "is not JSON"),
        ('{"train": [], "val": []}', "it has no lists train, val, test"),
        ('{"train": [["a/1.jpg", 0]], "val": [], "test": []}', r"entry 0 of train is not \[path, label, class name\]"),
        ('{"train": [["a/1.jpg", "cat", 0]], "val": [], "test": []}', "entry 0 of train: the label is 'cat', not an integer"),
        ('{"train": [["a/1.jpg", 1, "cat"]], "val": [], "test": []}', r"labels must be 0..C-1"),
        ('{"train": [["a/1.jpg", 0, "cat"]], "val": [], "test": [["a/1.jpg", 5, "dog"]]}', "has label 5"),
    ],
)
def test_a_broken_split_file_is_named(source, text, reason):
    source.split.write_text(text)
    with pytest.raises(ValueError, match=reason) as error:
        source.splits(1)
    assert str(source.split) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_folder_and_missing_split_say_what_to_do(tmp_path, source):
    with pytest.raises(ValueError, match="folder is missing: .*/none does not exist; .*data_root=PATH"):
        SplitJson(str(tmp_path), "none", "split.json").splits(1)
    source.split.unlink()
    with pytest.raises(ValueError, match=r"split.json is missing: put it there"):
        source.splits(1)
    assert sorted(path.name for path in source.folder.iterdir()) == ["images"]


def test_a_truncated_image_is_named(source):
    path = source.images / "a/1.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"a/1.jpg cannot be decoded .*download it again"):
        source.open(Item("a/1.jpg", 0, "cat"))


def test_the_first_of_two_fallback_splits_wins(tmp_path):
    path = tmp_path / "split.json"
    first, second = Splits([Item("a", 0, "x")], [], []), Splits([Item("b", 0, "x")], [], [])
    write_split(path, first, made_with=1)
    write_split(path, second, made_with=2)
    assert read_split(path).train == first.train
    assert [p.name for p in tmp_path.iterdir()] == ["split.json"]


def test_a_fallback_that_fails_leaves_nothing(tmp_path, put_images):
    (tmp_path / "set" / "images").mkdir(parents=True)
    source = SplitJson(str(tmp_path), "set", "split.json", "images", fallback=ClassFolders())
    with pytest.raises(ValueError, match="no images found under"):
        source.splits(1)
    assert os.listdir(source.folder) == ["images"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, put_images, monkeypatch):
    put_images(tmp_path / "set" / "images", [f"cat/{i}.jpg" for i in range(4)])
    source = SplitJson(str(tmp_path), "set", "split.json", "images", fallback=ClassFolders())

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("datamodules.split_json.tempfile.mkstemp", refuse)
    with pytest.raises(ValueError, match="cannot be written .*make the folder writable"):
        source.splits(1)


def test_a_preview_writes_nothing_and_equals_what_a_run_makes(tmp_path, put_images):
    put_images(tmp_path / "set" / "images", [f"{c}/{i}.jpg" for c in ("cat", "dog") for i in range(7)])
    source = SplitJson(str(tmp_path), "set", "split.json", "images", fallback=ClassFolders())
    preview = source.preview()
    assert not source.split.exists()
    assert source.splits(1) == preview
    assert select(source.splits(1), 2, 1) == select(preview, 2, 1)
    assert select(source.splits(2), 2, 2).train != select(preview, 2, 1).train


def test_the_check_lists_folders_instead_of_files(tmp_path, monkeypatch):
    rows = [[f"c{i % 100}/{i}.jpg", i % 100, f"c{i % 100}"] for i in range(100_000)]
    split = tmp_path / "set" / "split.json"
    split.parent.mkdir()
    split.write_text(json.dumps({"train": rows, "val": [], "test": []}))
    listed = []

    def listdir(path):
        listed.append(path)
        number = int(path.name[1:])
        return [f"{i}.jpg" for i in range(number, 100_000, 100)]

    monkeypatch.setattr("datamodules.disk.os.listdir", listdir)
    assert len(SplitJson(str(tmp_path), "set", "split.json", "").splits(1).train) == 100_000
    assert len(listed) == 100
