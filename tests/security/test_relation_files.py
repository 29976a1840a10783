"""Files of relations that somebody else made: refused in one sentence, or read as plain data."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import few, one_sentence, refused
from relation_trees import content, genome
from test_split_files import PLAIN

from datamodules import visual_genome
from datamodules.relation_items import PairSplits

WRONG = [None, True, "1", float("inf"), [1], -1, 0]
PLACES = [("subject", "w"), ("object", "h"), ("subject", "name"), ("object", "names"), ("predicate",), ("relationship_id",)]


def damaged(place, value):
    made = copy.deepcopy(content())
    part = made[0]["relationships"][0]
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return made


@pytest.mark.parametrize("value", WRONG)
def test_boxes_have_a_size(tmp_path, value):
    if value == float("inf"):
        made = str(damaged(("subject", "w"), 1)).replace("'w': 1,", "'w': 1e999,").replace("'", '"')
        assert "w and h above 0" in refused(genome(tmp_path, made).listed)
        return
    for side in ("w", "h"):
        assert "relation 0: object has no box" in refused(genome(tmp_path, damaged(("object", side), value)).listed)


@pytest.mark.parametrize("text", [None, True, 3, "", "a\x1b[2Jb", "x" * 1000, ["cat"]])
def test_names_are_short_printable_text(tmp_path, text):
    assert "subject: name" in refused(genome(tmp_path, damaged(("subject", "name"), text)).listed)
    assert "relation 0: predicate" in refused(genome(tmp_path, damaged(("predicate",), text)).listed)


@pytest.mark.parametrize("name", ["../../etc/passwd", None, "5.jpg", 1.5])
def test_images_are_named_by_numbers(tmp_path, name):
    made = content()
    made[1]["image_id"] = name
    assert "image 1" in refused(genome(tmp_path, made).listed)


@pytest.mark.parametrize("text", ["{}", "[1]", "[" * 100_000, '[{"image_id": 1, "relationships": {}}]', "NaN"])
def test_files_of_another_form(tmp_path, text):
    refused(genome(tmp_path, text).listed)


def test_larger_files_than_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(visual_genome, "MAX_VALUES", 10)
    assert "has more than 10 values" in refused(genome(tmp_path, content()).listed)


@few
@given(place=st.sampled_from(PLACES), value=PLAIN)
def test_anything_is_read_or_refused(tmp_path, place, value):
    made = one_sentence(genome(tmp_path, damaged(place, value)).listed)
    assert isinstance(made, PairSplits | ValueError)
