"""Folders of images that somebody else packed: shards, indexes beside the data, class lists, MATLAB files, images."""

import io
import json
import os
import tarfile
import zlib
from collections import OrderedDict

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import few, one_sentence, refused
from scipy.io import savemat

from datamodules import index
from datamodules.aircraft import Aircraft
from datamodules.disk import open_rgb
from datamodules.fallback import ClassFolders, Flowers
from datamodules.hub import HubSource
from datamodules.imagenet21k import ImageNet21K, tree_names
from datamodules.index import Listing
from datamodules.items import Splits
from datamodules.mat import load_mat
from datamodules.parquet import Parquet
from datamodules.readers import Folders, TarShards
from datamodules.split_json import SplitJson
from datamodules.transforms import eval_transform

SPLITS = {"train": "train", "val": "val"}


def png(size=(4, 3), **options) -> bytes:
    content = io.BytesIO()
    PIL.Image.new("RGB", size, (9, 8, 7)).save(content, "PNG", **options)
    return content.getvalue()


# ---- tar shards


def tar(folder, *members, **headers):
    with tarfile.open(folder / "train.tar", "w", **headers) as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return TarShards(folder, SPLITS)


@pytest.mark.parametrize(
    ("extension", "label"),
    [
        ("cls", b"1" + b"0" * 100_000),
        ("cls", b"1000000000"),
        ("cls", b"-1\x00"),
        ("cls", b"\xff\xfe"),
        ("cls", b""),
        ("cls", b"a" * 20_000),
        ("cls", b"a" * 2_000_000),
        ("cls", b"\x1b[2J"),
        ("json", b"[" * 100_000),
        ("json", b'{"label": 0.7}'),
        ("json", b'{"label": true}'),
        ("json", b'{"label": [1]}'),
        ("json", b'{"label": {"a": 1}}'),
        ("json", b'{"label": 1' + b"0" * 5000 + b"}"),
        ("json", b'{"label": -5}'),
        ("json", b"[1]"),
        ("json", b"\xff"),
    ],
)
def test_labels_in_tar_shards_are_numbers_or_ids(tmp_path, extension, label):
    assert "train.tar" in refused(tar(tmp_path, (f"0.{extension}", label), ("0.png", png())).listing, "train")


def header(**changes) -> bytes:
    member = tarfile.TarInfo("n00000001.png")
    for key, value in changes.items():
        setattr(member, key, value)
    return member.tobuf(tarfile.GNU_FORMAT)


def pax(text: str, size: int | None = None, kind: bytes = tarfile.XHDTYPE) -> bytes:
    body = text.encode()
    return header(type=kind, size=len(body) if size is None else size) + body + bytes(-len(body) % 512)


