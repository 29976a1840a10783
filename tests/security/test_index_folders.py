"""Indexes that lie beside the data."""

import io
import json
import os

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import few, refused

from datamodules.imagenet21k import ImageNet21K

SPLITS = {"train": "train", "val": "val"}


def png(size=(4, 3), **options) -> bytes:
    content = io.BytesIO()
    PIL.Image.new("RGB", size, (9, 8, 7)).save(content, "PNG", **options)
    return content.getvalue()


# ---- the index


@pytest.fixture
def tree(tmp_path):
    """A folder tree with its index beside it: (a new source, the index's folder)."""
    for split in ("imagenet21k_train", "imagenet21k_val"):
        for folder in ("n00005787", "n00015388"):
            (tmp_path / "set" / split / folder).mkdir(parents=True)
            (tmp_path / "set" / split / folder / "0.png").write_bytes(png())

    def source():
        return ImageNet21K(str(tmp_path), "set")

    source().splits(1)
    [index_folder] = [folder for folder in (tmp_path / "set/.index/folder").iterdir() if folder.is_dir()]
    return source, index_folder


def everything(source):
    splits = source.splits(1)
    return [source.open(item) for item in (*splits.train, *splits.test)]


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.update(classes=[1, 2]),
        lambda about: about.update(classes=["b", "a"]),
        lambda about: about.update(classes=["a"]),
        lambda about: about.update(classes="ab"),
        lambda about: about.pop("classes"),
        lambda about: about.pop("splits"),
        lambda about: about["splits"].pop("val"),
        lambda about: about.update(splits=[]),
        lambda about: about["splits"]["train"].update(shards=["/etc", "/etc"]),
        lambda about: about["splits"]["train"].update(shards=["../..", "../.."]),
        lambda about: about["splits"]["train"].update(shards=["a"]),
        lambda about: about["splits"]["train"].update(shards=7),
        lambda about: about["splits"]["train"].update(broken=[7]),
        lambda about: about["splits"]["train"].update(broken=["\x1b[2J"]),
    ],
)
def test_an_index_that_came_with_the_data_is_checked(tree, change):
    source, index_folder = tree
    about = json.loads((index_folder / "index.json").read_text())
    change(about)
    (index_folder / "index.json").write_text(json.dumps(about))
    assert f"the index {index_folder} cannot be read" in refused(source().splits, 1)


def objects(path):
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)


def archive(path):
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(2))


def pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("label", np.array([0, 7], np.int32)),
        ("label", np.array([0, -1], np.int32)),
        ("label", np.array([0.0, 1.0])),
        ("label", np.zeros((2, 2), np.int32)),
        ("label", np.zeros(0, np.int32)),
        ("label", np.zeros(9, np.int32)),
        ("label", objects),
        ("label", archive),
        ("label", pipe),
        ("shard", np.array([0, 9], np.int32)),
        ("shard", np.array([0, -1], np.int32)),
        ("size", np.array([10**15, 10**15])),
        ("size", np.array([-1, -1])),
        ("offset", np.array([-5, 10**15])),
        ("text", np.frombuffer(b"../../..", np.uint8)),
        ("text", np.frombuffer(b"....x.png", np.uint8)),
    ],
)
def test_the_arrays_of_an_index_are_checked(tree, name, content):
    source, index_folder = tree
    path = index_folder / f"imagenet21k_train-{name}.npy"
    path = path if path.exists() else index_folder / f"train-{name}.npy"
    content(path) if callable(content) else np.save(path, content)
    refused(everything, source())


def test_any_bytes_as_an_index(tree):
    source, index_folder = tree

    @few
    @given(content=st.binary(max_size=60))
    def check(content):
        (index_folder / "index.json").write_bytes(content)
        refused(source().splits, 1)

    check()


def test_building_an_index_removes_nothing_but_indexes(tmp_path, tree):
    """A link in a packed tree may lead where a user keeps other things."""
    source, index_folder = tree
    home = tmp_path / "home"
    (home / "0123456789abcdef").mkdir(parents=True)
    (home / "0123456789abcdef" / "thesis.txt").write_text("years")
    (home / "photos").mkdir()
    for folder in index_folder.parent.iterdir():
        (home / folder.name).mkdir() if folder.is_dir() else None
    os.rename(index_folder.parent, tmp_path / "away")
    (tmp_path / "set/.index/folder").symlink_to(home)
    (tmp_path / "set/imagenet21k_train/n00005787/1.png").write_bytes(png())
    source().splits(1)
    assert (home / "photos").is_dir()
    assert (home / "0123456789abcdef" / "thesis.txt").read_text() == "years"
    assert not (home / index_folder.name).exists(), "an older index goes"


def test_a_lock_that_is_a_link_empties_nothing(tmp_path, tree):
    source, index_folder = tree
    (tmp_path / "precious").write_text("years")
    (index_folder.parent / ".lock").unlink(missing_ok=True)
    (index_folder.parent / ".lock").symlink_to(tmp_path / "precious")
    (tmp_path / "set/imagenet21k_train/n00005787/1.png").write_bytes(png())
    assert "is a link: remove it" in refused(source().splits, 1)
    assert (tmp_path / "precious").read_text() == "years"
