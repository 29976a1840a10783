"""Every run.py line of the documentation is run: its first job, as debug=fast, within this process.

Lines on embedded data must end with a result. Lines on what is not here (real datasets, weights of a hub, files of the reader's
own) must end in one sentence. Lines of the report and of the tools are run on results of one epoch. Only `make docs` runs these
tests.
"""

import importlib
import os
import re
import sys
from pathlib import Path

import PIL.Image
import pytest
from test_commands import OTHERS, RUNS, first_job, ids
from toys import ROOT

from tools import cli

pytestmark = pytest.mark.skipif("DOCS" not in os.environ, reason="takes minutes: make docs runs it")

# Keys that debug=fast and this machine decide
OURS = ("epochs", "shots", "earlier.epochs", "trainer", "trainer.devices", "hydra/launcher", "hydra.launcher.")
# Of images with captions one would be too few for the examples before a question, and nothing learns from pairs
SHOTS = {"captions": 40, "scenes_relations": 0}
PLACEHOLDER = re.compile(r"FOLDER\w*|RUN|NAME|shared|.*\.\.\.")  # a run that the reader has
# The run that a placeholder stands for, by its key; of ckpt the line's own method on embedded data
FIRST = {
    "method.prompt_lengths": ["method=dpl_search"],
    "method.h": ["method=aape_captions", "data=scenes"],
    "init_from": ["method=coop", "method.n_ctx=4"],
}
EMBEDDED = ("datamodules.drawn_", "datamodules.refer_scenes", "datamodules.shapes", "datamodules.digits")


