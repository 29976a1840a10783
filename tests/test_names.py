"""Shared files name no method, no task and no protocol, so that one is added without changing a shared file."""

import ast
import re

import pytest
from toys import ROOT

GROUPS = ("method", "task", "protocol")
# Files shared by all methods, tasks and protocols. Below are the exceptions, which belong to one of them.
SHARED = ("run.py", "report.py", "runs", "lightning_modules", "reports", "datamodules/module.py", "datamodules/few_shot.py",
          "datamodules/loaders.py", "datamodules/evaluation.py", "prompts/learner.py", "prompts/prompted_clip.py",
          "prompts/engine")  # fmt: skip
# A task's own module and its own sections of the report, and what is read of each task's samples.
TASKS = [path.stem for path in (ROOT / "conf/task").glob("*.yaml")]
OWN = {f"{room}/{task}.py" for task in TASKS for room in ("lightning_modules", "reports")} | {"reports/samples.py"}
# Words of English, and a file, that are also names of options.
OTHER_MEANINGS = {"open", "few_shot", "captions", "pixels", "detection"}  # a detection is a box that was found
# data.sampler=coop: images are drawn as in that repository, whatever method is trained on them
SAMPLER = {("datamodules/module.py", "coop"), ("datamodules/few_shot.py", "coop")}


def names():
    """Option -> its group."""
    return {path.stem: group for group in GROUPS for path in sorted((ROOT / "conf" / group).glob("*.yaml"))}


def files():
    folders = [ROOT / name for name in SHARED]
    findings = [path for folder in folders for path in ([folder] if folder.is_file() else sorted(folder.rglob("*.py")))]
    return [path for path in findings if path.relative_to(ROOT).as_posix() not in OWN]


def words(tree):
    """(line, word) of identifiers, modules, attributes, keywords and words within texts; no docstrings, no comments."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node)
    }
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        for value in vars(node).values():
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    yield from ((getattr(node, "lineno", 0), word) for word in re.findall(r"[^\W\d]\w*", text))


def parts(word):
    """The word, and the words it is made of: `DPLSearch` and `dpl_search` are dpl_search, `is_coop` is coop as well."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", word).lower()
    pieces = snake.split("_")
    runs = ("_".join(pieces[i:j]) for i in range(len(pieces)) for j in range(i + 1, len(pieces) + 1))
    return {snake, word.lower(), *runs}


def named(text, options):
    """(line, option) for every option that the file names."""
    findings = {(line, part) for line, word in words(ast.parse(text)) for part in parts(word)}
    return sorted((line, part) for line, part in findings if part in options)


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_shared_files_name_no_method_task_or_protocol(path):
    file = path.relative_to(ROOT).as_posix()
    options = {name: group for name, group in names().items() if name not in OTHER_MEANINGS and (file, name) not in SAMPLER}
    findings = [f"line {line}: the {options[name]} {name}" for line, name in named(path.read_text(), options)]
    assert not findings, "say what a method, task or protocol offers or declares, rather than its name"


def test_the_defaults_list_alone_names_options_in_the_root_config():
    """conf/config.yaml: the options of a run without overrides are in its defaults list, and nowhere else."""
    lines = (ROOT / "conf/config.yaml").read_text().splitlines()
    lines = [line.partition("#")[0] for line in lines if not re.fullmatch(r"  - \w+: \w+ *(#.*)?", line)]
    findings = [name for name in names() if re.search(rf"(?<![\w-]){name}(?![\w-])", "\n".join(lines))]
    assert not set(findings) - OTHER_MEANINGS


def test_the_walk_sees_names(tmp_path):
    options = {"coop", "dpl_search", "base_to_new"}
    assert named("from prompts.coop import CoOp", options) == [(1, "coop")]
    assert named("x = {'a': f'method={y}-coop'}", options) == [(1, "coop")]
    assert named("if isinstance(learner, DPLSearch): pass", options) == [(1, "dpl_search")]
    assert named("def is_base_to_new(self): pass", options) == [(1, "base_to_new")]
    assert named("f(coop=1)\na.coop", options) == [(1, "coop"), (2, "coop")]
    assert named('"""As coop."""\n\n\ndef f():\n    """As coop."""\n    return cooperate  # coop', options) == []
