"""Checks that ruff does not have: the lengths of files and functions, and docstrings of everything public.

python .ci/check_limits.py [FOLDER]

Checks every Python file that git knows below the folder (default: the project), except `tests/golden`, which is kept as it was
recorded. Tests need no docstrings. Prints one line per finding; the exit status is 1 where there is one.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES, FUNCTION_LINES = 260, 60
KEPT_AS_THEY_CAME = "tests/golden/"
# Methods that are documented in a library's class: overrides of them need no docstring.
LIBRARY_METHODS = {
    # torch
    "forward", "backward", "setup_context", "train", "eval", "state_dict", "load_state_dict", "step",
    # torchmetrics, pickle, html.parser
    "update", "compute", "find_class", "handle_starttag", "handle_endtag", "handle_data",
    # lightning
    "training_step", "validation_step", "test_step", "configure_optimizers", "configure_callbacks", "setup", "teardown",
    "train_dataloader", "val_dataloader", "test_dataloader", "optimizer_step", "save_checkpoint", "load_checkpoint",
    "get_metrics", "log_metrics", "log_hyperparams", "save", "finalize", "name", "version", "experiment",
}  # fmt: skip
LIBRARY_PREFIX = "on_"  # hooks of Lightning and Hydra
Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(root: Path) -> list[Path]:
    """The Python files that git tracks or would track, below `root`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", "*.py"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    names = sorted({name for name in listed.split("\0") if name and not name.startswith(KEPT_AS_THEY_CAME)})
    return [root / name for name in names if (root / name).is_file()]


def long_parts(name: str, text: str, tree: ast.Module) -> Iterator[str]:
    """A line for a file that is too long, and for each function in it that is, its decorators not counted."""
    lines = len(text.splitlines())
    if lines > FILE_LINES:
        yield f"{name}: {lines} lines, more than {FILE_LINES}"
    for node in ast.walk(tree):
        if isinstance(node, Function) and (lines := node.end_lineno - node.lineno + 1) > FUNCTION_LINES:
            yield f"{name}:{node.lineno}: {node.name} has {lines} lines, more than {FUNCTION_LINES}"


class Classes:
    """The classes of the project by name; classes with the same name count as one."""

    def __init__(self, trees: list[ast.Module]):
        self.bases: dict[str, set[str]] = {}
        self.documented: dict[str, set[str]] = {}
        for node in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            names = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
            self.bases.setdefault(node.name, set()).update(names)
            methods = {child.name for child in node.body if isinstance(child, Function) and ast.get_docstring(child)}
            self.documented.setdefault(node.name, set()).update(methods)
        protocols = {name for name, bases in self.bases.items() if "Protocol" in bases}
        self.of_protocols = {method for name in protocols for method in self.documented[name]}

    def inherits_docstring(self, of: str, method: str) -> bool:
        """Whether a base of this class, ours or a library's, documents the method, or a `Protocol` of ours, which need not be
        a base."""
        if method in self.of_protocols:
            return True
        pending, seen = list(self.bases.get(of, ())), {of}
        while pending:
            base = pending.pop()
            if base in seen or base == "Protocol":
                continue
            seen.add(base)
            if base not in self.bases and (method in LIBRARY_METHODS or method.startswith(LIBRARY_PREFIX)):
                return True
            if method in self.documented.get(base, ()):
                return True
            pending += self.bases.get(base, ())
        return False


def undocumented(name: str, tree: ast.Module, classes: Classes) -> Iterator[str]:
    """A line for each public module, function, class and method without a docstring. Excepted are overrides of a documented
    method, what a documented `Protocol` asks for, methods with two underscores, properties of one line, and overloads."""
    if tree.body and not ast.get_docstring(tree):
        yield f"{name}: the file has no docstring"
    pending: list[tuple[ast.AST, str]] = [(tree, "")]
    while pending:
        parent, prefix = pending.pop(0)
        for node in ast.iter_child_nodes(parent):
            if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
                continue
            if isinstance(node, ast.ClassDef):
                pending.append((node, f"{prefix}{node.name}."))
            elif isinstance(parent, ast.ClassDef) and (
                classes.inherits_docstring(parent.name, node.name) or is_short_property(node)
            ):
                continue
            if not ast.get_docstring(node) and "overload" not in map(ast.unparse, node.decorator_list):
                yield f"{name}:{node.lineno}: {prefix}{node.name} has no docstring"


def is_short_property(node: Function) -> bool:
    """Whether this is a property that returns one expression, so that its name says all."""
    marks = {ast.unparse(mark).split(".")[-1] for mark in node.decorator_list}
    return bool(marks & {"property", "cached_property", "setter"}) and len(node.body) == 1


def findings(root: Path) -> list[str]:
    """All findings below a folder, one line each."""
    texts = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in python_files(root)}
    trees = {name: ast.parse(text, name) for name, text in texts.items()}
    classes = Classes(list(trees.values()))
    problems = [line for name, tree in trees.items() for line in long_parts(name, texts[name], tree)]
    code = {name: tree for name, tree in trees.items() if not name.startswith("tests/")}
    return problems + [line for name, tree in code.items() for line in undocumented(name, tree, classes)]


def main(arguments: list[str]) -> int:
    """Prints the findings; the exit status."""
    problems = findings(Path(arguments[0]) if arguments else Path(__file__).resolve().parents[1])
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