@pytest.fixture(scope="session")
def outputs(tmp_path_factory):
    """The results of all lines: an earlier run that several of them need is done once."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture
def run_job(outputs, tmp_path, monkeypatch):
    """Runs one job: its config, and its folder or the sentence that refused it."""
    monkeypatch.chdir(tmp_path)
    for key, value in {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(key, value)
    import run as entry
    from runs import jobs

    def run(overrides):
        mine = [override for override in overrides if not is_ours(key_of(override))]
        mine += ["debug=fast", f"output={outputs}", "trainer=cpu", "features.store=null", "workers=0"]
        cfg = None
        try:
            cfg, names = jobs.compose_job(mine, ROOT / "conf")
            if (shots := SHOTS.get(names["data"], SHOTS.get(names["protocol"]))) is not None:
                cfg, names = jobs.compose_job([*mine, f"shots={shots}"], ROOT / "conf")
            folder = jobs.describe(cfg, names).folder  # an earlier run changes the config
            entry.run(cfg, names)
        except ValueError as error:
            return cfg, str(error)
        return cfg, folder

    return run


def key_of(override):
    return override.lstrip("+").partition("=")[0]


def is_ours(key):
    return any(key == ours or (ours.endswith(".") and key.startswith(ours)) for ours in OURS)


def with_runs(overrides, run_job):
    """The overrides with the folder of a run in place of each placeholder, where embedded data can make it."""
    result = []
    for override in overrides:
        key, _, value = override.partition("=")
        first = FIRST.get(key) or [o for o in overrides if key == "ckpt" and key_of(o).startswith("method")]
        if key == "init_from" and "method=aape_captions" in overrides:
            first = FIRST["method.h"]
        if PLACEHOLDER.fullmatch(value) and (key in FIRST or key == "ckpt"):
            folder = run_job(first)[1]
            override = override if isinstance(folder, str) else f"{key}={folder}"
        result.append(override)
    return result


def is_embedded(cfg):
    """Whether a job needs nothing but what is in the repository."""
    sources = [node.source._target_ for node in (cfg.data, *cfg.targets.values())]
    towers = [cfg.clip._target_, *([cfg.lm._target_] if cfg.lm else [])]
    return all(source.startswith(EMBEDDED) for source in sources) and all(tower.endswith("load_tiny") for tower in towers)


@pytest.mark.parametrize("words", RUNS, ids=ids(RUNS))
def test_a_line_runs(words, run_job):
    if {"--help", "epochs=abc"} & set(words):
        pytest.skip("starts no run")
    overrides, own = first_job(words[2:])
    if own:
        pytest.skip("names what the text tells the reader to write; tests/test_additions.py runs such files")
    filled = with_runs(overrides, run_job)
    cfg, ended = run_job(filled)
    if not isinstance(ended, str):
        assert (ended / "result.json").is_file()
        return
    assert ended.count("\n") == 0, ended
    assert len(ended) > 20
    reader = [override for override in filled if re.search(r"=(/|FOLDER|RUN|NAME|hf-hub:|mine|shared|.*\.\.\.)", override)]
    assert reader or not is_embedded(cfg), f"{' '.join(filled)}: {ended}"


# ---- the report and the tools

STAND_INS = {  # by what a line calls a run of the reader's
    "outputs/base_to_new/shapes/tiny/coop/...": "RUN",
    "outputs/few_shot/shapes/tiny/maple/shots16-*/seed1": "RUN",
    "RUN_FOLDER": "RUN",
    "FOLDER": "RUN",
    "hf-hub:my-name/coop-eurosat": "RUN",
    "my-name/coop-eurosat": "./shared",
    "/elsewhere/outputs": "theirs",
}
NEEDS = {"data_root=/path", "clip.weights=/path", "new"}  # words about files and evaluations that this run does not have
NETWORK = {"--wandb"}
TOOLS = ("report.py", "reports.insight", "tools.predict", "tools.export", "tools.share")


def tool_of(words):
    """The script or module that a line starts."""
    if words[0] == "clip-prompts":
        return cli.COMMANDS.get(words[1], [""])[-1] if len(words) > 1 else ""
    return words[2] if words[1] == "-m" else words[1]


TOOL_LINES = {words: page for words, page in OTHERS.items() if len(words) > 1 and tool_of(words) in TOOLS}


@pytest.fixture(scope="session")
def place(tmp_path_factory, outputs):
    """A folder with what the lines name: outputs, mine and theirs, photos, and a run."""
    import run as entry
    from runs import jobs

    place = tmp_path_factory.mktemp("place")
    before = Path.cwd()
    os.chdir(place)
    try:
        common = ["debug=fast", "trainer=cpu", "features.store=null", "workers=0"]
        for folder, method in (("outputs", "coop"), ("outputs", "maple"), ("mine", "coop"), ("theirs", "maple")):
            cfg, names = jobs.compose_job([*common, f"method={method}", f"output={folder}"], ROOT / "conf")
            entry.run(cfg, names)
            (place / "RUN").exists() or (place / "RUN").symlink_to(jobs.describe(cfg, names).folder.resolve())
    finally:
        os.chdir(before)
    (place / "outputs/published").symlink_to(place / "mine")
    (place / "outputs/aape_retrieval").symlink_to(place / "mine")
    for folder in ("photos", "pictures"):
        (place / folder).mkdir()
        PIL.Image.new("RGB", (40, 30), (200, 10, 10)).save(place / folder / "a.png")
    for name in ("a.png", "b.png", "c.png", "photo.jpg"):
        PIL.Image.new("RGB", (40, 30), (10, 10, 200)).save(place / name)
    return place


@pytest.mark.parametrize("words", TOOL_LINES, ids=ids(TOOL_LINES))
def test_a_tool_runs(words, place, monkeypatch, capsys):
    tool = tool_of(words)
    if NETWORK & set(words):
        pytest.skip("logs to a server; tests/lightning_modules/test_loggers.py does so offline")
    if {"masks", "--image-ids"} & set(words):
        pytest.skip("is for a run of segmentation or detection; tests/tools has predictions of masks and boxes")
    if "--watch" in words:
        pytest.skip("ends by Ctrl-C alone; tests/reports/test_watch.py ends it")
    if tool == "tools.export" and any(word.endswith(".onnx") for word in words):
        pytest.importorskip("onnxscript")
    monkeypatch.chdir(place)
    rest = [STAND_INS.get(word, word) for word in words[words.index(tool) + 1 if tool in words else 2 :] if word not in NEEDS]
    rest = [word for word in rest if word != "--evaluations"] if "new" in words else rest
    monkeypatch.setattr(sys, "argv", [tool, *rest])
    module = importlib.import_module(f"{tool}.__main__" if tool == "reports.insight" else tool.removesuffix(".py"))
    assert module.main() in (None, 0), capsys.readouterr().err