RECORDS = "".join(f"{len(str(i)) + 10 + 3} k{i}=abcdef\n" for i in range(2000))
HEADERS = {
    "a pax header of a claimed size": pax("", 2**40),
    "a long name of a claimed size": header(type=tarfile.GNUTYPE_LONGNAME, size=2**40),
    "a negative size": header(size=-1024) + header(),
    "a negative size in pax": pax("14 size=-1024\n") + header() + header(),
    "headers within headers": pax("6 a=b\n") * 5000 + header(),
    "no number": header().replace(b"00000000000\x00", b"zzzzzzzzzzz\x00"),
    "a sparse file": header(type=tarfile.GNUTYPE_SPARSE, size=512) + bytes(512),
    "many global headers": pax(RECORDS, kind=tarfile.XGLTYPE) + header(),
    "cut": header(size=5000) + bytes(100),
    "a cut header": header()[:300],
    "nothing": b"",
    "something else": b"not a tar" * 1000,
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_tar_shards_neither_hang_nor_fill_the_memory(tmp_path, name):
    (tmp_path / "train.tar").write_bytes(HEADERS[name])
    found = one_sentence(TarShards(tmp_path, SPLITS).listing, "train")
    if isinstance(found, Listing):
        assert all("train.tar cannot be read to its end: it is cut short or damaged" in line for line in found.broken)
        assert found.broken


@few
@given(place=st.integers(0, 4095), content=st.binary(min_size=1, max_size=40), cut=st.integers(0, 10240))
def test_any_damage_to_a_tar_is_named(tmp_path, place, content, cut):
    reader = tar(tmp_path, ("n00000001_1.png", png()), ("n00000002_1.cls", b"3"), ("n00000002_1.png", png()))
    whole = (tmp_path / "train.tar").read_bytes()
    damaged = whole[:place] + content + whole[place + len(content) :]
    (tmp_path / "train.tar").write_bytes(damaged[: cut or None])
    found = one_sentence(reader.listing, "train")
    if isinstance(found, Listing):
        for row in range(len(found.label)):
            one_sentence(reader.read, reader.path(found, row))


def test_a_pipe_among_shards(tmp_path):
    os.mkfifo(tmp_path / "train.tar")
    os.mkfifo(tmp_path / "train.parquet")
    assert "train.tar is a pipe" in refused(TarShards(tmp_path, SPLITS).listing, "train")
    assert "train.parquet is a pipe" in refused(Parquet(tmp_path, SPLITS).stamp)


# ---- parquet


def parquet(folder, labels, images=None, features=None, **options):
    images = images or pa.array([{"bytes": b"1", "path": None}] * len(labels))
    table = pa.table({"image": images, "label": labels})
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": features if isinstance(features, str) else json.dumps(features)})
    pq.write_table(table, folder / "train.parquet", **options)
    return Parquet(folder, SPLITS)


def named(**label):
    return {"info": {"features": {"label": {"_type": "ClassLabel"} | label}}}


@pytest.mark.parametrize(
    ("labels", "features"),
    [
        (pa.array([0.0, 1.0]), None),
        (pa.array([0.7, 1.0]), None),
        (pa.array([True, False]), None),
        (pa.array([[0], [1]]), None),
        (pa.array([{"a": 1}]), None),
        (pa.array([None, 1]), None),
        (pa.array([0, -5]), None),
        (pa.array([0, 10**9]), None),
        (pa.array([2**63], pa.uint64()), None),
        (pa.array(["a", "b\x1b[2J"]), None),
        (pa.array(["a", ""]), None),
        (pa.array(["a", "x" * 20_000]), None),
        (pa.array([0, 5]), named(names=["a", "b"])),
        (pa.array([0, -1]), named(names=["a", "b"])),
        (pa.array([0, -2]), named(names=["a", "b"])),
        (pa.array([0, 1]), named(names=["a", 7])),
        (pa.array([0, 1]), named(names=["a", "b\n"])),
        (pa.array([0, 1]), named(names={"a": 1})),
        (pa.array([0, 1]), "[" * 100_000),
    ],
)
def test_labels_in_parquet_are_numbers_or_ids(tmp_path, labels, features):
    assert "train.parquet" in refused(parquet(tmp_path, labels, features=features).listing, "train")


def test_class_names_in_parquet_are_not_read_from_another_file(tmp_path):
    (tmp_path / "secret").write_text("one\ntwo\n")
    features = named(names_file=str(tmp_path / "secret"))
    assert parquet(tmp_path, pa.array([0, 1]), features=features).listing("train").ids == [0, 1]


def test_a_million_equal_texts_are_one(tmp_path):
    """40 MB of text in a file of 200 bytes."""
    labels = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array(["x" * 2000]))
    listing = one_sentence(parquet(tmp_path, labels, pa.array([b"1"] * 20_000)).listing, "train")
    assert listing.ids == ["x" * 2000]


def test_a_row_group_that_unpacks_to_much_is_refused(tmp_path, monkeypatch):
    from datamodules import parquet as module

    reader = parquet(tmp_path, pa.array(["a"] * 1250), pa.array([bytes(20_000)] * 1250))
    assert (tmp_path / "train.parquet").stat().st_size < 100_000
    monkeypatch.setattr(module, "MAX_GROUP_BYTES", 20 * 2**20)
    assert "unpacks to more than" in refused(reader.read, "train.parquet#0#0")


@pytest.mark.parametrize("value", [pa.array([None], pa.binary()), pa.array(["text"]), pa.array([1]), pa.array([b""])])
def test_images_in_parquet_are_bytes(tmp_path, value):
    assert "holds no image" in refused(parquet(tmp_path, pa.array(["a"]), value).read, "train.parquet#0#0")


