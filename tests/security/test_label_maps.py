"""Label maps and lists of classes that somebody else made: refused in one sentence, or read as plain numbers."""

import io
import os
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_trees import put_own, put_voc
from refusals import few, one_sentence, png, refused

from datamodules.label_maps import MAX_PIXELS, plain_table, read_label_map
from datamodules.own_masks import OwnMasks
from datamodules.segmentation_sets import VOC2012

TABLE = plain_table(3)


def header(width: int, height: int, bits: int = 8, colour: int = 0) -> bytes:
    """The begin of a PNG that claims this size."""
    chunk = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, colour, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


@pytest.mark.parametrize("side", [100_000, 13_000, 2**31 - 1])
def test_maps_of_absurd_size_are_not_unpacked(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(header(side, side) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    text = refused(read_label_map, path, TABLE)
    assert "bomb" in text or f"more than {MAX_PIXELS:,}" in text or "cannot be decoded" in text


def test_maps_cut_short_are_refused(tmp_path):
    content = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 3, (40, 40), np.uint8)).save(content, "PNG")
    path = tmp_path / "cut.png"
    path.write_bytes(content.getvalue()[: len(content.getvalue()) // 2])
    assert "cannot be decoded as PNG" in refused(read_label_map, path, TABLE)


@few
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_refused_or_read(tmp_path_factory, content, begun):
    path = tmp_path_factory.mktemp("map") / "m.png"
    path.write_bytes((header(4, 3) if begun else b"") + content)
    result = one_sentence(read_label_map, path, TABLE)
    assert isinstance(result, ValueError) or set(np.unique(result)) <= {0, 1, 2, 255}


@pytest.mark.parametrize(("bits", "words"), [(2, "grey with 2 bits a pixel"), (4, "grey with 4 bits a pixel")])
def test_grey_of_few_bits_has_no_sure_numbers(tmp_path, bits, words):
    path = tmp_path / "m.png"
    rows = b"".join(b"\0" + bytes(4 * bits // 8) for _ in range(3))
    path.write_bytes(header(4, 3, bits) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert words in refused(read_label_map, path, TABLE)


def test_palettes_of_few_bits_and_masks_of_one_bit_are_read(tmp_path):
    numbers = np.array([[0, 1, 2, 1], [2, 2, 0, 1]], np.uint8)
    image = PIL.Image.fromarray(numbers)
    image.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200])
    image.save(tmp_path / "p.png", bits=2)
    assert (read_label_map(tmp_path / "p.png", TABLE) == numbers).all()
    PIL.Image.fromarray(numbers == 1).save(tmp_path / "b.png")
    assert (read_label_map(tmp_path / "b.png", TABLE) == (numbers == 1)).all()


def test_other_formats_and_things_in_the_place_of_a_map(tmp_path):
    path = tmp_path / "m.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    assert "cannot be decoded as PNG" in refused(read_label_map, path, TABLE)
    path.write_bytes(png())
    assert "is a colour picture (RGB)" in refused(read_label_map, path, TABLE)
    path.unlink()
    os.mkfifo(path)
    assert "is a pipe" in refused(read_label_map, path, TABLE)
    assert "is a folder" in refused(read_label_map, tmp_path, TABLE)


@pytest.mark.parametrize("line", ["a\x1b[2Jb", "x" * 201, "a\x00b", "\x9b1m"])
def test_class_names_cannot_write_to_a_terminal(tmp_path, line):
    folder = put_own(tmp_path)
    (folder / "classes.txt").write_text(f"sky\n{line}\n")
    assert "classes.txt: a class name" in refused(OwnMasks("", str(folder)).splits, 1)


@pytest.mark.parametrize("line", ["/etc/passwd", "..", "a/../../b", "x\x1b[2J", "C:name", "ⅷ", "a b", "x" * 5000 + "."])
def test_lists_name_nothing_outside_their_folders(tmp_path, line):
    folder = put_voc(tmp_path)
    (folder / "ImageSets/Segmentation/val.txt").write_text(f"2007_000033\n{line}\n")
    assert "entry 2" in refused(VOC2012(str(tmp_path)).splits, 1)
