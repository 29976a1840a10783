"""Results that a stranger made: each is left out with a sentence, or is on a page without its markup."""

import ast
import html
import io
import json
import os
import re
import sys
import time
import zipfile

import numpy as np
import pytest
from rich.console import Console
from toys import ROOT

import report
from lightning_modules.report import render
from lightning_modules.report.arrays import read_arrays
from lightning_modules.report.collect import read
from lightning_modules.report.schema import load
from lightning_modules.report.tables import tables

sys.path.insert(0, str(ROOT / "tests" / "report"))
from fakes import guessed, put  # noqa: E402

SCRIPT = "<script>alert(1)</script>"
MARKUP = "<img src=x onerror=alert(1)>"
ESCAPE = "\x1b[2J\x1b]0;owned\x07"


def valid():
    metrics, _ = guessed(0.5)
    names = {"method": "coop", "data": "shapes", "clip": "tiny", "protocol": "few_shot"}
    return {
        "digest": "d1",
        "names": names,
        "seed": 1,
        "shots": 16,
        "metrics": {"test": metrics},
        "epoch": 5,
        "config": {"fit": True, "method": {"n_ctx": 4}},
        "train_loss": [1.0, 0.5],
        "seconds": 3.5,
        "versions": {"torch": "2"},
        "history": [{"epoch": 4, "test": {"accuracy": 50.0, "macro_f1": 49.0}}],
        "trainable_parameters": 512,
    }


def with_(path, value):
    """The valid result with another value at a dotted path; "" replaces all of it."""
    result = valid()
    node, keys = result, path.split(".")
    for key in keys[:-1]:
        node = node[int(key) if isinstance(node, list) else key]
    node[int(keys[-1]) if isinstance(node, list) else keys[-1]] = value
    return json.dumps(result)


CLASS = "metrics.test.per_class.0"
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
NAMES = [
    SCRIPT,
    MARKUP,
    '"><svg onload=alert(1)>',
    "'; alert(1)//",
    "&lt;script&gt;",
    "$\\frac{1}{0$",
    "$$",
    "[bold]x[/b]",
    "[/]",
]
NAMES += [
    "a|b",
    "\\input{/etc/passwd}",
    "=cmd|' /C calc'!A0",
    "_x",
    "²",
    "1x",
    "16 shots",
    "{{ 7*7 }}",
    "{% x %}",
    "</style><b>",
]
DRAWN = [SCRIPT, '"><svg onload=alert(1)>', "$\\frac{1}{0$", "²", "16 shots", "{{ 7*7 }}"]  # a page of all sections takes time
NAMED = ["digest", "names.method", "names.data", "names.clip", "names.protocol", f"{CLASS}.class"]


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """report.py on the folder: status, screen, page."""

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["report.py", str(tmp_path), *arguments])
        begun = time.monotonic()
        status = report.main()
        assert time.monotonic() - begun < 60
        page = tmp_path / "report.html"
        return status, capsys.readouterr(), page.read_text() if page.exists() else ""

    return call


def stranger(folder, content):
    path = folder / "stranger" / "result.json"
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(("key", "value"), WRONG, ids=[f"{key}={str(value)[:20]!r}" for key, value in WRONG])
def test_a_wrong_type_anywhere_is_a_sentence(tmp_path, key, value):
    path = stranger(tmp_path, with_(key, value))
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load(path)
    said = str(caught.value)
    assert len(said) < 600
    assert not re.search(r"[\x00-\x1f\x7f]", said)
    left_out = []
    put(tmp_path, "maple")
    (group,) = read([tmp_path], left_out)
    assert group.names["method"] == "maple"
    assert len(left_out) == 1


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_no_result_is_left_out_and_said_so(tmp_path, command, content):
    path = stranger(tmp_path, content)
    put(tmp_path, "maple", metrics={"test": 61.5})
    status, said, page = command()
    assert status == 0
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith(f"Left out: {path}")
    assert "61.5" in said.out
    assert str(path) in page
    assert "1 of the files could not be read" in page
    assert "coop" not in said.out


