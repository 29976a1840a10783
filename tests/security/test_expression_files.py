"""Referring expressions, detections and lines that somebody else made: refused in one sentence, or read as plain data."""

import os
import pickle
import struct

import pytest
from caption_trees import put_json
from hypothesis import given, settings
from hypothesis import strategies as st
from refer_trees import detections, instances, pickled, put_lines, put_refcoco, reclip_lines, refs
from refusals import few, one_sentence, refused
from test_pickles import BOMBS, number, text
from test_pickles import pickled as new_pickle
from test_split_files import MAKE, PLAIN, WRONG_PATHS

from datamodules import refer_files, referred
from datamodules.grounding_items import GroundingSplits
from datamodules.reclip_files import ReclipFiles
from datamodules.refer_files import ReferFiles, read_refs
from datamodules.referred import read_detections


def official(root, rows=None, **options) -> ReferFiles:
    """A source of the official files, with these entries."""
    if rows is not None:
        (root / "refcoco/refs(unc).p").write_bytes(pickled(rows))
    return ReferFiles(str(root), "refcoco", "refs(unc).p", test="testA", **{"proposals": "gold"} | options)


def reclip(root, rows) -> ReclipFiles:
    """A source of lines, without detections."""
    put_lines(root / "reclip_data/test.jsonl", rows)
    return ReclipFiles(str(root), "reclip_data", test="test.jsonl", proposals="gold")


