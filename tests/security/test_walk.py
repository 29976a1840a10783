"""A list of all calls that can run code, or read without bounds, by file, each with the reason why it is safe there."""

import ast

from toys import ROOT

FOLDERS = ("files", "hydra_plugins", "prompts", "datamodules", "lightning_modules", "runs", "reports", "tools")
SCRIPTS = ("run.py", "report.py")

# A single word is a name of its own (`eval`, not `model.eval`); of dotted names the last parts count. Any mention counts, as
# `partial(instantiate, ...)` is no call of it.
WATCHED = {
    # deserialisers that run code, or that hand a file to one that does
    "torch.load", "torch.jit.load", "pickle.load", "pickle.loads", "pickle.Unpickler", "pickle._Unpickler", "np.load",
    "joblib.load", "yaml.load", "yaml.safe_load", "loadmat", "load_file",
    # names and texts that become code
    "eval", "exec", "__import__", "importlib.import_module", "import_module", "pkgutil.resolve_name",
    "get_class", "get_method", "get_object",
    "instantiate", "hydra.utils.call",
    # texts that OmegaConf resolves
    "OmegaConf.create", "OmegaConf.load", "OmegaConf.from_dotlist", "OmegaConf.from_cli", "OmegaConf.merge",
    "OmegaConf.update", "merge_with_dotlist", "merge_with_cli",
    # readers without bounds on size, depth or type
    "json.load", "json.loads", "tarfile.open", "zipfile.ZipFile", "ZipFile", "datasets.load_dataset",
    # other programs
    "os.system", "os.popen", "subprocess.run", "subprocess.Popen", "subprocess.check_output",
}  # fmt: skip


OURS = "composes the yaml files of the project and of the user's --config-dir, which are code"
ALLOWED = {
    ("runs/jobs.py", "OmegaConf.merge"): OURS,
    ("runs/earlier.py", "OmegaConf.merge"): "of what a config says an earlier run has otherwise: the yaml files and overrides",
    ("runs/earlier.py", "OmegaConf.update"): "sets a key to the path of an earlier run's folder",
    ("runs/recipe_files.py", "OmegaConf.create"): OURS,
    ("runs/recipe_files.py", "OmegaConf.load"): OURS,
    ("runs/recipe_files.py", "OmegaConf.merge"): OURS,
    ("runs/arguments.py", "instantiate"): OURS,
    ("runs/arguments.py", "pkgutil.resolve_name"): "imports the `_target_` of a yaml or of the command line",
    ("runs/journal.py", "json.loads"): "the journal of this sweep's own jobs",
    ("runs/sweep.py", "subprocess.Popen"): "the jobs of a sweep: the user's own overrides, no shell",
    ("runs/trial_jobs.py", "subprocess.Popen"): "the jobs of a search, as those of a sweep",
    ("runs/trials.py", "instantiate"): OURS,
    ("runs/trials.py", "OmegaConf.merge"): OURS,
    ("runs/gpus.py", "subprocess.run"): "nvidia-smi, with fixed arguments",
    ("runs/ranks.py", "subprocess.Popen"): "a type: the ranks that Lightning has started",
    ("lightning_modules/resume_state.py", "torch.load"): "weights_only=True, after prompts.engine.archives.check_state",
    ("lightning_modules/caption_tokens.py", "subprocess.run"): "Java's tokenizer, of an installed package, without a shell",
    ("lightning_modules/caption_metrics.py", "import_module"): "the scorers of the package pycocoevalcap, by fixed names",
    ("reports/tasks.py", "yaml.safe_load"): "conf/task/NAME.yaml of the project and of the user's --config-dir, which are code",
    ("reports/tasks.py", "importlib.import_module"): "the module that such a yaml names; a result names a task and no module",
    ("reports/arrays.py", "zipfile.ZipFile"): "predictions.npz: sizes are checked before anything is unpacked",
    ("prompts/parts/named_learners.py", "importlib.import_module"): "the modules of the package prompts itself",
    ("prompts/engine/archives.py", "zipfile.ZipFile"): "weights and checkpoints: sizes are checked, members are read as bytes",
    ("prompts/engine/weights.py", "load_file"): "safetensors: its header is checked against the file's size",
    ("prompts/parts/reference_prompts.py", "load_file"): "safetensors: our own cache; shapes are checked",
    ("files/untrusted.py", "json.loads"): "the one reader of JSON, bounded in size and depth",
    ("tools/dataset_config.py", "OmegaConf.create"): "our own defaults",
    ("tools/dataset_config.py", "OmegaConf.load"): OURS,
    ("tools/dataset_config.py", "OmegaConf.merge"): OURS,
    ("tools/doctor.py", "OmegaConf.from_dotlist"): "the user's own command line",
    ("tools/doctor.py", "OmegaConf.merge"): OURS,
    ("tools/doctor.py", "instantiate"): OURS,
    ("tools/prompt_bank.py", "OmegaConf.from_dotlist"): "the user's own command line",
    ("tools/prompt_bank.py", "OmegaConf.merge"): OURS,
    ("tools/prompt_bank.py", "instantiate"): OURS,
    (
        "datamodules/hub.py",
        "datasets.load_dataset",
    ): "runs no code of a repository: not by default in version 3, not at all from 4 on",
    ("datamodules/fetch.py", "yaml.safe_load"): "our own table of addresses",
    ("files/unpack.py", "tarfile.open"): "names, kinds, sizes and numbers are checked; members are read, never extracted",
    ("files/unpack.py", "zipfile.ZipFile"): "names, kinds, sizes and numbers are checked; members are read, never extracted",
    ("datamodules/imagenet21k.py", "zipfile.ZipFile"): "the tree file: sizes are checked before its pickle is unpacked",
    ("datamodules/index.py", "np.load"): "allow_pickle=False, memory-mapped; shapes and types are checked",
    ("datamodules/mat.py", "loadmat"): "sizes and depth are checked before",
    ("datamodules/tar_shards.py", "tarfile.open"): "members are read at their offsets, never extracted",
    ("datamodules/shapes21k.py", "tarfile.open"): "writes shards of drawn images",
}


def dotted(node):
    """`a.b.c` of a name or an attribute; "" for other expressions."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def mentions(path):
    """The watched names that a file mentions."""
    for node in ast.walk(ast.parse(path.read_text())):
        parts = dotted(node).split(".")
        tails = {".".join(parts[i:]) for i in range(len(parts) - 1)} if len(parts) > 1 else set(parts)
        if watched := tails & WATCHED:
            yield max(watched, key=len)


def test_calls_that_could_run_a_file_are_listed():
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    files += [ROOT / name for name in SCRIPTS]
    watched = {(path.relative_to(ROOT).as_posix(), name) for path in files for name in mentions(path)}
    unlisted, stale = sorted(watched - ALLOWED.keys()), sorted(ALLOWED.keys() - watched)
    assert not unlisted, f"say in ALLOWED why these are safe, or read the file through files/untrusted.py: {unlisted}"
    assert not stale, f"these calls are gone, take them out of ALLOWED: {stale}"


def test_the_walk_sees_mentions(tmp_path):
    path = tmp_path / "hostile.py"
    path.write_text("torch.load(2)\nclass A(pickle.Unpickler): ...\nre.compile('a')\nmodel.eval()\neval('1')\nmap(eval, [])\n")
    assert set(mentions(path)) == {"torch.load", "pickle.Unpickler", "eval"}
