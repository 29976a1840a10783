"""docs/trust.md names a test for each promise: each of them exists."""

import ast
import re

from toys import ROOT, TESTS

TEXT = (ROOT / "docs" / "trust.md").read_text()


def test_every_promise_names_a_test_that_exists():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) > 30
    for file, test in named:
        functions = {node.name for node in ast.parse((TESTS / file).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert test in functions, f"{file} has no {test}"


def test_every_line_of_a_table_names_one():
    lines = [line for line in TEXT.splitlines() if line.startswith("|") and not re.match(r"\|(-|.*\| test \|$)", line)]
    assert not [line for line in lines if "::test_" not in line]
