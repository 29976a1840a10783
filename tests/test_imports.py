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
    "hydra_plugins": TORCH | {"optuna"} | OURS - {"runs"},
    "tools": {"run", "report", "benchmarks"},
}
ALLOWED = {
    # the class names of ImageNet, data that happens to live in open_clip
    ("datamodules/imagenet.py", "prompts"),
    # the names of weight files, which import nothing
    ("runs/identity.py", "prompts"),
    # W&B and TensorBoard get the tables of a finished run
    ("lightning_modules/shown.py", "reports"),
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


# Outside the engine: what is trained, and what is compared with the engine
OPENS_MODELS = {"benchmarks/plain.py"}


def opens_a_model(tree):
    """Whether a file reads the open_clip model in a FrozenCLIP (`clip.model`)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "model":
            holder = node.value
            name = holder.id if isinstance(holder, ast.Name) else getattr(holder, "attr", "")
            if name.endswith("clip"):
                return True
    return False


def test_only_the_engine_opens_the_towers():
    files = [path for path in ROOT.rglob("*.py") if not path.relative_to(ROOT).parts[0].startswith((".", "tests"))]
    outside = [path for path in files if not path.is_relative_to(ROOT / "prompts" / "engine")]
    assert len(outside) > 50
    users = {
        str(path.relative_to(ROOT))
        for path in outside
        if "open_clip" in set(imported(path)) or opens_a_model(ast.parse(path.read_text()))
    }
    assert users == OPENS_MODELS


def test_a_sweeps_parent_imports_neither_torch_nor_lightning():
    import subprocess
    import sys

    code = "import sys, run; sys.exit(any(name in sys.modules for name in ('torch', 'lightning', 'wandb')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
