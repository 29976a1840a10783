"""Names that a stranger chose are text in every form of a report, never markup."""

import ast
import html
import io
import json
import re

import numpy as np
import pytest
from rich.console import Console
from strangers import CLASS, MARKUP, SCRIPT, guessed, put, stranger, with_
from toys import ROOT

from reports import render
from reports.collect import read
from reports.tables import tables

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
NAMED = ["digest", "task", "names.method", "names.data", "names.clip", "names.protocol", f"{CLASS}.class"]
NAMED += ["figure.title", "figure.unit"]


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
            f"{evaluation}/{part}": a
            for evaluation in both
            for part, a in zip(("pred", "label", "confidence"), arrays, strict=True)
        }
        np.savez_compressed(path.with_name("predictions.npz"), **with_arrays)
    status, output, page = command()
    assert (status, output.err) == (0, "")
    assert name in output.out.replace("\n", "") or len(name) > 20  # which the terminal folds
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
    all_tables = tables(read([tmp_path]))
    console = Console(width=200, record=True, file=io.StringIO())
    render.to_terminal(all_tables, 1, console)
    assert name in console.export_text()
    for line in render.to_markdown(all_tables, 1).splitlines():
        assert "<script" not in line
        assert not re.search(r"<\w", line)
    assert not re.search(r"(?<!\\)\\input", render.to_latex(all_tables, 1))
    assert not re.search(r"(^|,)\"?[=@]", render.to_csv(all_tables), re.MULTILINE)


@pytest.mark.parametrize("key", NAMED)
def test_markup_in_any_name_is_escaped(tmp_path, command, key):
    stranger(tmp_path, with_(key, SCRIPT))
    status, output, page = command()
    assert (status, output.err) == (0, "")
    assert "<script" not in page
    assert "&lt;script&gt;" in page or key in (f"{CLASS}.class", "task")  # shown only beside others


def test_latex_shows_what_it_would_obey():
    assert render.escape(r"\a{b}~^_%&#$|<[*") == (
        r"\textbackslash{}a\{b\}\textasciitilde{}\textasciicircum{}\_\%\&\#\$\textbar{}\textless{}{[}{*}"
    )


def test_no_html_is_written_in_code():
    tag = re.compile(r"<[/!]?[a-zA-Z]")
    allowed = {("style.py", "<svg"), ("style.py", r"<metadata>.*?</metadata>\s*")}  # what matplotlib wrote is cut
    files = sorted((ROOT / "reports").glob("*.py"))
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and tag.search(node.value):
                assert (path.name, node.value) in allowed, f"{path.name}:{node.lineno} makes HTML: {node.value[:60]!r}"
