"""Packages import each other in one direction: entry points -> lightning_modules, reports -> runs, prompts -> files.

Imports anywhere in a file count."""

import ast

import pytest
from toys import ROOT

OURS = {"files", "prompts", "runs", "lightning_modules", "datamodules", "reports", "tools", "run", "report", "benchmarks"}
TORCH = {"torch", "lightning", "torchvision", "torchmetrics", "open_clip", "wandb"}
FORBIDDEN = {
    "files": {"torch", "numpy", "lightning", "hydra", "omegaconf"} | OURS - {"files"},
    "prompts": {"lightning", "pytorch_lightning", "hydra", "omegaconf", "wandb"} | OURS - {"prompts", "files"},
    "datamodules": {"open_clip"} | OURS - {"datamodules", "files"},
    "runs": TORCH | OURS - {"runs", "datamodules", "files"},
    "lightning_modules": {"open_clip"} | OURS - {"lightning_modules", "prompts", "datamodules", "runs", "files"},
    "reports": {"open_clip"} | OURS - {"reports", "lightning_modules", "prompts", "datamodules", "runs", "files"},
    "tools": {"run", "report", "benchmarks"},
}
ALLOWED = {
    # the class names of ImageNet, data that happens to live in open_clip
    ("datamodules/imagenet.py", "open_clip"),
    # the names of weight files, which import nothing
    ("runs/identity.py", "prompts"),
    # W&B gets the tables of a finished run
    ("lightning_modules/loggers.py", "reports"),
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_do_not_import_upwards(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {(str(path.relative_to(ROOT)), name) for path in files for name in imported(path)}
    assert {(path, name) for path, name in wrong if name in FORBIDDEN[package]} <= ALLOWED


def test_one_file_opens_the_towers():
    users = {str(path.relative_to(ROOT)) for path in (ROOT / "prompts").rglob("*.py") if "open_clip" in set(imported(path))}
    # names and configs of architectures, where their weights are, how they want images and texts
    sources = {"architecture", "clip_config", "fitting", "hub", "preprocessing", "tokenizer_files"}
    assert users == {"prompts/engine/clip.py"} | {f"prompts/engine/{name}.py" for name in sources}


def test_a_sweeps_parent_imports_neither_torch_nor_lightning():
    import subprocess
    import sys

    code = "import sys, run; sys.exit(any(name in sys.modules for name in ('torch', 'lightning', 'wandb')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
