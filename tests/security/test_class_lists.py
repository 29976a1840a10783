"""Class lists and MATLAB files made by somebody else."""

import json
import os
import zlib
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import few, one_sentence, png, refused
from scipy.io import savemat

from datamodules.aircraft import Aircraft
from datamodules.fallback import ClassFolders, Flowers
from datamodules.imagenet21k import tree_names
from datamodules.mat import load_mat
from datamodules.split_json import SplitJson


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, "[]", '{"n00005787": 5}', '{"n00005787": null}', '{"n00005787": "a\\u001b"}', '{"n1": ["a"]}', "{"],
)
def test_the_kept_names_of_a_release_are_checked(tmp_path, content):
    (tmp_path / "imagenet21k_miil_tree.json").write_text(content)
    assert "imagenet21k_miil_tree.json" in refused(tree_names, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"x" * 100, {"class_description": {"n1": 5}}, {"class_description": torch.zeros(2)}, {1: 2}]
)
def test_the_tree_of_a_release_is_checked(tmp_path, content):
    path = tmp_path / "imagenet21k_miil_tree.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    assert "imagenet21k_miil_tree.pth" in refused(tree_names, tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == [path.name]


def test_a_tree_that_unpacks_to_much(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "imagenet21k_miil_tree.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(80 * 2**20))
    assert "unpacks to more than" in str(pytest.raises(ValueError, tree_names, tmp_path).value)


@pytest.mark.parametrize("new", [True, False])
def test_the_tree_of_a_release_holds_plain_data(tmp_path, new):
    content = {"class_description": OrderedDict(n1="a", n2="b"), "tree": [("n1", 1), (1.5, True, None, ("n2",), (1, 2, 3, 4))]}
    torch.save(content, tmp_path / "imagenet21k_miil_tree.pth", _use_new_zipfile_serialization=new)
    assert tree_names(tmp_path, keep=False) == {"n1": "a", "n2": "b"}


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02}(K\x01K\x01\x86q\x01" + b"h\x01h\x01\x86q\x01" * 40 + b"K\x01u.",  # its hash takes a day
        b"\x80\x02c__builtin__\nbytearray\n\x8a\x06\x00\x00\x00\x00\x02\x00\x85R.",  # 8 GB
        b"\x80\x02ccollections\nOrderedDict\n](]K\x01a]K\x02ae\x85R.",
        b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00a\x85R.",
    ],
    ids=["tuples", "bytearray", "call", "code"],
)
def test_a_tree_that_hangs_or_fills_the_memory(tmp_path, pickled):
    import zipfile

    with zipfile.ZipFile(tmp_path / "imagenet21k_miil_tree.pth", "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", "3\n")
    assert "is not read" in refused(tree_names, tmp_path)


def test_names_of_a_release_do_not_follow_a_link(tmp_path):
    torch.save({"class_description": {"n1": "a"}}, tmp_path / "imagenet21k_miil_tree.pth")
    (tmp_path / "precious").write_text("years")
    (tmp_path / f".imagenet21k_miil_tree.{os.getpid()}").symlink_to(tmp_path / "precious")
    assert tree_names(tmp_path) == {"n1": "a"}
    assert (tmp_path / "precious").read_text() == "years"


def test_lists_of_text_do_not_lead_out_of_the_image_folder(tmp_path):
    (tmp_path / "set/images").mkdir(parents=True)
    (tmp_path / "outside.jpg").write_bytes(png())
    for split in ("train", "val", "test"):
        (tmp_path / f"set/images_variant_{split}.txt").write_text("../../outside plane\n")
    (tmp_path / "set/variants.txt").write_text("plane\n")
    assert "leads out of its folder" in refused(Aircraft(str(tmp_path), "set", "images").splits, 1)


# ---- MATLAB files


def mat(path, array, **options):
    savemat(path, {"labels": array}, **options)
    return path


def test_matlab_files_do_not_claim_more_than_they_hold(tmp_path):
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = "a", "b"
    path = mat(tmp_path / "x.mat", cells)
    assert list(load_mat(path, "the labels", "labels")) == ["a", "b"]
    content = bytearray(path.read_bytes())
    place = content.index((2).to_bytes(4, "little"), content.index((1).to_bytes(4, "little"), 128 + 24))
    content[place : place + 4] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(content)
    assert "claim more than" in refused(load_mat, path, "the labels", "labels")


def test_matlab_files_do_not_unpack_to_much(tmp_path):
    whole = mat(tmp_path / "x.mat", np.zeros((1, 8))).read_bytes()
    bomb = zlib.compress(bytes(80 * 2**20))
    (tmp_path / "x.mat").write_bytes(whole[:128] + (15).to_bytes(4, "little") + len(bomb).to_bytes(4, "little") + bomb)
    assert "unpacks to more than" in str(pytest.raises(ValueError, load_mat, tmp_path / "x.mat", "labels", "labels").value)


@few
@given(place=st.integers(0, 400), content=st.binary(min_size=1, max_size=8), packed=st.booleans())
def test_any_damage_to_a_matlab_file(tmp_path, place, content, packed):
    path = mat(tmp_path / "x.mat", np.array([[1, 2, 3]], np.uint8), do_compression=packed)
    whole = path.read_bytes()
    path.write_bytes((whole[:place] + content + whole[place + len(content) :])[: len(whole)])
    one_sentence(load_mat, path, "the labels", "labels")


@pytest.mark.parametrize("labels", [[[0.7, 1]], [[-3, 1]], [["a", "b"]], [[10**9, 1]]])
def test_labels_from_matlab_are_integers(tmp_path, labels):
    (tmp_path / "set/jpg").mkdir(parents=True)
    for i in (1, 2):
        (tmp_path / f"set/jpg/image_{i:05d}.jpg").write_bytes(png())
    (tmp_path / "set/cat_to_name.json").write_text(json.dumps({str(label): "x" for label in (*range(-5, 5), 10**9)}))
    mat(tmp_path / "set/imagelabels.mat", np.array(labels))
    source = SplitJson(str(tmp_path), "set", "split.json", "jpg", fallback=Flowers())
    refused(source.splits, 1)
    assert not source.split.exists()


def test_a_folder_with_a_hostile_name_is_not_stored(tmp_path):
    (tmp_path / "set/images/a\x1b[2Jb").mkdir(parents=True)
    (tmp_path / "set/images/a\x1b[2Jb/x.jpg").write_bytes(png())
    source = SplitJson(str(tmp_path), "set", "split.json", "images", fallback=ClassFolders())
    assert "control character" in refused(source.splits, 1)
    assert not source.split.exists()
