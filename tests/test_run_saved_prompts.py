"""Saved prompts: evaluated on other data, used as a start for other methods, refused on another CLIP or if not finite."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import other_clip, toy_clip

from lightning_modules.checkpoints import read_prompts
from runs import launch


def results(folder):
    return sorted(folder.rglob("result.json"))


def test_saved_prompts_are_evaluated_anywhere_with_their_own_settings(run_here, tmp_path):
    trained = run_here("method.rank=2", "protocol=base_to_new", "optim.lr=0.1")
    folder = results(tmp_path)[0].parent
    again = run_here("protocol=base_to_new", "fit=false", f"ckpt={folder}")
    assert again["metrics"] == trained["metrics"]
    assert again["config"]["method"]["rank"] == 2  # what ran, not what is configured
    everything = run_here("fit=false", f"ckpt={folder / 'prompts.safetensors'}")
    assert everything["metrics"]["test"]["images"] == 35
    assert len(results(tmp_path)) == 3
    assert len(list(tmp_path.rglob("prompts.safetensors"))) == 1


def test_training_starts_from_the_prompts_of_another_method(run_here, tmp_path, capsys):
    pomp = run_here("method=pomp", "shots=4", "output=first", "optim.lr=0.1")
    assert len(pomp["train_loss"]) == 2
    [path] = (tmp_path / "first").rglob("prompts.safetensors")
    coop = ["method=coop", "method.n_ctx=4", "shots=4", "optim.lr=1e-12", "epochs=1"]
    capsys.readouterr()
    run_here(*coop, f"init_from={path}", "output=second")
    assert f"prompts from {path}: ctx" in capsys.readouterr().out
    [started] = (tmp_path / "second").rglob("prompts.safetensors")
    torch.testing.assert_close(load_file(started)["ctx"], load_file(path)["ctx"])
    run_here(*coop, "output=second")  # without a start it is another run, with a folder of its own
    assert len(list((tmp_path / "second").rglob("result.json"))) == 2


def test_prompts_go_to_another_clip_only_where_that_is_said(run_here, tmp_path):
    """ckpt=, init_from= and the same CLIP under another name; a refused run leaves nothing."""
    trained = run_here("method=coop", "method.n_ctx=4", "shots=1", "epochs=1", "output=first")
    assert trained["backbone"] == toy_clip().identity
    [path] = (tmp_path / "first").rglob("prompts.safetensors")
    elsewhere = ["method=coop", "method.n_ctx=4", "shots=1", "epochs=1", "clip._target_=toys.other_clip", "output=second"]
    for key in (["fit=false", f"ckpt={path}"], [f"init_from={path}"]):
        with pytest.raises(ValueError, match="was trained on another CLIP .*weights") as caught:
            run_here(*elsewhere, *key)
        assert "other_clip=true" in launch.error_message(caught.value)
        assert not (tmp_path / "second").exists()
    result = run_here(*elsewhere, "fit=false", f"ckpt={path}", "other_clip=true")
    assert result["backbone"] == other_clip().identity
    assert run_here(*elsewhere, f"init_from={path}", "other_clip=true")["backbone"] == result["backbone"]


def test_a_published_checkpoint_is_evaluated(run_here, tmp_path):
    path = tmp_path / "model.pth.tar-50"
    torch.save({"state_dict": {"ctx": torch.randn(4, 32).half(), "token_prefix": torch.zeros(9, 1, 32)}, "epoch": 50}, path)
    evaluate = ["method=coop", "fit=false", f"ckpt={path}"]
    result = run_here(*evaluate)  # its shape tells that there are four tokens
    assert result["metrics"]["test"]["images"] == 35
    (folder := tmp_path / "seed1" / "prompt_learner").mkdir(parents=True)
    (folder / "model.pth.tar-50").write_bytes(path.read_bytes())
    (folder / "checkpoint").write_text("model.pth.tar-50\n")
    again = run_here("method=coop", "fit=false", f"ckpt={tmp_path / 'seed1'}")
    assert again["digest"] == result["digest"]
    with pytest.raises(ValueError, match="holds prompts of coop or kgcoop or pomp: add method=coop"):
        run_here("method=maple", "fit=false", f"ckpt={path}")


def test_saved_prompts_that_are_not_finite_are_neither_evaluated_nor_a_start(run_here, tmp_path):
    run_here("method=coop", "method.n_ctx=4", "shots=1", "epochs=1", "output=first")
    [path] = (tmp_path / "first").rglob("prompts.safetensors")
    saved = read_prompts(path)
    saved.tensors["ctx"][2, 1] = float("nan")
    save_file(saved.tensors, path, {"about": json.dumps(saved.about)})
    for use in ("fit=false", "method.n_ctx=4"):
        key = "ckpt" if use == "fit=false" else "init_from"
        with pytest.raises(ValueError, match="tensor ctx holds NaN or infinite numbers"):
            run_here("method=coop", use, f"{key}={path}", "output=second")
    assert not (tmp_path / "second").exists()
