"""Mistakes on the command line end in one sentence, at once, and leave no file; the command lines of the docs work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bad_inputs import WRONG
from good_inputs import RIGHT
from hydra._internal.hydra import Hydra
from omegaconf import OmegaConf
from toys import ROOT, TESTS, command

import run as entry
from prompts.engine.clip import load_tiny
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP
from runs import arguments, jobs, keys, launch

TOY = ["clip=toy", "data=toy", "method=toy", "trainer=cpu", "callbacks=none", "logger=none", "epochs=1", "shots=1"]


@pytest.fixture
def run_line(tmp_path, monkeypatch, capsys):
    """Runs a command line as run.py does, in this process and an empty folder: status and stderr."""
    import lightning_modules.assembly  # noqa: F401
    import lightning_modules.classification
    import lightning_modules.fitting
    import lightning_modules.run_folder  # noqa: F401

    (tmp_path / "a_file").touch()
    (tmp_path / "read_only").mkdir()
    before = sorted(tmp_path.rglob("*"))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "read_only" not in str(path) and access(path, mode))  # root may all
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA", "nowhere")
    monkeypatch.setattr(entry.main.__wrapped__, "__module__", "__main__")  # as Hydra finds conf/
    monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: None)  # composes once more, for hydra.mode: half of the time
    threads = torch.get_num_threads()

    def run(*line: str, folder: Path = TESTS / "conf"):
        given = {word.lstrip("+~").split("=")[0] for word in line}
        groups = [group for group in TOY if group.split("=")[0] not in given]
        words = [*line, *groups] if line[0].startswith("-") else [*groups, *line]
        monkeypatch.setattr(sys, "argv", ["run.py", "--config-dir", str(folder), *words])
        try:
            status = launch.exit_status_of(entry.main)
        except SystemExit as error:  # as Python ends with it
            status = error.code if isinstance(error.code, int) else print(error, file=sys.stderr) or 1
        torch.set_num_threads(threads)
        return status, capsys.readouterr().err

    yield run
    left = sorted(tmp_path.rglob("*"))
    assert left == before or (tmp_path / "may_stay").exists()


@pytest.mark.parametrize(("line", "words"), WRONG, ids=[" ".join(line).encode("unicode_escape")[:60] for line, _ in WRONG])
def test_a_wrong_command_line_ends_in_one_sentence(run_line, line, words):
    status, message = run_line(*line)
    assert status == 1
    assert re.fullmatch(r"error: [^\n]+\n", message), message
    assert "Traceback" not in message
    assert words in message, message
    assert len(message) < 1000
    assert message.removesuffix("\n").isprintable()


def test_the_table_is_large_enough():
    assert len({line for line, _ in WRONG}) == len(WRONG) >= 250
    assert len(set(RIGHT)) == len(RIGHT) >= 60


@pytest.mark.parametrize("line", RIGHT)
def test_what_is_documented_is_accepted(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg, _ = jobs.compose_job(line.split(), ROOT / "conf")
    jobs.resolve(cfg)
    arguments.check_all(cfg)
    arguments.make(cfg.optim)
    has_earlier = cfg.earlier and "method" in cfg.earlier  # this run's own method gets what that one leaves
    arguments.make(cfg.earlier.method if has_earlier else cfg.method)
    arguments.source_of(cfg.data)  # the data themselves are read where they are made


def test_every_key_of_the_config_is_in_the_table_of_keys():
    here = OmegaConf.load(ROOT / "conf/config.yaml")
    assert {str(key) for key in here} - {"defaults", "hydra"} == set(keys.KEYS)
    cfg, _ = jobs.compose_job([], ROOT / "conf")
    assert set(cfg) == set(keys.KEYS) | set(keys.GROUPS)
    keys.check_config(cfg)


def test_every_trial_of_the_documented_search_can_start():
    clip = load_tiny()
    drawn = OmegaConf.load(ROOT / "conf/experiment/search.yaml").hydra.sweeper.params["method.n_ctx"]
    for count in re.findall(r"\d+", drawn):
        cfg, _ = jobs.compose_job(["experiment=search", f"method.n_ctx={count}"], ROOT / "conf")
        model = PromptedCLIP(clip, arguments.make(cfg.method))
        model.setup(TrainInfo(["cat", "dog"], 4))
        assert len(model.learner.ctx) == int(count)


def test_a_users_own_groups_without_annotations(run_line, tmp_path, monkeypatch):
    (tmp_path / "own/method").mkdir(parents=True)
    (tmp_path / "may_stay").touch()
    (tmp_path / "own/method/mine.yaml").write_text("_target_: their_code.Mine\nrank: 2\nwords: [a, {b: null}]\n")
    (tmp_path / "their_code.py").write_text(
        "from toys import Toy\n\n\nclass Mine(Toy):\n"
        "    def __init__(self, rank, words=None, scale=1.5, **more):\n        super().__init__(rank)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    search = f"hydra.searchpath=[file://{TESTS / 'conf'}]"
    more = ["recipe=none", "method.rank=3", "+method.anything={x:[1,null]}", "method.words=five", "+note=of mine"]
    status, message = run_line("method=mine", search, *more, folder=tmp_path / "own")
    assert (status, message) == (0, "")
    status, message = run_line("method=mine", search, "~method.rank", folder=tmp_path / "own")
    assert (status, message) == (1, "error: method.rank is missing: Mine needs rank.\n")


def test_help_lists_no_parts(run_line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--config-dir", str(TESTS / "conf"), "--help"])
    with pytest.raises(SystemExit):
        launch.exit_status_of(entry.main)
    shown = capsys.readouterr().out
    assert "\ntrainer: auto, cpu, ddp, ddp_cpu, gpu\n" in shown
    assert "toy" in re.search(r"^data: .*$", shown, re.M)[0]  # of --config-dir
    assert not re.search(r"[ ,]_\w+(,|$)", "".join(re.findall(r"^\w+: .*$", shown, re.M)[:20]))


def test_a_sentence_says_which_line_of_a_constructor_raised(run_line, tmp_path, monkeypatch):
    (tmp_path / "may_stay").touch()
    (tmp_path / "half_done.py").write_text(
        "from toys import Toy\n\n\nclass Half(Toy):\n    def __init__(self, rank):\n        {}['rank']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    status, message = run_line("method._target_=half_done.Half")
    assert status == 1
    assert "method cannot be made from its arguments: KeyError: 'rank' (half_done.py, line 6" in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("shots=-3", "shots=-3"),
        ("method=cooop", "Did you mean coop?"),
        ("output=a_file", "a_file is a file"),
        ("data=_base", "data=_base"),
        ("optim.lr=abc", "optim.lr='abc'"),
    ],
)
def test_the_command_itself_says_the_same(tmp_path, override, words):
    (tmp_path / "a_file").touch()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(ROOT)])}
    line = command("clip=toy", "data=toy", override)
    ended = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"error: [^\n]+\n", ended.stderr)
    assert words in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]
