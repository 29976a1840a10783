"""Paths on the command line that Hydra's grammar would refuse or read as something else, and what its refusals say."""

import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from runs import command_line, launch

HARD = [
    "/my/Jöhn's photos (1), new",
    "/my/R&D #2",
    "/my/a=b",
    "/my/[x]",
    '/my/"b',
    "/my/日本",
    "~/birds",
    "/my/{x}",
    "/my/a;b!",
]
LEFT = [
    "/my/a b",
    "null",
    "5",
    "'/my/a b'",
    '"/my/Ö"',
    "choice(a,b)",
    "[a]",
    "{a:b}",
    "${seed}",
    "/my/${seed}ö",
    "a\nb",
    "ä\x1b",
    "[a",
]


def read(word):
    override = OverridesParser.create().parse_override(word)
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else override.value()


@pytest.mark.parametrize("path", HARD)
@pytest.mark.parametrize("key", ["folder", "+ckpt", "clip.weights"])
def test_a_path_is_read_as_it_is_written(tmp_path, path, key):
    (word,) = command_line.quote_paths([f"{key}={path}"], is_sweep=False)
    assert read(word) == path
    assert command_line.quote_paths([word], is_sweep="," not in path) == [word]  # the jobs of a sweep get it again
    assert command_line.plain_path(word.partition("=")[2]) == command_line.plain_path(path) == path


@pytest.mark.parametrize("value", LEFT)
def test_what_hydra_reads_and_what_is_no_path_is_left(value):
    words = [f"folder={value}", f"data.name={value}", "data.name=ö", "--config-dir=ö", "ö", "-m"]
    assert command_line.quote_paths(words, is_sweep=False) == words


def test_commas_part_the_jobs_of_a_sweep_unless_there_is_such_a_path(tmp_path):
    assert command_line.quote_paths(["folder=/my/Ö,/my/b"], is_sweep=True) == ['folder="/my/Ö",/my/b']
    assert command_line.quote_paths(["folder=/my/a,/my/b"], is_sweep=True) == ["folder=/my/a,/my/b"]
    assert command_line.quote_paths(["folder=/my/a,/my/b"], is_sweep=False) == ["folder=/my/a,/my/b"]  # Hydra asks for -m
    there = tmp_path / "a, b"
    there.mkdir()
    for is_sweep in (True, False):
        for path in (there, there / "new"):
            (word,) = command_line.quote_paths([f"output={path}"], is_sweep)
            assert read(word) == str(path)
    (tmp_path / " 5 ").mkdir()
    assert read(*command_line.quote_paths([f"folder={tmp_path}/ 5 "], is_sweep=False)) == f"{tmp_path}/ 5 "


def test_the_commands_arguments_are_quoted(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run.py", "data=folder", "folder=/my/Ö"])
    assert launch.exit_status_of(lambda: None) == 0
    assert sys.argv == ["run.py", "data=folder", 'folder="/my/Ö"']


@pytest.mark.parametrize("word", ["shots={a", "shots=[ö", "shots=", "shots", "=ö(", "shots=5", "data.name=ö("])
def test_quotes_are_advised_only_where_they_help(word):
    assert ("quotes" in command_line.needs_quotes(word)) == (word == "data.name=ö(")