class Code:
    """What a pickle runs when Python reads it."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("name", ["a huge memo", "text of a claimed size", "a list of itself", "a call", "a number", "cut"])
def test_pickles_neither_hang_nor_fill_the_memory(tmp_path, name):
    (tmp_path / "refs.p").write_bytes(BOMBS[name])
    assert "is refused" in refused(read_refs, tmp_path / "refs.p")


@pytest.mark.parametrize(
    "content",
    [pickle.dumps([Code()]), pickle.dumps([{"ref_id": Code()}], 0), b"cos\nsystem\n(S'mkdir ran'\ntR.", b"cos\x1b[2J\nx\n."],
)
def test_pickles_run_nothing(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "refs.p").write_bytes(content)
    assert "is refused" in refused(read_refs, tmp_path / "refs.p")
    assert not (tmp_path / "ran").exists()


def test_one_list_of_sentences_in_many_entries(tmp_path, monkeypatch):
    """A pickle can say the same list for each of thousands of entries: they are counted before there are too many."""
    put_refcoco(tmp_path)
    monkeypatch.setattr(refer_files, "MAX_EXPRESSIONS", 5000)
    sentences = b"](" + b"}" + text("sent") + text("a dog") + b"s" + b"q\x05" + b"h\x05" * 999 + b"eq\x06"
    entries = [
        b"}(" + text("ref_id") + number(n) + text("ann_id") + number(90) + text("image_id") + number(9) + text("split")
        + text(("train", "val", "testA")[min(n, 2)]) + text("sentences") + (sentences if n == 0 else b"h\x06") + b"u"
        for n in range(2000)
    ]  # fmt: skip
    rows = b"](" + b"".join(entries) + b"e"
    (tmp_path / "refcoco/refs(unc).p").write_bytes(new_pickle(rows))
    assert "has more than 5,000 expressions" in refused(official(tmp_path).listed)


@pytest.mark.parametrize("kind", MAKE)
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    put_refcoco(tmp_path)
    for name in ("refs(unc).p", "dets.json"):
        (tmp_path / "refcoco" / name).unlink()
        MAKE[kind](tmp_path / "refcoco" / name)
    refused(official(tmp_path).listed)
    refused(read_detections, tmp_path / "refcoco/dets.json")


@pytest.mark.parametrize("value", [None, True, 0.5, -1, 10**30, "", "a\nb", "x" * 300, [1], {"a": 1}])
@pytest.mark.parametrize("key", ["ref_id", "ann_id", "image_id"])
def test_ids_are_numbers_or_short_text(tmp_path, key, value):
    put_refcoco(tmp_path)
    rows = refs()
    rows[1][key] = value
    content = pickle.dumps(rows)
    (tmp_path / "refcoco/refs(unc).p").write_bytes(content)
    assert key in refused(official(tmp_path).listed)
    if key != "ref_id":
        lines = reclip_lines("train")
        lines[1][key] = value
        assert f"line 2: {key}" in refused(reclip(tmp_path, lines).listed)


@pytest.mark.parametrize("value", [None, True, 3, "a\x1b[2Jb", "a\u0000b", "x" * 100_000, ["cat"], {"raw": "a"}, "\x9b"])
def test_expressions_are_short_printable_text(tmp_path, value):
    put_refcoco(tmp_path)
    rows = refs()
    rows[1]["sentences"][0] |= {"sent": value, "raw": value}
    (tmp_path / "refcoco/refs(unc).p").write_bytes(pickle.dumps(rows))
    assert "ref_id 1: sentence 0: the text" in refused(official(tmp_path).listed)
    lines = reclip_lines("train")
    lines[1]["sentences"][0] |= {"sent": value, "raw": value}
    assert "line 2: sentence 0: the text" in refused(reclip(tmp_path, lines).listed)


@pytest.mark.parametrize("path", WRONG_PATHS)
def test_images_stay_in_their_folder(tmp_path, path):
    put_refcoco(tmp_path)
    content = instances()
    content["images"][0]["file_name"] = path
    put_json(tmp_path / "refcoco/instances.json", content)
    assert "image 9: file_name" in refused(official(tmp_path).listed)
    lines = reclip_lines("train")
    lines[0]["file_name"] = path
    assert "line 1: file_name" in refused(reclip(tmp_path, lines).listed)


@pytest.mark.parametrize(
    "box", [None, [], [1, 2, 3], [1, 2, 3, "4"], [1, 2, -3, 4], [0, 0, 10**400, 1], [True, 1, 1, 1], "1234"]
)
def test_boxes_are_four_numbers(tmp_path, box):
    rows = detections()
    rows[1]["box"] = box
    assert "detection 1: box" in refused(read_detections, put_json(tmp_path / "dets.json", rows))
    assert "image 9: box 0" in refused(read_detections, put_json(tmp_path / "dets.json", {"9": [box]}))
    lines = reclip_lines("train")
    lines[0]["anns"][1]["bbox"] = box
    assert "line 1: the bbox of annotation 91" in refused(reclip(tmp_path, lines).listed)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("[" * 100_000, "nested"), ("3", "neither a list of detections"), ("[1]", "neither a list of detections"),
     ('{"9": 3}', "image 9 has no list of boxes"), ('{"9": [], "9": []}', "stands twice"), ("[NaN]", "no JSON number"),
     ('[{"box": [1, 2, 3, 1e999], "image_id": 1}]', "detection 0: box")],
)  # fmt: skip
def test_detections_of_another_form(tmp_path, content, reason):
    (tmp_path / "dets.json").write_text(content)
    assert reason in refused(read_detections, tmp_path / "dets.json")


def test_larger_files_than_there_are(tmp_path, monkeypatch):
    put_refcoco(tmp_path)
    monkeypatch.setattr(refer_files, "MAX_BYTES", 100)
    assert "is larger than" in refused(read_refs, tmp_path / "refcoco/refs(unc).p")
    monkeypatch.setattr(referred, "MAX_VALUES", 20)
    assert "has more than 20 values" in refused(read_detections, tmp_path / "refcoco/dets.json")
    lines = reclip_lines("train")
    lines[0]["anns"] = [{"id": i, "bbox": [1, 1, 2, 2]} for i in range(2001)]
    assert "has 2,001 boxes, more than 2,000" in refused(reclip(tmp_path, [lines[0] | {"ann_id": 1}]).listed)


KEYS = ["ref_id", "ann_id", "image_id", "split", "sentences", "file_name", "anns", "box", "bbox", "id", "sent"]
ROW = st.dictionaries(st.sampled_from(KEYS), PLAIN | st.lists(st.dictionaries(st.sampled_from(KEYS), PLAIN), max_size=2))


@settings(few, max_examples=12)
@given(row=ROW, other=ROW)
def test_any_data_are_read_or_refused(tmp_path, row, other):
    if not (tmp_path / "refcoco").exists():
        put_refcoco(tmp_path)
    rows = refs()
    (tmp_path / "refcoco/refs(unc).p").write_bytes(pickle.dumps([*rows, rows[0] | {"ref_id": 99} | row, other]))
    put_json(tmp_path / "refcoco/dets.json", [*detections(), row])
    lines = reclip_lines("train")
    for source in (official(tmp_path), official(tmp_path, proposals="detected"), reclip(tmp_path, [lines[0] | row])):
        lists = one_sentence(source.listed)
        if isinstance(lists, GroundingSplits):
            for item in (*lists.train, *lists.val, *lists.test):
                assert not os.path.isabs(item.path)
                assert ".." not in item.path.split("/")


def test_numbers_of_a_claimed_size(tmp_path):
    (tmp_path / "refs.p").write_bytes(b"\x80\x02\x8b" + struct.pack("<i", 2**30) + b".")
    assert "is refused" in refused(read_refs, tmp_path / "refs.p")