VALUE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@few
@given(labels=st.lists(VALUE, min_size=1, max_size=3) | st.lists(st.integers(-2, 5), min_size=1, max_size=9))
def test_any_label_column_is_read_or_refused(tmp_path, labels):
    try:
        column = pa.array(labels)
    except (pa.ArrowException, OverflowError, UnicodeError, TypeError):
        return
    for features in (None, named(names=["a", "b", "c"])):
        found = one_sentence(parquet(tmp_path, column, features=features).listing, "train")
        if isinstance(found, Listing):
            assert all(isinstance(each, str) or 0 <= each < 10**6 for each in found.ids)


# ---- the index


@pytest.fixture
def tree(tmp_path):
    """A folder tree with its index beside it: (a new source, the index's folder)."""
    for split in ("imagenet21k_train", "imagenet21k_val"):
        for each in ("n00005787", "n00015388"):
            (tmp_path / "set" / split / each).mkdir(parents=True)
            (tmp_path / "set" / split / each / "0.png").write_bytes(png())

    def source():
        return ImageNet21K(str(tmp_path), "set")

    source().splits(1)
    [kept] = [each for each in (tmp_path / "set/.index/folder").iterdir() if each.is_dir()]
    return source, kept


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
    source, kept = tree
    about = json.loads((kept / "index.json").read_text())
    change(about)
    (kept / "index.json").write_text(json.dumps(about))
    assert f"the index {kept} cannot be read" in refused(source().splits, 1)


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
    source, kept = tree
    path = kept / f"imagenet21k_train-{name}.npy"
    path = path if path.exists() else kept / f"train-{name}.npy"
    content(path) if callable(content) else np.save(path, content)
    refused(everything, source())


def test_any_bytes_as_an_index(tree):
    source, kept = tree

    @few
    @given(content=st.binary(max_size=60))
    def check(content):
        (kept / "index.json").write_bytes(content)
        refused(source().splits, 1)

    check()


def test_building_an_index_removes_nothing_but_indexes(tmp_path, tree):
    """A link in a packed tree may lead where a user keeps other things."""
    source, kept = tree
    home = tmp_path / "home"
    (home / "0123456789abcdef").mkdir(parents=True)
    (home / "0123456789abcdef" / "thesis.txt").write_text("years")
    (home / "photos").mkdir()
    for each in kept.parent.iterdir():
        (home / each.name).mkdir() if each.is_dir() else None
    os.rename(kept.parent, tmp_path / "away")
    (tmp_path / "set/.index/folder").symlink_to(home)
    (tmp_path / "set/imagenet21k_train/n00005787/1.png").write_bytes(png())
    source().splits(1)
    assert (home / "photos").is_dir()
    assert (home / "0123456789abcdef" / "thesis.txt").read_text() == "years"
    assert not (home / kept.name).exists(), "an older index goes"


def test_a_lock_that_is_a_link_empties_nothing(tmp_path, tree):
    source, kept = tree
    (tmp_path / "precious").write_text("years")
    (kept.parent / ".lock").unlink(missing_ok=True)
    (kept.parent / ".lock").symlink_to(tmp_path / "precious")
    (tmp_path / "set/imagenet21k_train/n00005787/1.png").write_bytes(png())
    assert "is a link: remove it" in refused(source().splits, 1)
    assert (tmp_path / "precious").read_text() == "years"


def test_a_name_in_shards_that_others_write(tmp_path):
    reader = TarShards(tmp_path, SPLITS)
    tar(tmp_path, ("n00000001.png", png()))
    for place in ("-5+10", "0+-1", f"0+{10**15}"):
        assert "train.tar" in refused(reader.read, f"train.tar:{place}")
    assert "no file" in refused(
        Folders(tmp_path, SPLITS).path,
        Listing(["a"], np.zeros(1, int), np.zeros(1, int), np.array([2]), np.zeros(1), ["a"], np.frombuffer(b"..", np.uint8)),
        0,
    )


