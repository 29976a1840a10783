"""A list of the private names of libraries that are used, by file, each with the reason why there is no public way."""

import ast

import pytest
from toys import ROOT

FOLDERS = ("datamodules", "files", "hydra_plugins", "lightning_modules", "prompts", "reports", "runs", "tests", "tools")
SCRIPTS = ("run.py", "report.py")
# Private modules without an underscore
INSIDE = ("hydra._internal", "hydra.core.global_hydra", "hydra.core.singleton")
CONFIG_KEYS = {"_target_", "_partial_"}  # keys of a config are attributes too
ALLOWED = {
    ("lightning_modules/callbacks.py", "_signal_connector"): "no public way to replace Lightning's handler of SIGTERM",
    ("lightning_modules/callbacks.py", "_sigterm_notifier_fn"): "as above",
    ("runs/arguments.py", "_get_full_key"): "no public way to ask a node of a config for its key",
    ("runs/jobs.py", "hydra.core.global_hydra"): "the options of all groups, for --help: Hydra offers them to plugins alone",
    ("runs/signals.py", "_exit"): "os._exit, which is documented",
    ("runs/ranks.py", "_exit"): "as above",
    ("runs/worker.py", "_exit"): "as above",
    ("datamodules/few_shot.py", "_replace"): "of a named tuple, documented",
    ("prompts/engine/timm_vit.py", "_pos_embed"): "timm has no public way from patches to the blocks' input",
    ("prompts/parts/guided_maps.py", "_version"): "torch has no public counter of a tensor's changes in place",
    ("prompts/parts/text_features.py", "_version"): "torch has no public counter of a tensor's changes in place",
    ("tests/faster.py", "_utils"): "what OmegaConf and Hydra parse is kept for a test's process, which they have no way for",
    ("tests/faster.py", "hydra._internal"): "as above",
    ("tests/forked.py", "_exit"): "os._exit, which is documented",
    ("tests/forked.py", "_run_exitfuncs"): "a forked test ends as a process would",
    ("tests/toys.py", "_exit"): "os._exit, which is documented",
    ("tests/fake_gpu.py", "_is_param"): "a parameter of another class is one for modules by this mark alone",
    ("tests/lightning_modules/test_no_waits.py", "_device"): "a module on a device that is not there, without a trainer",
    ("tests/lightning_modules/test_no_waits.py", "_trainer"): "as above",
    ("tests/lightning_modules/test_no_waits.py", "_trained"): "as above",
    ("tests/prompts/engine/test_towers.py", "_embeds"): "open_clip's own image tower is the reference",
    ("tests/prompts/test_rpp.py", "_embeds"): "as above",
    ("tests/prompts/engine/test_kinds.py", "_pos_embed"): "timm's own image tower is the reference",
    ("tests/security/test_archives.py", "_utils"): "as below",
    ("tests/security/test_archives.py", "_rebuild_tensor_v2"): "as below",
    ("tests/security/archive_files.py", "_utils"): "how a torch archive names its tensors",
    ("tests/security/archive_files.py", "_rebuild_tensor_v2"): "as above",
    ("tests/runs/test_jobs.py", "hydra.core.global_hydra"): "nothing of a composed job may stay in Hydra",
    ("tests/test_bad_inputs.py", "hydra._internal"): "command lines are composed within the test's process, as run.py would",
}


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in CONFIG_KEYS


def own_names(tree):
    """Names that a file defines or sets on its own objects."""
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return defined | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and of_self(node)}


def of_self(node):
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def private_names(source):
    """Private names of others that a file uses."""
    tree = ast.parse(source)
    own = own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
            yield node.attr
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (inside for module in modules for inside in INSIDE if module.startswith(inside))


def test_private_names_are_listed():
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    files += [ROOT / name for name in SCRIPTS]
    used = {(path.relative_to(ROOT).as_posix(), name) for path in files for name in private_names(path.read_text())}
    unlisted, stale = sorted(used - ALLOWED.keys()), sorted(ALLOWED.keys() - used)
    assert not unlisted, f"use the public way, or say in ALLOWED and in a comment there why there is none: {unlisted}"
    assert not stale, f"these uses are gone, take them out of ALLOWED: {stale}"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("trainer._connector.x = 1", ["_connector"]),
        ("class A:\n    def _mine(self): ...\na._mine(); a._other()", ["_other"]),
        ("from hydra._internal.utils import x", ["hydra._internal"]),
        ("import hydra.core.singleton", ["hydra.core.singleton"]),
        ("cfg._target_; a.__dict__", []),
    ],
)
def test_the_walk_sees_private_names(source, names):
    assert sorted(private_names(source)) == names
