"""Only files/whole.py writes files atomically; other code that renames or makes temporary files is listed here."""

import ast

from toys import ROOT

FOLDERS = ("datamodules", "files", "hydra_plugins", "lightning_modules", "prompts", "reports", "runs", "tools")
SCRIPTS = ("run.py", "report.py")
WATCHED = {"replace", "rename", "mkstemp", "mkdtemp", "NamedTemporaryFile"}
ALLOWED = {
    ("files/whole.py", "mkstemp"): "the writer itself",
    ("files/whole.py", "replace"): "the writer itself",
    ("datamodules/split_json.py", "mkstemp"): "of several writers the first one stays",
    ("datamodules/split_json.py", "replace"): "as above, where there are no hard links",
    ("datamodules/fetch.py", "rename"): "whole folders of a dataset that was unpacked",
    ("datamodules/fetch.py", "replace"): "as above",
    ("files/download.py", "replace"): "a download that is complete and checked takes its name",
    ("datamodules/index.py", "mkdtemp"): "a whole folder",
    ("datamodules/index.py", "rename"): "a whole folder",
    ("reports/insight/__main__.py", "replace"): "files of a finished folder",
    ("lightning_modules/loggers.py", "rename"): "the log of an earlier process is kept under a number",
    ("runs/sweep.py", "mkstemp"): "a sweep's journal, to which lines are added",
}


def renames(path):
    """Watched names that a file calls, `str.replace` and dataclasses' apart: those have two or more arguments, or keywords."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WATCHED):
            continue
        of_os = isinstance(node.func.value, ast.Name) and node.func.value.id == "os"
        if node.func.attr != "replace" or of_os or (len(node.args) == 1 and not node.keywords):
            yield node.func.attr


def test_one_writer_of_whole_files():
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    files += [ROOT / name for name in SCRIPTS]
    calls = {(path.relative_to(ROOT).as_posix(), name) for path in files for name in renames(path)}
    unlisted, stale = sorted(calls - ALLOWED.keys()), sorted(ALLOWED.keys() - calls)
    assert not unlisted, f"write through files/whole.py, or say in ALLOWED why not: {unlisted}"
    assert not stale, f"these calls are gone, take them out of ALLOWED: {stale}"


def test_the_walk_sees_renames(tmp_path):
    path = tmp_path / "writer.py"
    path.write_text("os.replace(a, b)\np.rename(b)\n'x'.replace('a', 'b')\ntempfile.mkstemp()\n")
    assert sorted(renames(path)) == ["mkstemp", "rename", "replace"]