def test_numbers_and_names_as_labels_are_not_mixed(tmp_path):
    for split in ("train", "val"):
        tar(tmp_path, ("0.cls", b"0"), ("0.png", b"1"), ("1.cls", b"a"), ("1.png", b"1"))
        os.rename(tmp_path / "train.tar", tmp_path / f"{split}-1.tar")
    found = refused(index.build, TarShards(tmp_path, SPLITS), ["train", "val"], lambda: ["x"])
    assert "some labels of train are numbers, others text" in found


# ---- class lists


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
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


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


# ---- images


def test_a_decompression_bomb_is_one_sentence(tmp_path):
    chunk = b"IHDR" + (100_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    path = tmp_path / "bomb.jpg"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big"))
    assert "bomb" in refused(open_rgb, path)


def test_postscript_is_not_handed_to_ghostscript(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("a program was started"))
    path = tmp_path / "x.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    assert "cannot be decoded" in refused(open_rgb, path)


# ---- through the hub's library


@pytest.fixture
def hub(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def make(labels, images=None) -> HubSource:
        (tmp_path / "repo").mkdir()
        images = images or [{"bytes": png(), "path": None}] * len(labels)
        table = pa.table({"image": images, "label": labels})
        about = {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "Value", "dtype": str(labels.type)}}}}
        if not pa.types.is_nested(labels.type):
            table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
        pq.write_table(table, tmp_path / "repo/test.parquet")
        return HubSource(str(tmp_path / "repo"), train=None, test="test")

    return make


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([0.7, 1.0]),
        pa.array([True, False]),
        pa.array([None, 1]),
        pa.array([1, None]),
        pa.array(["a", None]),
        pa.array([[1], [2]]),
        pa.array(["a", "b\x1b[2J"]),
        pa.array(["a", "  "]),
    ],
)
def test_labels_of_hub_data_are_numbers_or_text(hub, labels):
    refused(hub(labels).splits, 1)


def test_images_of_hub_data_are_the_datasets_own(hub, tmp_path):
    (tmp_path / "private.png").write_bytes(png())
    os.mkfifo(tmp_path / "repo-pipe")
    wrong = [str(tmp_path / "private.png"), "http://127.0.0.1:9/x.png", str(tmp_path / "repo/../private.png")]
    good = {"bytes": png(), "path": "/etc/passwd"}  # the path is a remark where there are bytes
    source = hub(pa.array(["a"] * 4), pa.array([{"bytes": None, "path": path} for path in wrong] + [good]))
    items = source.splits(1).test
    for item in items[:3]:
        assert "is not the dataset's own" in refused(source.open, item)
    assert source.open(items[3]).size == (4, 3)
    assert isinstance(source.splits(1), Splits)


@pytest.mark.parametrize("size", [(200_000, 1), (1, 200_000)])
def test_an_image_that_is_a_line(size):
    """Resized whole, a kilobyte would take 30 GB."""
    image = PIL.Image.new("RGB", size, (9, 8, 7))
    image.paste((200, 100, 0), (size[0] // 2 - 40, size[1] // 2 - 40, size[0] // 2 + 40, size[1] // 2 + 40))
    found = one_sentence(eval_transform(224, (0, 0, 0), (1, 1, 1)), image)
    assert found.shape == (3, 224, 224)
    assert found[0].min() > 0.7  # the middle


def test_more_rows_than_bytes(tmp_path):
    """Twelve kilobytes of millions of equal rows take ten seconds and a gigabyte to list."""
    same = np.zeros(100_000, np.int32)
    image = pa.DictionaryArray.from_arrays(pa.array(same), [b"x"])
    pq.write_table(pa.table({"label": same, "image": image}), tmp_path / "train.parquet")
    assert "100,000 rows in" in refused(Parquet(tmp_path, SPLITS).listing, "train")


def test_a_label_that_unpacks_to_much(tmp_path):
    """Forty kilobytes could be a text of a gigabyte, which pyarrow and Python each hold several times."""
    table = pa.table({"label": ["a" * (300 * 2**20)], "image": [b"x" * 100]})
    pq.write_table(table, tmp_path / "train.parquet", compression="zstd")
    assert "unpack to too much" in refused(Parquet(tmp_path, SPLITS).listing, "train")
