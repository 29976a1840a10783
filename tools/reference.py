"""Writes docs/reference*.md: every key of the config, from conf/, runs/keys.py and the constructors.

    python -m tools.reference            # `make docs` does it; a test says that the committed pages are current

Keys, defaults and remarks are read from the yaml files as text, so that the pages show what they say. What a value may be comes
from runs/keys.py and, in the groups, from the annotations of the constructor that `_target_` names.
"""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from files.whole import write_text
from runs.arguments import HYDRA_KEYS, PROJECT_PACKAGES, SET_BY_THE_RUN, hints_of, import_target, type_in_words
from runs.keys import GROUP_KEYS, KEYS, PROCESSES, THREADS, shown
from runs.ranges import Key

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
OWN_PAGES = {"method": "reference_method.md", "data": "reference_data.md"}  # the groups that would make reference.md too long
# Groups whose options have keys of their own, with what they are; of the others the options are listed alone.
WITH_KEYS = {
    "method": "What is learned.",
    "data": "What is trained on and tested.",
    "clip": "The frozen CLIP.",
    "protocol": "Which classes train, which evaluations are made, and how they are summarised.",
    "task": "What a run is judged by. A dataset may select it.",
    "optim": "The optimiser; a method's recipe gives its rate.",
    "trainer": "The machine, and Lightning's Trainer.",
    "logger": "Where numbers are logged while a run trains.",
    "callbacks": "Lightning's callbacks.",
    "hydra/launcher": "How the jobs of a sweep are started, beside Hydra's own `basic` and `joblib`.",
    "hydra/sweeper": "A search: the sweep whose values Optuna proposes.",
    "hydra/sweeper/sampler": "What a search's values are proposed by.",
    "hydra/sweeper/pruner": "Which trials of a search end early.",
}
NAMES_ALONE = {
    "recipe": "What a method trains with; chosen by method, protocol, backbone and dataset. `recipe=none` takes none.",
    "experiment": "Whole command lines under one name: published rows, tables, searches.",
    "ablation": "Settings of RPP's ablation, with `+ablation=NAME`.",
    "search_space": "What a search varies beside the rate, by method.",
    "debug": "Short runs.",
}
WRITTEN = "Written by `make docs` from `conf/`, `runs/keys.py` and the constructors; not to be edited by hand."
HEAD = """# Every key

WRITTEN

A key is given as `KEY=VALUE`, one of a group as `GROUP.KEY=VALUE`, and `GROUP=NAME` chooses a file of `conf/GROUP`. A key
behind a `+` is an argument that the file leaves out: give it as it stands there. `python run.py --help` shows the same for your
own configs, too. A wrong value ends in one sentence before anything starts.

    python run.py method=coop method.n_ctx=4 shots=4 optim.lr=0.005

A value such as `${shots}` is that of another key.

The keys of [methods](reference_method.md) and of [datasets](reference_data.md) have pages of their own; all others are here.
""".replace("WRITTEN", WRITTEN)
KEY_LINE = re.compile(r"^( *)([\w./-]+): *(.*)$")
REMARK = re.compile(r"(?:^|\s+)# ?(.*)$")


@dataclass
class Line:
    """A key of a yaml file: its dotted name, its value as it is written ("" for a mapping below it), and its remark."""

    key: str
    value: str
    remark: str


def lines_of(path: Path) -> list[Line]:
    """The keys of a yaml file, without Hydra's defaults list."""
    found: list[Line] = []
    stack: list[tuple[int, str]] = []
    for text in path.read_text(encoding="utf-8").splitlines():
        if re.match(r" {12,}# ", text) and found:  # goes on with the remark of the line above
            found[-1].remark += " " + text.strip(" #")
        if not (match := KEY_LINE.match(text)):
            continue
        indent, name, rest = len(match[1]), match[2], match[3]
        remark = REMARK.search(rest)
        stack = [entry for entry in stack if entry[0] < indent] + [(indent, name)]
        key = ".".join(name for _, name in stack)
        found.append(Line(key, rest[: remark.start()].strip() if remark else rest.strip(), remark[1].strip() if remark else ""))
    return [line for line in found if line.key.split(".")[0] not in ("defaults", "hydra")]


def leading(path: Path) -> tuple[str, list[str]]:
    """The comment that a yaml file starts with: its prose, and the command lines in it."""
    comment = []
    for text in path.read_text(encoding="utf-8").splitlines():
        if not text.startswith("#"):
            break
        comment.append(text[1:])
    commands = [re.split(r"  +", text.strip())[0].split("; ")[0] for text in comment if text.startswith("   python ")]
    prose = " ".join(text.strip() for text in comment if not text.startswith("   ") and "@package" not in text)
    return prose.strip().rstrip(":"), commands


def cell(text: str) -> str:
    """Plain text in a table."""
    return html.escape(text, quote=False).replace("|", "&#124;").replace("*", "\\*")


