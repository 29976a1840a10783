"""The check of lengths and docstrings that is a part of `make check`."""

import importlib.util
import subprocess
import sys

import pytest
from toys import ROOT

SCRIPT = ROOT / ".ci" / "check_limits.py"
spec = importlib.util.spec_from_file_location("check_limits", SCRIPT)
check_limits = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_limits)


@pytest.fixture
def project(tmp_path):
    """A git repository of these files; what the script finds in it."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)

    def problems(**texts):
        for name, text in texts.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return check_limits.findings(tmp_path)

    return problems


def function(lines):
    return '"""A file."""\n\n\ndef long():\n    """A function."""\n' + "    x = 1\n" * (lines - 2)


def test_lengths(project):
    assert project(a='"""A file."""\n' + "x = 1\n" * 259) == []
    assert project(a='"""A file."""\n' + "x = 1\n" * 260) == ["a.py: 261 lines, more than 260"]
    assert project(a=function(60)) == []
    assert project(a=function(61)) == ["a.py:4: long has 61 lines, more than 60"]
    assert project(a='"""A file."""\n', tests__test_a=function(61)) == ["tests/test_a.py:4: long has 61 lines, more than 60"]


def test_files_that_git_does_not_know_are_left_alone(project, tmp_path):
    (tmp_path / ".gitignore").write_text("ignored/\n")
    assert project(ignored__a=function(99), tests__golden__a=function(99)) == []


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("def a(): ...", ["a"]),
        ("async def a(): ...", ["a"]),
        ("class A:\n    def b(self): ...", ["A", "A.b"]),
        ("class A:\n    '''A class.'''\n    class B:\n        '''Within.'''\n        def c(self): ...", ["A.B.c"]),
        ("def _a(): ...\nclass _A:\n    def b(self): ...", []),
        ("def a():\n    '''A function.'''\n    def b(): ...", []),
        ("class A:\n    '''A class.'''\n    def __len__(self): ...", []),
        ("class A:\n    '''A class.'''\n    @property\n    def b(self):\n        return 1", []),
        ("class A:\n    '''A class.'''\n    @property\n    def b(self):\n        c = 1\n        return c", ["A.b"]),
        # overrides
        (
            "class A:\n    '''A.'''\n    def b(self):\n        '''B.'''\nclass C(A[int]):\n    '''C.'''\n    def b(self): ...",
            [],
        ),
        ("class A(Module):\n    '''A.'''\n    def forward(self): ...\n    def on_fit_end(self): ...", []),
        ("class A:\n    '''A.'''\n    def forward(self): ...", ["A.forward"]),
        ("class A(Module):\n    '''A.'''\n    def another(self): ...", ["A.another"]),
        ("class A(Protocol):\n    '*'\n    def b(self):\n        '*'\nclass C:\n    '*'\n    def b(self): ...", []),
        ("class A(Protocol):\n    '*'\n    def b(self): ...\nclass C:\n    '*'\n    def b(self): ...", ["A.b", "C.b"]),
        ("class A(A):\n    '''A.'''\n    def b(self): ...", ["A.b"]),
    ],
)
def test_docstrings(project, code, missing):
    problems = project(a=f'"""A file."""\n{code}\n')
    assert [line.split()[1] for line in problems] == missing
    assert all(line.endswith("has no docstring") for line in problems)
    assert project(a="", tests__test_a=code) == []  # tests need none


def test_the_command(project, tmp_path):
    project(a="x = 1\n")
    ended = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "a.py: the file has no docstring\n", "")
    project(a='"""A file."""\n')
    ended = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
