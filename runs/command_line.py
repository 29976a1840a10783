"""Words of the command line before Hydra reads them: its grammar knows few of the marks that paths have. Imports no torch."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

CONF = Path(__file__).parents[1] / "conf"
# Keys whose values are paths. Other values keep Hydra's grammar, as lists and numbers stand there too.
PATHS = ("folder", "ckpt", "init_from", "output", "data_root", "data_index", "clip.weights", "features.store")
FUNCTIONS = "|".join(map(re.escape, create_functions().functions))  # Hydra's: choice, range, interval, ...
# What is meant for Hydra and not for the disk, where no file has this name: quotes, lists, mappings, functions, interpolations.
GRAMMAR = re.compile(rf"""\s*(['"\[{{]|({FUNCTIONS})\()|.*\$\{{""", re.DOTALL)


def quote_paths(words: Sequence[str], is_sweep: bool) -> list[str]:
    """The words, with the values of `PATHS` in quotes where Hydra would not read them as they are.

    Args:
        words: of the command line, without the script's name.
        is_sweep: with -m, in which commas stand between the values of jobs.
    """
    return [_quoted_word(word, is_sweep) for word in words]


def _quoted_word(word: str, is_sweep: bool) -> str:
    key, equals, value = word.partition("=")
    if not equals or key.lstrip("+") not in PATHS or not value.isprintable():
        return word
    if is_sweep and "," in value and not _is_there(value) and _parsed(value) is None:
        return f"{key}={','.join(_quoted(part) for part in value.split(','))}"
    return f"{key}={_quoted(value)}"


def _quoted(value: str) -> str:
    """A path as Hydra's grammar has it. Unchanged where Hydra reads it, unless it is there and read as another."""
    override = _parsed(value)
    if _is_there(value):
        good = override is not None and not override.is_sweep_override() and override.value() in (value, None)
    else:
        good = override is not None or bool(GRAMMAR.match(value))
    return value if good else in_quotes(value)


def _is_there(path: str) -> bool:
    """Whether the path is on the disk, or could be made in a folder whose own name has a comma."""
    folder = os.path.dirname(path)
    return os.path.exists(path) or ("," in folder and os.path.isdir(folder))


def in_quotes(value: str) -> str:
    """The text as a value that Hydra reads as this text."""
    return QuotedString(value, Quote.double).with_quotes()


def plain_path(value: str) -> str | None:
    """The path that a tool without Hydra was given as the value of a key, in quotes or not; None for null."""
    override = _parsed(value)
    if value[:1] in ("'", '"') and override is not None and not override.is_sweep_override():
        return str(override.value())
    return None if value == "null" else value


def _parsed(value: str) -> Override | None:
    """What Hydra reads a value as; None where it cannot."""
    try:
        return OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return None


def group_without_option(words: Sequence[str]) -> str | None:
    """One sentence for the first `GROUP=VALUE` whose value is no name, such as null or a number; None without any."""
    groups = {str(path.relative_to(CONF)) for path in CONF.rglob("*") if path.is_dir()} | {"hydra/launcher", "hydra/sweeper"}
    for word in words:
        key, equals, value = word.lstrip("+").partition("=")
        group = key.partition("@")[0]
        override = _parsed(value) if equals and group in groups else None
        if override is not None and not override.is_sweep_override() and not isinstance(override.value(), str | list):
            none = f"{group}=none for none" if (CONF / group / "none.yaml").exists() else "or leave it out"
            return f"{word} names no option: give {group}=NAME, {none}; --help lists them."
    return None


def needs_quotes(word: str) -> str:
    """What to write for a word that Hydra cannot read, where quotes around its value help; else ""."""
    key, equals, value = word.partition("=")
    if not (key and equals and value) or GRAMMAR.match(value) or not value.isprintable() or _parsed(value) is not None:
        return ""
    return f"the value needs quotes, in most shells {shlex.quote(f'{key}={in_quotes(value)}')}"