def test_valid_is_valid(tmp_path):
    assert load(stranger(tmp_path, json.dumps(valid())))["seed"] == 1


def test_where_nothing_can_be_read_the_status_says_so(tmp_path, command):
    path = stranger(tmp_path, b"{")
    status, said, page = command()
    assert (status, said.out, page) == (1, "", "")
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["Left out", "error"]
    assert str(path) in said.err


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
    status, said, page = command()
    assert status == 0
    assert len(said.err.splitlines()) in (3, 5)  # some versions of Python see links that lead nowhere
    assert "\x1b" not in said.err + said.out + page
    assert "is a folder" in said.err
    assert "is a pipe" in said.err
    assert "<b>" not in page


@pytest.mark.parametrize("name", DRAWN)
def test_names_are_text_in_every_form(tmp_path, command, name):
    """One result that bears the name wherever a name may stand, beside a zero-shot one, so that all sections are drawn."""
    metrics, arrays = guessed(0.6)
    metrics["per_class"][0]["class"] = name
    both = {name: metrics}
    places = {"data": name, "clip": name, "protocol": name}
    curve = {"history": [{"epoch": e, name: {"accuracy": 5.0 * e}} for e in range(3)], "train_loss": [1.0, 0.5], "seconds": 1.0}
    for at, method in enumerate(("zeroshot", "coop")):
        path = put(
            *(tmp_path / str(at), method, 1, 16, both, {"method": {"x": name}, name: name}),
            digest=f"d{at}", trainable_parameters=at, versions={name: name}, **curve,
        )  # fmt: skip
        result = json.loads(path.read_text())
        result["names"] |= places
        path.write_text(json.dumps(result))
        with_arrays = {
            f"{each}/{part}": a for each in both for part, a in zip(("pred", "label", "confidence"), arrays, strict=True)
        }
        np.savez_compressed(path.with_name("predictions.npz"), **with_arrays)
    status, said, page = command()
    assert (status, said.err) == (0, "")
    assert name in said.out.replace("\n", "") or len(name) > 20  # which the terminal folds
    assert name in html.unescape(page)
    for markup in ("<script", "<img", "<svg onload", "</style><b>"):
        assert markup not in page


@pytest.mark.parametrize("name", NAMES)
def test_names_are_text_in_tables(tmp_path, name):
    put(tmp_path / "a", name, metrics={name: 50.0, "b": 40.0}, digest="a", data=f"d{name}".replace("/", ""))
    path = next(tmp_path.rglob("result.json"))
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"names": dict.fromkeys(("method", "data", "clip", "protocol"), name)})
    )
    found = tables(read([tmp_path]))
    console = Console(width=200, record=True, file=io.StringIO())
    render.to_terminal(found, 1, console)
    assert name in console.export_text()
    for line in render.to_markdown(found, 1).splitlines():
        assert "<script" not in line
        assert not re.search(r"<\w", line)
    assert not re.search(r"(?<!\\)\\input", render.to_latex(found, 1))
    assert not re.search(r"(^|,)\"?[=@]", render.to_csv(found), re.MULTILINE)


@pytest.mark.parametrize("key", NAMED)
def test_markup_in_any_name_is_escaped(tmp_path, command, key):
    stranger(tmp_path, with_(key, SCRIPT))
    status, said, page = command()
    assert (status, said.err) == (0, "")
    assert "<script" not in page
    assert "&lt;script&gt;" in page or key == f"{CLASS}.class"  # drawn only beside others


def test_latex_shows_what_it_would_obey():
    assert render.escape(r"\a{b}~^_%&#$|<[*") == (
        r"\textbackslash{}a\{b\}\textasciitilde{}\textasciicircum{}\_\%\&\#\$\textbar{}\textless{}{[}{*}"
    )


