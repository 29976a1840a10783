"""Files of captions, questions and answers that somebody else made: refused in one sentence, or read as plain data."""

import json
import os
from pathlib import Path

import pytest
from caption_trees import karpathy_coco, nocaps_content, put_vqa
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import few, one_sentence, refused
from test_split_files import MAKE, PLAIN, WRONG_PATHS

from datamodules import annotation_files
from datamodules.caption_lists import CaptionLists
from datamodules.captioned_items import CaptionSplits, QuestionSplits
from datamodules.karpathy import KarpathySplit
from datamodules.vqa_files import ANNOTATIONS, QUESTIONS, VQA


def karpathy(root: Path, content) -> KarpathySplit:
    write(root / "set/dataset.json", content)
    return KarpathySplit(str(root), "set", "dataset.json")


def captions(root: Path, content) -> CaptionLists:
    write(root / "set/captions.json", content)
    return CaptionLists(str(root), "set", test="captions.json", test_images="val2014")


def write(path: Path, content) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


READERS = {"karpathy": (karpathy, karpathy_coco, "filename"), "captions": (captions, nocaps_content, "file_name")}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("path", WRONG_PATHS)
def test_images_stay_in_their_folder(tmp_path, reader, path):
    make, content, key = READERS[reader]
    made = content()
    made["images"][1][key] = path
    assert "image 1" in refused(make(tmp_path, made).listed)
    made = karpathy_coco()
    made["images"][1]["filepath"] = path or ".."
    assert "image 1: filepath" in refused(karpathy(tmp_path, made).listed)


WRONG_TEXTS = [None, True, 3, "", "  ", "a\x1b[2Jb", "a\u0000b", "x" * 100_000, ["cat"], {"raw": "a"}, "\x9b"]


@pytest.mark.parametrize("text", WRONG_TEXTS)
def test_captions_and_answers_are_short_printable_text(tmp_path, text):
    made = karpathy_coco()
    made["images"][1]["sentences"][2]["raw"] = text
    assert "image 1: sentences, number 2" in refused(karpathy(tmp_path, made).listed)
    made = nocaps_content()
    made["annotations"][12]["caption"] = text
    assert "annotation 12: caption" in refused(captions(tmp_path, made).listed)
    if text in ("", "  "):
        return  # somebody may say nothing
    folder = put_vqa(tmp_path)
    path = folder / ANNOTATIONS.format("train2014")
    content = json.loads(path.read_text())
    content["annotations"][2]["answers"][3]["answer"] = text
    write(path, content)
    assert "question 9002: answers, number 3 is no answer" in refused(VQA(str(tmp_path), "vqa2").listed)


@pytest.mark.parametrize("value", [None, True, 0.5, -1, 10**30, "", "a\nb", "x" * 300, [1], {"a": 1}])
def test_ids_are_numbers_or_short_text(tmp_path, value):
    made = karpathy_coco()
    made["images"][1] |= {"cocoid": value}
    if value is None:
        del made["images"][1]["imgid"]
    assert "image 1: cocoid or imgid" in refused(karpathy(tmp_path, made).listed)
    made = nocaps_content()
    made["images"][1]["id"] = value
    assert "entry 1: id" in refused(captions(tmp_path, made).listed)
    folder = put_vqa(tmp_path)
    path = folder / QUESTIONS.format("val2014")
    content = json.loads(path.read_text())
    content["questions"][1]["image_id"] = value
    write(path, content)
    assert "question 42001: image_id" in refused(VQA(str(tmp_path), "vqa2", train=None).listed)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[" * 100_000, "nested"), ("[]", "a list, not an object"), ('{"images": {}}', "no list of objects"),
     ('{"images": [1]}', "no list of objects"), ('{"images": [], "images": []}', "stands twice"), ("NaN", "no JSON number"),
     ('{"images": [{"id": 1' + "0" * 5000 + "}]}", "is not JSON")],
)  # fmt: skip
def test_files_of_another_form(tmp_path, text, reason):
    for make in (karpathy, captions):
        assert reason in refused(make(tmp_path, text).listed)


def test_more_texts_and_larger_files_than_there_are(tmp_path, monkeypatch):
    made = karpathy_coco()
    made["images"][1]["sentences"] *= 200
    assert "image 1: sentences is no list of at most 1,000 objects" in refused(karpathy(tmp_path, made).listed)
    monkeypatch.setattr(annotation_files, "MAX_VALUES", 100)
    assert "has more than 100 values" in refused(karpathy(tmp_path, karpathy_coco()).listed)
    monkeypatch.setattr(annotation_files, "MAX_BYTES", 2**20)
    assert "is larger than 1 MiB" in refused(karpathy(tmp_path, " " * 2**21).listed)


@pytest.mark.parametrize("kind", MAKE)
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    (tmp_path / "set").mkdir()
    MAKE[kind](tmp_path / "set/captions.json")
    refused(CaptionLists(str(tmp_path), "set", test="captions.json").listed)


KEYS = ["id", "image_id", "file_name", "filename", "filepath", "split", "sentences", "caption", "cocoid", "question",
        "question_id", "answers", "domain"]  # fmt: skip
TEXTS = st.lists(st.dictionaries(st.sampled_from(["raw", "answer"]), PLAIN), max_size=2)
ROWS = st.lists(st.dictionaries(st.sampled_from(KEYS), PLAIN | TEXTS), max_size=3)
FILE = st.fixed_dictionaries(dict.fromkeys(("images", "annotations", "questions"), ROWS)) | PLAIN


@settings(few, max_examples=25)
@given(content=FILE, other=FILE)
def test_any_json_is_read_or_refused(tmp_path, content, other):
    write(tmp_path / "vqa2" / QUESTIONS.format("a"), content)
    write(tmp_path / "vqa2" / ANNOTATIONS.format("a"), other)
    for source in (karpathy(tmp_path, content), captions(tmp_path, content), VQA(str(tmp_path), "vqa2", train=None, test="a")):
        lists = one_sentence(source.listed)
        if isinstance(lists, CaptionSplits | QuestionSplits):
            for item in (*lists.train, *lists.val, *lists.test):
                assert not os.path.isabs(item.path)
                assert ".." not in item.path.split("/")
