"""Split files that somebody else made: refused in one sentence, or read as plain data."""

import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import few, one_sentence, refused

from datamodules import pickles
from datamodules.disk import open_rgb
from datamodules.few_shot import select
from datamodules.imagenet import class_names
from datamodules.items import Item, Splits
from datamodules.split_json import SplitJson, read_split, write_split
from files import untrusted
from files.untrusted import read_json

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([10**9, 10**30, "..", "/a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
WRONG_PATHS = [
    "/etc/passwd",
    "../a.jpg",
    "a/../../b.jpg",
    "C:/a.jpg",
    "..\\a.jpg",
    "\\\\host\\a.jpg",
    "~/a.jpg",
    "",
    "a\0b",
    "a\x1b[2J",
]
WRONG_LABELS = [0.7, 0.0, True, None, -1, 10**9, 10**30, "x", "1e3", [0], {"a": 0}, float("inf")]
WRONG_NAMES = [None, True, 3, "", "  ", "a\x1b[2Jb", "a\nb", "x" * 100_000, ["cat"]]


def split_file(folder: Path, content) -> Path:
    path = folder / "split.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def content_of(*row):
    return {"train": [["a.jpg", 0, "cat"], list(row)], "val": [], "test": []}


@pytest.mark.parametrize("path", WRONG_PATHS)
def test_paths_of_a_split_stay_in_the_image_folder(tmp_path, path):
    assert "entry 1 of train: the path" in refused(read_split, split_file(tmp_path, content_of(path, 0, "cat")))


@pytest.mark.parametrize("label", WRONG_LABELS)
def test_labels_of_a_split_are_small_integers(tmp_path, label):
    content = content_of("b.jpg", label, "dog")
    if label == float("inf"):
        assert "Infinity is no JSON number" in refused(read_split, split_file(tmp_path, content))
    else:
        assert "entry 1 of train: the label" in refused(read_split, split_file(tmp_path, content))


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_names_of_a_split_are_text(tmp_path, name):
    assert "entry 1 of train: the name" in refused(read_split, split_file(tmp_path, content_of("b.jpg", 0, name)))


def test_gaps_are_told_shortly(tmp_path):
    text = refused(read_split, split_file(tmp_path, content_of("b.jpg", 999_999, "dog")))
    assert "999,998 labels are missing, the first are [1, 2, 3, 4, 5]" in text
    huge = Splits([Item("a", 0, "a"), Item("b", 10**15, "b")], [], [])
    assert "labels are missing, the first are [1, 2, 3, 4, 5]" in refused(lambda: huge.classnames)
    assert "-3 is below 0" in refused(lambda: Splits([Item("a", -3, "a")], [], []).classnames)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested"),
        ('{"train":' + "[" * 100_000 + "]" * 100_000 + "}", "nested"),
        ("[]", "no lists"),
        ("\ud800", "UTF-8"),
        ('{"train": {}, "val": [], "test": []}', "no lists"),
        ('{"train": [], "train": [["a", 0, "b"]], "val": [], "test": []}', "stands twice"),
        ('{"train": [["a", 1' + "0" * 5000 + ', "b"]], "val": [], "test": []}', "is not JSON"),
        ('{"train": [], "val": [], "test": []}', "all missing"),
    ],
)
def test_split_files_of_another_form(tmp_path, text, reason):
    (tmp_path / "split.json").write_bytes(text.encode(errors="surrogatepass"))
    message = refused(read_split, tmp_path / "split.json")
    assert reason in message
    assert str(tmp_path) in message


@pytest.mark.parametrize(
    "state",
    [
        [3, [0] * 625, "x"],
        [3, [0] * 624, None],
        [3, [-1] * 625, None],
        [3, [2**32] * 625, None],
        [3, [0] * 624 + [625], None],
        [3, [0.5] * 625, None],
        [2, [0] * 625, None],
        [3, {"a": 1}, None],
        "abc",
        5,
    ],
)
def test_a_stored_generator_state_is_input_too(tmp_path, state):
    content = content_of("b.jpg", 0, "cat") | {"fallback": {"seed": 1, "rng_state": state}}
    assert 'rng_state of its entry "fallback"' in refused(read_split, split_file(tmp_path, content), seed=1)
    for fallback in (5, [], {"seed": True}, {"seed": "1", "rng_state": None}):
        content["fallback"] = fallback
        assert "no integer seed" in refused(read_split, split_file(tmp_path, content), seed=1)


def test_a_good_state_comes_back(tmp_path):
    rng = random.Random(1)
    rng.gauss(0, 1)
    splits = Splits([Item(f"{i}.jpg", 0, "cat") for i in range(9)], [], [], rng_state=rng.getstate())
    write_split(tmp_path / "split.json", splits, made_with=1)
    assert read_split(tmp_path / "split.json", 1) == splits
    assert read_split(tmp_path / "split.json", 2).rng_state is None
    assert len(select(read_split(tmp_path / "split.json", 1), 2, 1).train) == 2


@few
@given(
    content=PLAIN
    | st.fixed_dictionaries({k: st.lists(st.tuples(PLAIN, PLAIN, PLAIN) | PLAIN) for k in ("train", "val", "test")})
)
def test_any_json_is_read_or_refused(tmp_path, content):
    splits_read = one_sentence(read_split, split_file(tmp_path, json.dumps(content)), seed=1)
    if isinstance(splits_read, Splits):
        for item in (*splits_read.train, *splits_read.val, *splits_read.test):
            assert not os.path.isabs(item.path)
            assert ".." not in item.path.split("/")


MAKE = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": os.mkdir,
    "loop": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("kind", MAKE)
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    for name in ("split.json", "images/x.jpg", "preprocessed.pkl", "classnames.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        MAKE[kind](path)
    refused(read_split, tmp_path / "split.json")
    assert "x.jpg" in refused(open_rgb, tmp_path / "images/x.jpg")
    refused(pickles.read_item_lists, tmp_path / "preprocessed.pkl", "images")
    if kind != "loop":  # a link that leads nowhere is a file that is missing
        assert "classnames.txt" in refused(class_names, tmp_path)


def test_a_split_that_names_a_pipe_as_an_image(tmp_path):
    (tmp_path / "set").mkdir()
    os.mkfifo(tmp_path / "set/a.jpg")
    split_file(tmp_path / "set", {"train": [["a.jpg", 0, "cat"]], "val": [], "test": []})
    source = SplitJson(str(tmp_path), "set", "split.json")
    assert "a.jpg is a pipe" in refused(source.open, source.splits(1).train[0])


def test_a_key_that_stands_twice_is_found_at_once(tmp_path):
    keys = ",".join(f'"{i}":1' for i in range(100_000))
    assert "the key '99999' stands twice" in refused(read_json, dump(tmp_path, f'{{{keys},"99999":1}}'), "the file")


@pytest.mark.parametrize("value", ["{}", "[]", '{"a":[]}', "0"])
def test_json_of_many_small_values_is_not_parsed(tmp_path, monkeypatch, value):
    monkeypatch.setattr(untrusted, "MAX_VALUES", 1_000_000, raising=False)  # 20 times as many take 3 GB
    assert "more than 1,000,000 values" in refused(read_json, dump(tmp_path, f"[{','.join([value] * 1_000_001)}]"), "the file")


def dump(folder: Path, content: str) -> Path:
    (folder / "x.json").write_text(content)
    return folder / "x.json"
