"""Tar and parquet shards that somebody else packed."""

import io
import json
import os
import tarfile

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import few, one_sentence, refused

from datamodules import index
from datamodules.index import Listing
from datamodules.parquet import Parquet
from datamodules.readers import Folders
from datamodules.tar_shards import TarShards

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
    listed = one_sentence(TarShards(tmp_path, SPLITS).listing, "train")
    if isinstance(listed, Listing):
        assert all("train.tar cannot be read to its end: it is cut short or damaged" in line for line in listed.broken)
        assert listed.broken


@few
@given(place=st.integers(0, 4095), content=st.binary(min_size=1, max_size=40), cut=st.integers(0, 10240))
def test_any_damage_to_a_tar_is_named(tmp_path, place, content, cut):
    reader = tar(tmp_path, ("n00000001_1.png", png()), ("n00000002_1.cls", b"3"), ("n00000002_1.png", png()))
    whole = (tmp_path / "train.tar").read_bytes()
    damaged = whole[:place] + content + whole[place + len(content) :]
    (tmp_path / "train.tar").write_bytes(damaged[: cut or None])
    listed = one_sentence(reader.listing, "train")
    if isinstance(listed, Listing):
        for row in range(len(listed.label)):
            one_sentence(reader.read, reader.path(listed, row))


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
    """40 MB of labels in a file of 100 KB."""
    labels = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array(["x" * 2000]))
    images = pa.array([i.to_bytes(4, "big") for i in range(20_000)])
    listing = one_sentence(parquet(tmp_path, labels, images).listing, "train")
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
        listed = one_sentence(parquet(tmp_path, column, features=features).listing, "train")
        if isinstance(listed, Listing):
            assert all(isinstance(class_id, str) or 0 <= class_id < 10**6 for class_id in listed.ids)


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
    listed = refused(index.build_index, TarShards(tmp_path, SPLITS), ["train", "val"], lambda: ["x"])
    assert "some labels of train are numbers, others text" in listed
