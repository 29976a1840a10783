"""tools.convert: what a released checkpoint is, and prompts of ours in the released form."""

import sys

import pytest
import torch

from tools import convert


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
