"""Calls that can run code, or read without bounds, stand in a short list of places; each says why it is safe there."""

import ast

from toys import ROOT

FOLDERS = ("files", "prompts", "datamodules", "lightning_modules")
SCRIPTS = ("run.py", "report.py")

# A single word is a name of its own (`eval`, not `model.eval`); of dotted names the last parts count. Any mention counts, as
# `partial(instantiate, ...)` is no call of it.
WATCHED = {
    # deserialisers that run code, or that hand a file to one that does
    "torch.load", "torch.jit.load", "pickle.load", "pickle.loads", "pickle.Unpickler", "Unpickler", "np.load", "joblib.load",
    "yaml.load", "yaml.safe_load", "loadmat", "load_file",
    # names and texts that become code
    "eval", "exec", "__import__", "importlib.import_module", "import_module", "get_class", "get_method", "get_object",
    "instantiate", "hydra.utils.call",
    # texts that OmegaConf resolves
    "OmegaConf.create", "OmegaConf.load", "OmegaConf.from_dotlist", "OmegaConf.from_cli", "OmegaConf.merge",
    "OmegaConf.update", "merge_with_dotlist", "merge_with_cli",
    # readers without bounds on size, depth or type
    "json.load", "json.loads", "tarfile.open", "zipfile.ZipFile", "ZipFile", "load_dataset",
    # other programs
    "os.system", "os.popen", "subprocess.run", "subprocess.Popen", "subprocess.check_output",
}  # fmt: skip


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
        if found := tails & WATCHED:
            yield max(found, key=len)


def test_calls_that_could_run_a_file_are_listed():
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    files += [ROOT / name for name in SCRIPTS]
    found = {(path.relative_to(ROOT).as_posix(), name) for path in files for name in mentions(path)}
    unlisted, stale = sorted(found - ALLOWED.keys()), sorted(ALLOWED.keys() - found)
    assert not unlisted, f"say in ALLOWED why these are safe, or read the file through files/untrusted.py: {unlisted}"
    assert not stale, f"these calls are gone, take them out of ALLOWED: {stale}"


def test_the_walk_sees_mentions(tmp_path):
    path = tmp_path / "hostile.py"
    path.write_text("torch.load(2)\nclass A(pickle.Unpickler): ...\nre.compile('a')\nmodel.eval()\neval('1')\nmap(eval, [])\n")
    assert set(mentions(path)) == {"torch.load", "pickle.Unpickler", "eval"}
