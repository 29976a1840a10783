"""Results that a stranger made, of wrong types or none at all: each is left out with a sentence."""

import json
import os
import re

import pytest
from strangers import CLASS, ESCAPE, SCRIPT, put, stranger, valid, with_

from reports.collect import read
from runs.result import load_result

WRONG = [  # a dotted key and a value that no run writes there
    *((key, value) for key in ("digest", "seed", "shots", "names", "metrics") for value in (None, True, [], -1.5)),
    *(("seed", value) for value in (SCRIPT, -1, 2**40, 10**400, {}, "1")),
    *(("shots", value) for value in ("16", 1e300, 10**9, {"a": 1})),
    *(("digest", value) for value in (5, "", ESCAPE, "x" * 1000)),
    *((f"names.{group}", value) for group in ("method", "data") for value in (None, 5, [], "", "a\nb", ESCAPE, "\ud800")),
    *(("metrics", value) for value in ({}, [1], "metrics", {"": {"accuracy": 1.0}}, {ESCAPE: {"accuracy": 1.0}}, {"test": 5})),
    *(("metrics.test.accuracy", value) for value in (None, "50", True, -1, 101, 1e308, [50], 10**400)),
    *(("metrics.test.macro_f1", value) for value in ("a", -0.5, {})),
    *(("metrics.test.images", value) for value in (0, -5, 1.5, "200", None)),
    *(("metrics.test.per_class", value) for value in (None, {}, "abc", [5], [{}], [[]])),
    *((f"{CLASS}.class", value) for value in (None, 5, ESCAPE, "", "x" * 5000)),
    *((f"{CLASS}.accuracy", value) for value in ("a", -1, 1000, True, [])),
    *((f"{CLASS}.images", value) for value in ("a", -1)),
    *(("history", value) for value in (5, "a", [5], [[]], [{}], [{"epoch": 1, "test": 5}], [{"epoch": "a"}])),
    ("history", [{"epoch": 0, "test": {"accuracy": 1.0}}, {"epoch": 1}]),
    *(("train_loss", value) for value in (5, "abc", ["a"], [None], [1e300], [True], [[1.0]])),
    *(("config", value) for value in (None, [], "a", {"trainer": "x"}, {"callbacks": {"a": "b"}}, {"a": 10**400}, {ESCAPE: 1})),
    *(("config", {"task": value}) for value in (5, "a", [])),
    *(("config", {"earlier": value}) for value in (5, {"trainer": "x"}, {"callbacks": {"a": "b"}})),
    *(("seconds", value) for value in ("a", -1, None, 1e300)),
    *(("trainable_parameters", value) for value in ("many", -1, 1.5, None)),
    *(("versions", value) for value in ("2.6", ["2.6"], {"torch": 2}, {"torch": ESCAPE})),
]
BROKEN = {  # a result.json as a whole
    "empty": b"",
    "cut": json.dumps(valid()).encode()[:200],
    "binary": bytes(range(256)) * 20,
    "utf-16": json.dumps(valid()).encode("utf-16"),
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"config":' * 100_000,
    "deep config": json.dumps(valid()).replace('"fit": true', '"fit": ' + "[" * 500 + "]" * 500).encode(),
    "NaN": json.dumps(valid()).replace("50.0", "NaN").encode(),
    "infinity": json.dumps(valid()).replace("50.0", "-Infinity").encode(),
    "400 digits": json.dumps(valid()).replace('"seed": 1', '"seed": 1' + "0" * 400).encode(),
    "5000 digits": json.dumps(valid()).replace('"seed": 1', '"seed": 1' + "0" * 5000).encode(),
    "two seeds": json.dumps(valid()).replace('"seed": 1', '"seed": 1, "seed": 2').encode(),
    "a list": b"[1, 2]",
    "null": b"null",
    "text": b'"result"',
    "a pickle": b"cos\nmkdir\n(S'harm'\ntR.",
}


@pytest.mark.parametrize(("key", "value"), WRONG, ids=[f"{key}={str(value)[:20]!r}" for key, value in WRONG])
def test_a_wrong_type_anywhere_is_a_sentence(tmp_path, key, value):
    path = stranger(tmp_path, with_(key, value))
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load_result(path)
    output = str(caught.value)
    assert len(output) < 600
    assert not re.search(r"[\x00-\x1f\x7f]", output)
    left_out = []
    put(tmp_path, "maple")
    (group,) = read([tmp_path], left_out)
    assert group.names["method"] == "maple"
    assert len(left_out) == 1


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_no_result_is_left_out_and_said_so(tmp_path, command, content):
    path = stranger(tmp_path, content)
    put(tmp_path, "maple", metrics={"test": 61.5})
    status, output, page = command()
    assert status == 0
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith(f"Left out: {path}")
    assert "61.5" in output.out
    assert str(path) in page
    assert "1 of the files could not be read" in page
    assert "coop" not in output.out


def test_valid_is_valid(tmp_path):
    assert load_result(stranger(tmp_path, json.dumps(valid())))["seed"] == 1


def test_where_nothing_can_be_read_the_status_says_so(tmp_path, command):
    path = stranger(tmp_path, b"{")
    status, output, page = command()
    assert (status, output.out, page) == (1, "", "")
    assert [line.split(":")[0] for line in output.err.splitlines()] == ["Left out", "error"]
    assert str(path) in output.err


def test_what_is_no_file_is_left_out(tmp_path, command):
    put(tmp_path, "maple")
    (tmp_path / "folder" / "result.json").mkdir(parents=True)
    for name, make in (
        ("pipe", os.mkfifo),
        ("loop", lambda path: path.symlink_to(path)),
        ("gone", lambda p: p.symlink_to("/no")),
    ):
        (tmp_path / name).mkdir()
        make(tmp_path / name / "result.json")
    (tmp_path / f"red{ESCAPE}<b>").mkdir()
    (tmp_path / f"red{ESCAPE}<b>" / "result.json").write_text("{")
    status, output, page = command()
    assert status == 0
    assert len(output.err.splitlines()) in (3, 5)  # some versions of Python see links that lead nowhere
    assert "\x1b" not in output.err + output.out + page
    assert "is a folder" in output.err
    assert "is a pipe" in output.err
    assert "<b>" not in page


def test_dotted_keys_do_not_fill_the_memory(tmp_path):
    deep = {str(i): 1 for i in range(20_000)}
    for _ in range(58):
        deep = {"k" * 190: deep}
    with pytest.raises(ValueError, match="nested so deep"):
        load_result(stranger(tmp_path, with_("config", {"a": deep})))


def test_the_plot_does_not_follow_a_link(tmp_path, command):
    for shots in (1, 2):
        (tmp_path / str(shots)).mkdir()
        stranger(
            tmp_path / str(shots), json.dumps(valid() | {"shots": shots, "digest": f"d{shots}", "summary": {}, "stages": []})
        )
    (tmp_path / "precious").write_text("years")
    (tmp_path / "accuracy.png").symlink_to(tmp_path / "precious")
    status, screen, _ = command()
    assert status == 0
    assert "accuracy.png" in screen.out
    assert (tmp_path / "precious").read_text() == "years"
