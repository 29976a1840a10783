"""Every command in the documentation can be read: run.py's lines compose, other lines are accepted by their tool's parser.

Nothing is trained, and no network is used. A line with something of the reader's own (data=birds) is only split into
overrides."""

import argparse
import ast
import importlib
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from toys import ROOT

from datamodules import fetch
from runs import arguments, jobs
from tools import cli, doctor, features, prompt_bank

# `make docs` reads the lines of all pages; the whole suite those that a newcomer meets first
FIRST = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/tutorial.md", "docs/faq.md")]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))] if "DOCS" in os.environ else FIRST
# Options that the text tells the reader to make, or to put a name for
READERS_OWN = {"mine", "birds", "trees", "NAME"}
STARTS = re.compile(r"(?:[A-Z_]+=\S+ +)*(?:\.venv/bin/)?(?:python|make|clip-prompts) ")


def commands(text):
    """The command lines of a page: in code blocks, and in code within sentences."""
    text = text.replace("\\\n", " ")
    blocks = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    blocks += [
        line.strip() for block in re.findall(r"^``` *(?:bash|sh)?\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()
    ]
    inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    inline = [line for line in inline if line != "python"]  # a value of a key
    return [line for line in [*blocks, *inline] if STARTS.match(f"{line} ") and not line.endswith("=")]


def words_of(line):
    """The words of a command line without its comment, its environment and the interpreter's folder."""
    words = shlex.split(line, comments=True)
    while re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    words = words[: words.index("&&")] if "&&" in words else words
    return [words[0].removeprefix(".venv/bin/"), *words[1:]]


LINES = {}
for page in PAGES:
    for command in commands(page.read_text()):
        LINES.setdefault(tuple(words_of(command)), page.name)
RUNS = {words: page for words, page in LINES.items() if words[:2] in (("python", "run.py"), ("clip-prompts", "run"))}
OTHERS = {words: page for words, page in LINES.items() if words not in RUNS}


def ids(lines):
    return [f"{page} {' '.join(words)}"[:120] for words, page in lines.items()]


def first_job(words):
    """The overrides of a command line's first job, and whether it names what the reader makes."""
    words, own = [word for word in words if word not in ("-m", "...")], False
    if "--config-dir" in words:
        at, own = words.index("--config-dir"), True
        del words[at : at + 2]
    overrides = []
    for override in OverridesParser.create().parse_overrides(words):
        if override.is_interval_sweep():
            continue
        value = next(override.sweep_string_iterator()) if override.is_sweep_override() else override.get_value_string()
        key = override.input_line.partition("=")[0]
        overrides.append(f"{key}={value}" if override.is_sweep_override() else override.input_line)
        own |= key in ("method", "data", "protocol") and value in READERS_OWN
    return overrides, own


@pytest.mark.parametrize("words", RUNS, ids=ids(RUNS))
def test_a_run_composes(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs.hub, "fetched", lambda name: name)  # from the network
    if "--help" in words or "epochs=abc" in words:  # the mistake that the tutorial shows
        return
    overrides, own = first_job(words[2:])
    if own:
        return
    cfg, _ = jobs.compose_job(overrides, ROOT / "conf")
    jobs.resolve(cfg)
    arguments.check_all(cfg)


class ParsedError(Exception):
    """A command line was accepted."""


def parses(module, words, monkeypatch):
    """Whether the tool's own argparse accepts the words. A refusal is a SystemExit."""
    parse, intermixed = argparse.ArgumentParser.parse_args, argparse.ArgumentParser.parse_intermixed_args

    def parse_args(self, args=None, namespace=None):
        parse(self, args, namespace)
        raise ParsedError

    def parse_intermixed_args(self):  # which calls parse_known_args alone
        intermixed(self)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_intermixed_args", parse_intermixed_args)
    monkeypatch.setattr(sys, "argv", [module, *words])
    try:
        importlib.import_module(f"{module}.__main__" if (ROOT / module.replace(".", "/")).is_dir() else module).main()
    except ParsedError:
        return True
    except SystemExit as ended:
        return ended.code == 0 and "--help" in words
    return False


def source_of(module):
    """The text of a module or of a package's __main__; nothing where there is none."""
    path = ROOT / module.replace(".", "/")
    files = [file for file in (path.with_suffix(".py"), path / "__main__.py") if file.is_file()]
    return files[0].read_text() if files else ""


def words_in(text):
    return re.findall(r"^([a-z_]+):", text, re.M)


def prompt_bank_takes(part, *rest):
    if part == "shapes":
        return len(rest) == 1
    given = [word for word in rest if "=" in word]
    return part in ("check", "ask") and isinstance(prompt_bank.parsed(given, getattr(prompt_bank, part.upper())), dict)


# Tools that read their words themselves: whether they take them; a ValueError says no
READ_THEMSELVES = {
    "tools.doctor": lambda *rest: bool(doctor.parsed([word for word in rest if "NAME" not in word])),
    "tools.features": lambda *rest: bool(features.parsed(rest)),
    "datamodules.fetch": lambda *rest: bool(fetch.parsed(rest, fetch.read_sources(fetch.SOURCES))),
    "tools.prompt_bank": lambda *rest: not rest or prompt_bank_takes(*rest),
    "tools.embedded_recipes": lambda *rest: len(rest) == 1,
    "tools.reference": lambda *rest: not rest,
    "tools.tiny_clip": lambda *rest: not rest,
    "pytest": lambda *rest: all((ROOT / word).exists() for word in rest if "/" in word),
    "benchmarks.": lambda *rest: not rest,  # a table names the rest
    "build": lambda *rest: not rest,
    "venv": lambda *rest: len(rest) == 1,
}


def understood(words, monkeypatch):
    """Whether the tool that a command line starts takes it. A ValueError, too, says that it does not."""
    match words:
        case ["make", *targets]:
            return set(targets) <= {*words_in((ROOT / "Makefile").read_text()), "..."}
        case ["clip-prompts"]:
            return True
        case ["clip-prompts", name, *rest]:
            return name in cli.COMMANDS and understood(["python", *cli.COMMANDS[name], *rest], monkeypatch)
        case ["python", "-P", *rest]:
            return understood(["python", *rest], monkeypatch)
        case ["python", "-c", text]:
            return bool(ast.parse(text))
        case ["python", "-m", module, *rest] if module in READ_THEMSELVES:
            return READ_THEMSELVES[module](*rest)
        case ["python", "-m", module, *rest] if "argparse.ArgumentParser(" in source_of(module):
            return parses(module, rest, monkeypatch)
        case ["python", path, *rest] if Path(path).name == "report.py":
            return parses("report", rest, monkeypatch)
        case ["python", path] if path.startswith(".ci/"):
            return (ROOT / path).is_file()
    return False


@pytest.mark.parametrize("words", OTHERS, ids=ids(OTHERS))
def test_another_command_is_understood(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert understood(list(words), monkeypatch), (
        "this tool does not take this command line, or this test does not know the tool"
    )


def test_commands_are_found():
    assert len(RUNS) > 60
    assert len(OTHERS) > 25
    lines = (
        "text `make demo`",
        "",
        "    python run.py \\",
        "        shots=1   # why",
        "    DATA=x python report.py outputs",
        "    pip x",
    )
    page = "\n".join(lines)
    found = [words_of(line) for line in commands(page)]
    assert found == [["python", "run.py", "shots=1"], ["python", "report.py", "outputs"], ["make", "demo"]]


@pytest.mark.parametrize(
    "line",
    ["make nothing", "python -m tools.nothing", "python report.py --nothing", "python -m tools.predict RUN", "python x.py"],
)
def test_what_is_wrong_is_seen(line, monkeypatch, capsys):
    assert not understood(line.split(), monkeypatch)