# ---------------------------------------------------------------- predictions.npz

GOOD = {"pred": np.array([0, 1], np.uint8), "label": np.array([0, 2], np.uint8), "confidence": np.array([0.5, 0.0], np.float16)}
BAD_ARRAYS = {
    "two dimensions": {"pred": np.zeros((2, 1), int)},
    "floats": {"pred": np.array([0.0, 1.0])},
    "objects": {"pred": np.array([print, None], object)},
    "texts": {"label": np.array(["a", "b"])},
    "other length": {"label": np.zeros(3, int)},
    "negative": {"label": np.array([-1, 0])},
    "beyond the classes": {"pred": np.array([0, 3])},
    "huge": {"label": np.array([2**63, 0], np.uint64)},
    "not a number": {"confidence": np.array([np.nan, 0.5])},
    "infinite": {"confidence": np.array([np.inf, 0.5])},
    "below 0": {"confidence": np.array([-0.5, 0.5])},
    "integers": {"confidence": np.array([1, 0])},
    "complex": {"confidence": np.array([1j, 0])},
}


@pytest.mark.parametrize("arrays", BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_arrays_that_are_no_predictions(tmp_path, arrays):
    path = tmp_path / "predictions.npz"
    np.savez(path, **{f"test/{part}": array for part, array in (GOOD | arrays).items()})
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_arrays(path, "test", 3)


def npy(shape, descr="<i8", content=b""):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


@pytest.mark.parametrize(
    "member",
    [
        npy("(10**18,)"),
        npy("(10000000000,)"),
        npy("(-1,)"),
        npy("()"),
        npy("(5,)", content=b"1234"),
        npy("(2,)", "|O", b"cos\nsystem\n."),
        npy("(__import__('os').mkdir('harm'),)"),
        npy("(" * 2000),
        b"",
        b"no array",
    ],
)
def test_headers_that_lie(tmp_path, monkeypatch, member):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "predictions.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in GOOD:
            archive.writestr(f"test/{part}.npy", member)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_arrays(path, "test", 3)
    assert not (tmp_path / "harm").exists()


def test_a_bomb_is_not_unpacked(tmp_path):
    """2 GiB of zeros in 2 MiB: no more is read than the header says, and that is bounded."""
    path = tmp_path / "predictions.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in GOOD:
            with archive.open(f"test/{part}.npy", "w") as file:
                file.write(npy(f"({2**31},)", "|u1"))
                for _ in range(64):
                    file.write(bytes(2**20))
    begun = time.monotonic()
    with pytest.raises(ValueError, match="too many"):
        read_arrays(path, "test", 3)
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"garbage" * 100])
def test_predictions_that_cannot_be_read_leave_the_result(tmp_path, command, content):
    metrics, arrays = guessed(0.6)
    path = put(tmp_path, metrics={"test": metrics}, predictions={"test": arrays})
    path.with_name("predictions.npz").write_bytes(content)
    status, said, page = command()
    assert status == 0
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("Without its predictions: ")
    assert f"{metrics['accuracy']:.1f}" in said.out
    assert "predictions.npz cannot be read" in page


def test_a_pipe_named_predictions_is_not_waited_for(tmp_path, command):
    path = put(tmp_path)
    os.mkfifo(path.with_name("predictions.npz"))
    status, said, _ = command("--markdown")
    assert status == 0
    assert "is a pipe" in said.err


# ---------------------------------------------------------------- by construction


def test_no_html_is_written_in_code():
    tag = re.compile(r"<[/!]?[a-zA-Z]")
    allowed = {("style.py", "<svg"), ("style.py", r"<metadata>.*?</metadata>\s*")}  # what matplotlib wrote is cut
    for path in sorted((ROOT / "lightning_modules" / "report").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and tag.search(node.value):
                assert (path.name, node.value) in allowed, f"{path.name}:{node.lineno} makes HTML: {node.value[:60]!r}"
