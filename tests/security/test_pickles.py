"""CoOp's pickles of image lists that somebody else made: refused in one sentence, or read as plain data."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import few, one_sentence, refused

from datamodules import pickles
from datamodules.items import Item


def pickled(*opcodes: bytes) -> bytes:
    return b"\x80\x04" + b"".join(opcodes) + b"."


def text(value: str) -> bytes:
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def datum(**attributes: bytes) -> bytes:
    state = b"}(" + b"".join(text(f"_{key}") + value for key, value in attributes.items()) + b"u"
    return b"cdassl.data\nDatum\n)\x81" + state + b"b"


def number(value: int) -> bytes:
    content = value.to_bytes(16, "little", signed=True)
    return b"\x8a\x10" + content


def train(*items: bytes) -> bytes:
    return pickled(b"}", text("train"), b"](", *items, b"es")


GOOD = {"impath": text("/d/images/a.jpg"), "label": b"K\x00", "classname": text("cat")}
BOMBS = {
    "sums of tuples as a key": pickled(b"}", b")", b"2\x86" * 60, b"Ns"),
    "nested tuples as a key": pickled(b"}", b")", b"\x85" * 500_000, b"Ns"),
    "nested lists": pickled(b"]" * 50_000, b"a" * 49_999),
    "a list of itself": pickled(b"}", text("train"), b"]\x94h\x00as"),
    "a huge memo": pickled(b"Nr\xff\xff\xff\x0f"),
    "bytes of a claimed size": pickled(b"\x8e" + struct.pack("<Q", 2**40)),
    "a bytearray of a claimed size": pickled(b"\x96" + struct.pack("<Q", 2**40)),
    "text of a claimed size": pickled(b"\x8d" + struct.pack("<Q", 2**62)),
    "a frame of a claimed size": pickled(b"\x95" + struct.pack("<Q", 2**62)),
    "a set": pickled(b"\x8f"),
    "an extension": pickled(b"\x82\x01"),
    "an outside object": pickled(text("a"), b"Q"),
    "a call": pickled(b"cdassl.data\nDatum\n)R"),
    "the class itself": train(b"cdassl.data\nDatum\n"),
    "a number": train(b"K\x01"),
    "another dict": pickled(b"}K\x01K\x02s"),
    "nothing": pickled(b""),
    "cut": train(datum(**GOOD))[:-9],
}


@pytest.mark.parametrize("name", BOMBS)
def test_pickles_neither_hang_nor_fill_the_memory(tmp_path, name):
    (tmp_path / "x.pkl").write_bytes(BOMBS[name])
    assert "is refused" in refused(pickles.read_item_lists, tmp_path / "x.pkl", "images")


@pytest.mark.parametrize(
    "changes",
    [
        {"impath": text("/d/images/../../etc/passwd")},
        {"impath": text("/d/images//etc/passwd")},
        {"impath": b"K\x01"},
        {"impath": b"]"},
        {"impath": b"N"},
        {"label": number(10**9)},
        {"label": number(-1)},
        {"label": text("x")},
        {"label": b"N"},
        {"classname": b"N"},
        {"classname": text("a\x1bb")},
        {"classname": b"}"},
    ],
)
def test_attributes_of_pickles_are_typed(tmp_path, changes):
    (tmp_path / "x.pkl").write_bytes(train(datum(**GOOD)))
    assert pickles.read_item_lists(tmp_path / "x.pkl", "images") == {"train": [Item("a.jpg", 0, "cat")]}
    (tmp_path / "x.pkl").write_bytes(train(datum(**GOOD | changes)))
    assert "is refused" in refused(pickles.read_item_lists, tmp_path / "x.pkl", "images")


def test_a_pickle_leaves_nothing_for_the_next(tmp_path):
    """BUILD on the class itself would set attributes that later pickles' items fall back on."""
    spoilt = pickled(b"cdassl.data\nDatum\n", b"N}(", text("_label"), b"K\x05", text("_classname"), text("x"), b"u\x86b")
    (tmp_path / "x.pkl").write_bytes(spoilt)
    refused(pickles.read_item_lists, tmp_path / "x.pkl", "images")
    (tmp_path / "x.pkl").write_bytes(train(datum(impath=GOOD["impath"])))
    refused(pickles.read_item_lists, tmp_path / "x.pkl", "images")


@few
@given(content=st.binary(max_size=200) | st.lists(st.sampled_from([bytes([i]) for i in range(256)]), max_size=60).map(b"".join))
def test_any_bytes_are_no_pickle_of_code(tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04" + content)
    one_sentence(pickles.read_item_lists, tmp_path / "x.pkl", "images")


def test_one_list_of_a_pickle_under_many_names(tmp_path):
    good = datum(_impath=text("/x/images/a.jpg"), _label=number(0), _classname=text("a"))
    many = b"".join(text(f"k{i}") + b"h\x01" for i in range(10_000))
    items = b"]q\x01(" + good + b"q\x02" + b"h\x02" * 10_000 + b"e"
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02}(" + text("train") + items + many + b"u.")
    assert "images" in refused(pickles.read_item_lists, tmp_path / "x.pkl", "images")