def code(text: str) -> str:
    """Code in a table."""
    return (
        f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`" if text else ""
    )


def table(rows: list[tuple[str, str, str, str]]) -> Iterator[str]:
    """A table of keys: name, default, what it may be, remark."""
    yield from ("", "| key | default | what it takes | |", "|---|---|---|---|")
    for key, default, takes, remark in rows:
        yield f"| {code(key)} | {code(default)} | {cell(takes)} | {cell(remark)} |"
    yield ""


def root_keys() -> Iterator[str]:
    """The keys of conf/config.yaml."""
    lines = lines_of(ROOT / "conf/config.yaml")
    hints, rows = hints_at(lines, "config"), []
    for line in lines:
        if line.value and not line.key.endswith("._target_"):
            takes = in_words(KEYS[line.key]) if line.key in KEYS else takes_of(hints.get(line.key))
            rows.append((line.key, line.value, takes, line.remark))
    yield from ("## Of a run", *table(rows))


def in_words(key: Key) -> str:
    """What a key takes, without bounds that depend on the machine."""
    text = re.sub(r"^(give|choose) ", "", key.give)
    return re.sub(rf" from \d+ to ({PROCESSES}|{THREADS})$", "", text)


def hints_at(lines: list[Line], where: str) -> dict[str, Any]:
    """The constructor's annotations by dotted key, for each `_target_` of a file."""
    hints = {}
    for line in lines:
        if line.key.rpartition(".")[2] == "_target_" and line.value:
            prefix = line.key.removesuffix("_target_")
            target = import_target(line.value, where)
            hints |= {prefix + name: hint for name, hint in hints_of(getattr(target, "passes_to", target)).items()}
            hints |= {prefix + name: hint for name, hint in hints_of(target).items()}
    return hints


def left_out(lines: list[Line], group: str, inherited: set[str]) -> Iterator[tuple[str, str, str, str]]:
    """Arguments of our own constructors that no file gives."""
    [top] = [line.value for line in lines if line.key == "_target_"] or [""]
    if top.split(".")[0] not in PROJECT_PACKAGES:
        return
    target = import_target(top, group)
    given = {line.key for line in lines} | inherited | {*SET_BY_THE_RUN.get(group, ())}
    hints = hints_of(target)
    for name, parameter in inspect.signature(target).parameters.items():
        if name in given or parameter.default is inspect.Parameter.empty:
            continue
        default = parameter.default
        text = shown(default) if default is None or isinstance(default, bool) else str(default)
        plain = isinstance(default, bool | int | float | str | list | tuple | None)
        yield f"+{group}.{name}", text if plain else "", takes_of(hints.get(name)), ""


def takes_of(hint: Any) -> str:
    """What an argument of this annotation takes, in words; nothing where there is none."""
    return "" if hint in (None, Any) else type_in_words(hint)


def parents(path: Path) -> list[Path]:
    """The files that a yaml file inherits from, by its defaults list."""
    match = re.search(r"^defaults:((?: \[.*?\])|(?:\n  - .*)+)", path.read_text(encoding="utf-8"), re.M)
    names = re.findall(r"(?:[\[,]|- ) *(\w+)(?=[,\]\n]|$)", match[1]) if match else []
    return [file for name in names if (file := path.with_name(f"{name}.yaml")).exists() and name != "_self_"]


def option(path: Path, group: str) -> Iterator[str]:
    """The section of one option: its comment, and its keys."""
    prose, commands = leading(path)
    yield from (f"### {group}={path.stem}" if not path.stem.startswith("_") else f"### Shared: {path.stem}", "")
    if prose:
        yield from (cell(prose) + ".", "") if not prose.endswith((".", ")")) else (cell(prose), "")
    yield from [f"    {command}" for command in commands] + [""] * bool(commands)
    bases = parents(path)
    if bases:
        yield from ("Also the keys of " + ", ".join(f"`{base.stem}`" for base in bases) + ".", "")
    lines, inherited = lines_of(path), [line for base in bases for up in (*parents(base), base) for line in lines_of(up)]
    hints = hints_at(inherited, group) | hints_at(lines, group)
    rows = []
    for line in lines:
        if line.key.rpartition(".")[2] in HYDRA_KEYS or not line.value:
            continue
        name = f"{group.replace('/', '.')}.{line.key}"
        takes = in_words(GROUP_KEYS[name]) if name in GROUP_KEYS else takes_of(hints.get(line.key))
        rows.append((name, line.value, takes, line.remark))
    if not path.stem.startswith("_") or group != "data":
        rows += left_out(lines, group, {line.key for line in inherited})
    if rows:
        yield from table(rows)


def options(group: str) -> list[Path]:
    """The files of a group, those that others inherit first."""
    return sorted((ROOT / "conf" / group).glob("*.yaml"), key=lambda path: (not path.stem.startswith("_"), path.stem))


def section(group: str) -> Iterator[str]:
    """The section of a group whose options have keys."""
    yield from (f"## {group}", "", WITH_KEYS[group], "")
    for path in options(group):
        yield from option(path, group)


def names(group: str) -> Iterator[str]:
    """The section of a group whose options are listed alone."""
    yield from (f"## {group}", "", NAMES_ALONE[group], "", f"| `{group}=` | |", "|---|---|")
    yield from (f"| `{path.stem}` | {cell(leading(path)[0])} |" for path in options(group) if not path.stem.startswith("_"))
    yield ""


def pages() -> dict[str, str]:
    """The text of each page by its file's name."""
    rest = [line for group in WITH_KEYS if group not in OWN_PAGES for line in section(group)]
    found = {"reference.md": [HEAD, *root_keys(), *rest, *(line for group in NAMES_ALONE for line in names(group))]}
    for group, page in OWN_PAGES.items():
        head = f"{WRITTEN} [Keys of a run and of the other groups](reference.md)."
        found[page] = [f"# Every key of `{group}`", "", head, "", *section(group)]
    return {page: re.sub(r"\n{3,}", "\n\n", "\n".join(text)).rstrip() + "\n" for page, text in found.items()}


if __name__ == "__main__":
    for name, text in pages().items():
        write_text(DOCS / name, text)
        print(f"wrote {DOCS / name}")
