"""tools.convert: what a released checkpoint is, and prompts of ours in the released form."""

import sys

import numpy as np
import pytest
import torch
from toys import NAMES, TESTS, ToySource, only

from lightning_modules.checkpoints import read_prompts
from tools import convert, share
from tools.classifier import load

CONF = TESTS / "conf"


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["convert", *map(str, arguments)])
    convert.main()


def test_prompts_of_a_run_go_there_and_back(run_here, tmp_path, monkeypatch, capsys):
    trained = run_here("method=coop", "method.n_ctx=4", "shots=1", "epochs=1", "output=first")
    [path] = (tmp_path / "first").rglob("prompts.safetensors")
    capsys.readouterr()
    command(monkeypatch, path.parent, "--to", tmp_path / "released")
    model = tmp_path / "released" / "prompt_learner"
    assert capsys.readouterr().out == f"{model / 'model.pth.tar-1'}\n"
    assert {file.name for file in model.iterdir()} == {"model.pth.tar-1", "checkpoint"}
    content = torch.load(model / "model.pth.tar-1", weights_only=True)
    assert content["epoch"] == 1
    assert content["state_dict"]["ctx"].shape == (4, 32)

    command(monkeypatch, model.parent)
    said = capsys.readouterr().out
    assert "method=coop method.n_ctx=4 method.class_context=false\n" in said
    assert f"python run.py method=coop fit=false ckpt={model / 'model.pth.tar-1'}" in said
    again = run_here("method=coop", "fit=false", f"ckpt={model.parent}", "output=second")
    assert again["metrics"]["test"]["accuracy"] == trained["metrics"]["test"]["accuracy"]


def test_an_evaluation_makes_prompts_of_a_released_checkpoint(run_here, tmp_path, monkeypatch, capsys):
    run_here("method=coop", "method.n_ctx=5", "shots=1", "epochs=1", "output=first")
    command(monkeypatch, only(tmp_path / "first", "prompts.safetensors"), "--to", tmp_path / "released")
    file = tmp_path / "released" / "prompt_learner" / "model.pth.tar-1"
    for given in (file, file.parent, file.parents[1]):
        with pytest.raises(ValueError, match=f"is a released checkpoint of coop or.*`python run.py method=coop .*ckpt={file} "):
            load(given, (), CONF)
    run_here("method=coop", "fit=false", f"ckpt={file}", "output=second")  # n_ctx is read from the shapes
    folder = only(tmp_path / "second", "prompts.safetensors").parent
    assert f"next: python -m tools.predict {folder.relative_to(tmp_path)} --images" in capsys.readouterr().out
    about = read_prompts(folder / "prompts.safetensors").about
    assert (about["settings"]["n_ctx"], about["classnames"], about["released"]) == (5, NAMES, True)
    assert not {"shots", "seed"} & set(about)
    source, stored = ToySource(), np.load(folder / "predictions.npz")
    images = [source.open(item) for item in source.splits(1).test]
    assert load(folder, (), CONF, "cpu").probabilities(images).argmax(1).tolist() == stored["test/pred"].tolist()
    assert run_here("method=coop", "fit=false", f"ckpt={folder}", "output=third")["metrics"]

    monkeypatch.setattr(sys, "argv", ["share", str(folder), "--to", f"{tmp_path}/shared"])
    share.main()
    card = (tmp_path / "shared/README.md").read_text()
    assert "of a released checkpoint of coop, evaluated on toy (5 classes" in card
    assert "learned by" not in card
    assert "Seeds" not in card

    (folder / "prompts.safetensors").unlink()  # as earlier versions left it
    with pytest.raises(ValueError, match="is an evaluation and holds no prompts.*force=true"):
        load(folder, (), CONF)


def test_mistakes_are_one_sentence(run_here, tmp_path, monkeypatch):
    run_here("method=coop", "method.n_ctx=4", "shots=1", "epochs=1", "output=first")
    [path] = (tmp_path / "first").rglob("prompts.safetensors")
    (other := tmp_path / "model.pth.tar-1").touch()
    torch.save({"state_dict": {"fc.weight": torch.ones(2)}}, other)
    for arguments, said in (
        ([path.parent], "add --to FOLDER"),
        ([path, "--to", tmp_path / "x", "--epoch", 0], "--epoch 0: give a number"),
        ([tmp_path / "first"], "has neither a prompts.safetensors nor a checkpoint of Dassl"),
        ([tmp_path / "nothing"], "nothing does not exist"),
        ([other], "holds fc.weight: no prompts of a method that is known here"),
        ([other, "--to", tmp_path / "x"], "is no prompts file of this suite"),
    ):
        with pytest.raises(ValueError, match=said):
            command(monkeypatch, *arguments)
    assert not (tmp_path / "x").exists()
