"""Runs within this process: what a finished run leaves, what a mistake says, how a new method joins."""

import csv
import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import NAMES, ROOT, TESTS, Toy, ToySource, toy_clip

import run as entry
from lightning_modules.checkpoints import read_prompts
from prompts.linear_probe import LinearProbe
from runs import jobs, launch


def results(folder):
    return sorted(folder.rglob("result.json"))


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_finished_run(run_here, tmp_path, capsys):
    result = run_here("protocol=base_to_new", "logger=csv", "shots=2", "optim.lr=0.1")
    [path] = results(tmp_path)
    assert path.parent == jobs.describe(*job("protocol=base_to_new", "logger=csv", "shots=2", "optim.lr=0.1")).folder.resolve()
    assert json.loads(path.read_text()) == result
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "metrics.csv",
        "predictions.npz",
        "prompts.safetensors",
        "result.json",
    ]
    assert set(result["metrics"]) == {"base", "new"}
    assert result["metrics"]["new"]["images"] == 14
    assert [len(result["selected"][split]) for split in ("train", "val")] == [6, 6]
    assert result["classnames"] == NAMES[:3]
    assert result["trainable_parameters"] == 2 * 4 * 32
    assert result["seed"] == result["config"]["seed"] == 1
    assert result["config"]["optim"]["lr"] == 0.1
    assert len(result["train_loss"]) == 2
    assert {"torch", "lightning", "python"} <= set(result["versions"])
    assert result["seconds"] > 0
    assert result["peak_memory"]["cpu_mib"] > 50
    with (path.parent / "metrics.csv").open() as file:
        assert any(row["new/accuracy"] for row in csv.DictReader(file))
    shown = capsys.readouterr().out
    for words in (
        "toy on toy",
        "3 classes, 6 training images, 256 trainable parameters",
        "accuracy",
        "H",
        "next: python run.py",
    ):
        assert words in shown

    changed = path.stat().st_mtime_ns
    assert run_here("protocol=base_to_new", "logger=csv", "shots=2", "optim.lr=0.1") == result
    assert capsys.readouterr().out.startswith("done already")
    run_here("protocol=base_to_new", "logger=csv", "shots=2", "optim.lr=0.1", "force=true")
    assert path.stat().st_mtime_ns > changed
    assert results(tmp_path) == [path]


def job(*overrides):
    search = f"hydra.searchpath=[file://{TESTS / 'conf'}]"
    toy = ["clip=toy", "data=toy", "method=toy", "trainer=cpu", "callbacks=none", "epochs=2"]
    return jobs.compose_job([search, *toy, *overrides], ROOT / "conf")


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


def other_clip():
    """The toy CLIP with one weight changed."""
    clip = toy_clip()
    clip.model.visual.proj.data[0, 0] += 1
    return clip


def test_prompts_go_to_another_clip_only_where_that_is_said(run_here, tmp_path):
    """ckpt=, init_from= and the same CLIP under another name; a refused run leaves nothing."""
    trained = run_here("method=coop", "method.n_ctx=4", "shots=1", "epochs=1", "output=first")
    assert trained["backbone"] == toy_clip().identity
    [path] = (tmp_path / "first").rglob("prompts.safetensors")
    elsewhere = ["method=coop", "method.n_ctx=4", "shots=1", "epochs=1", "clip._target_=test_run.other_clip", "output=second"]
    for key in (["fit=false", f"ckpt={path}"], [f"init_from={path}"]):
        with pytest.raises(ValueError, match="was trained on another CLIP .*weights") as caught:
            run_here(*elsewhere, *key)
        assert "other_clip=true" in launch.error_message(caught.value)
        assert not (tmp_path / "second").exists()
    result = run_here(*elsewhere, "fit=false", f"ckpt={path}", "other_clip=true")
    assert result["backbone"] == other_clip().identity
    assert run_here(*elsewhere, f"init_from={path}", "other_clip=true")["backbone"] == result["backbone"]


def test_the_best_epoch_on_validation(run_here, tmp_path):
    result = run_here("select=best_val", "epochs=4", "optim.lr=0.5", "shots=4", "eval_every=2")
    scores = {entry["epoch"]: entry["val"]["accuracy"] for entry in result["history"]}
    assert list(scores) == [1, 3]
    best = max(scores, key=scores.get)
    at_best = next(entry for entry in result["history"] if entry["epoch"] == best)
    assert result["metrics"]["test"]["accuracy"] == at_best["test"]["accuracy"]
    assert result["epoch"] == best


def test_a_debug_run_is_not_the_result(run_here, tmp_path, capsys):
    """A run cut short on purpose says its figures and leaves nothing; the real one afterwards is not "done already"."""
    cut = run_here("shots=4", "+trainer.fast_dev_run=true", "logger=csv", "eval_batch_size=10")
    assert cut["metrics"]["test"]["images"] == 10
    assert "no result is kept, as this was no whole run: trainer.fast_dev_run=true" in capsys.readouterr().out
    assert not files(tmp_path)
    run_here("shots=4", "+trainer.limit_test_batches=1")
    assert not files(tmp_path)
    whole = run_here("shots=4")
    assert "done already" not in capsys.readouterr().out
    assert whole["metrics"]["test"]["images"] == 35
    run_here("shots=4", "+trainer.gradient_clip_val=1e-6")
    assert len(results(tmp_path)) == 2


def test_a_run_without_a_recipe_is_refused(run_here, tmp_path, capsys):
    mine = ["protocol=mine", "output=out"]
    with pytest.raises(ValueError) as caught:
        run_here(*mine)
    message = "there is no recipe for method=toy with protocol=mine (epochs, batch size, rate): choose another's, such as "
    assert str(caught.value).startswith(f"{message}recipe=toy-base_to_new or ")
    assert "recipe=none" in str(caught.value)
    assert not (tmp_path / "out").exists()
    run_here(*mine, "recipe=toy-few_shot")
    assert "recipes: toy-few_shot" in capsys.readouterr().out
    run_here(*mine, "recipe=none", "epochs=1")
    run_here(*mine, "method=zeroshot")  # nothing is trained, so nothing is missing
    assert len(results(tmp_path)) == 3


class Swapped(Toy):
    """A new method: this class, and the dict below."""

    def losses(self, out, labels, index):
        return super().losses(out, labels, index) | {"size": 1e-3 * self.down.abs().sum()}


def test_a_new_method_is_a_class_and_a_dict(run_here, tmp_path):
    cfg, names = job()
    cfg.method = {"_target_": "test_run.Swapped", "rank": 1}
    result = entry.run(cfg, names | {"method": "swapped"})
    assert result["trainable_parameters"] == 64
    [prompts] = tmp_path.rglob("prompts.safetensors")
    again, names = job("fit=false", f"ckpt={prompts}", "protocol=base_to_new")
    again.method = {"_target_": "test_run.Swapped", "rank": 4}
    assert set(entry.run(again, names | {"method": "swapped"})["metrics"]) == {"base", "new"}


class Vanishing(ToySource):
    """Its test images cannot be read."""

    def open(self, item):
        if item.path.startswith(os.environ["VANISHING"]):
            raise ValueError(f"{item.path} is truncated: fetch it again")
        return super().open(item)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["shots=many"], "shots='many': give a number of training images"),
        (["epochs=0"], "epochs=0: give a number"),
        (["select=best"], "select='best': choose last"),
        (["accumulate=0"], "accumulate"),
        (["batch_size=-1"], "batch_size=-1"),
        (["precision=bf16-true"], "precision='bf16-true': choose 32-true, bf16-mixed"),
        (["fit=false"], "ckpt=PATH"),
        (["fit=false", "ckpt=nowhere"], "there is no nowhere"),
        (["init_from=nowhere"], "init_from=nowhere: there is no nowhere"),
        (["fit=false", "init_from=nowhere"], "to evaluate saved prompts with fit=false give ckpt=PATH"),
        (["data=eurosat", "clip=toy", "data_root=nowhere"], "nowhere/eurosat"),
        (
            ["protocol=base_to_new", "method=coop", "method.class_context=true", "method.init=null"],
            "evaluate it on those it was trained on",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(run_here, tmp_path, overrides, message):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its message is looked at
        run_here(*overrides)
    told = launch.error_message(caught.value)
    assert told is not None
    assert message in told
    assert "\n" not in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_and_leaves_nothing_half_written(run_here, tmp_path, monkeypatch, split, workers):
    monkeypatch.setenv("VANISHING", f"{split}/2/")
    with pytest.raises(ValueError) as caught:
        run_here("data.source._target_=test_run.Vanishing", "logger=csv", f"workers={workers}", "shots=2")
    assert launch.error_message(caught.value).startswith(f"{split}/2/")
    assert not results(tmp_path)
    assert not list(tmp_path.rglob("prompts.safetensors"))
    if split == "train":
        assert not list(tmp_path.rglob("*.csv"))


def test_a_long_class_name(run_here, tmp_path, monkeypatch):
    monkeypatch.setattr("toys.NAMES", [*NAMES[:4], "very " * 80 + "long"])
    with pytest.raises(ValueError) as caught:
        run_here()
    assert "shorten the name" in launch.error_message(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("doom", ["", "2:raise:0:20"])
def test_wandb_offline_ends_with_the_runs_status(run_here, tmp_path, monkeypatch, doom):
    import wandb

    codes, shots, finish = [], [], wandb.finish

    def look(exit_code):
        codes.append(exit_code)
        shots.append(wandb.run.config["shots"])
        finish(exit_code=exit_code)

    monkeypatch.setattr(wandb, "finish", look)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("DOOM", doom)
    overrides = ["method=doomed", "shots=4", "logger=wandb", "logger.offline=true"]
    if doom:
        with pytest.raises(ValueError, match="doomed"):
            run_here(*overrides)
    else:
        run_here(*overrides)
    assert (codes, shots) == ([1 if doom else 0], [4])  # the status, and the resolved config
    assert wandb.run is None
    assert len(list(tmp_path.rglob("offline-run-*"))) == 1  # kept where the failed run's folder is taken away
    assert len(results(tmp_path)) == (0 if doom else 1)


def test_progress_in_a_file_is_a_few_lines(run_here, capsys):
    run_here("callbacks=default", "epochs=30", "shots=1")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  epoch ")]
    assert len(lines) == 10
    assert lines[-1].startswith("  epoch 30/30   loss ")


def test_linear_probe_fits_on_features(run_here):
    result = run_here("method=linear_probe", "shots=4")
    assert result["metrics"]["test"]["accuracy"] > 50
    assert result["trainable_parameters"] == 0


def test_prompts_are_the_same_in_bf16_on_the_cpu_within_reason(run_here):
    full, mixed = (run_here(f"precision={p}", "optim.lr=0.1", "shots=4")["train_loss"] for p in ("32-true", "bf16-mixed"))
    assert mixed == pytest.approx(full, rel=0.05)
    assert torch.get_default_dtype() == torch.float32


def test_a_published_checkpoint_is_evaluated(run_here, tmp_path):
    path = tmp_path / "model.pth.tar-50"
    torch.save({"state_dict": {"ctx": torch.randn(4, 32).half(), "token_prefix": torch.zeros(9, 1, 32)}, "epoch": 50}, path)
    evaluate = ["method=coop", "fit=false", f"ckpt={path}"]
    result = run_here(*evaluate, "method.n_ctx=4")
    assert result["metrics"]["test"]["images"] == 35
    with pytest.raises(ValueError, match=r"ctx is \(4, 32\) in the checkpoint and \(16, 32\) here"):
        run_here(*evaluate, "method.n_ctx=16")


def test_a_forced_run_that_fails_leaves_the_earlier_result(run_here, tmp_path, monkeypatch):
    overrides = ["method=doomed", "shots=4", "batch_size=6"]
    monkeypatch.setenv("DOOM", "")
    run_here(*overrides)
    [path] = results(tmp_path)
    before = path.read_bytes()
    monkeypatch.setenv("DOOM", "2:raise:0:20")
    with pytest.raises(ValueError, match="doomed"):
        run_here(*overrides, "force=true")
    assert path.read_bytes() == before


@pytest.mark.parametrize("method", ["toy", "coop"])
def test_a_rate_that_breaks_the_prompts_in_the_last_step_is_no_result(run_here, tmp_path, method):
    with pytest.raises(ValueError, match=r"finite .*lower optim\.lr"):
        run_here(f"method={method}", "optim.lr=1e38", "shots=1", "optim.momentum=0")
    assert not [*tmp_path.rglob("result.json"), *tmp_path.rglob("prompts.safetensors")]


def test_a_probe_that_is_not_finite_is_no_result(run_here, tmp_path, monkeypatch):
    fit = LinearProbe.fit

    def diverging(self, *args):
        fit(self, *args)
        self.weight[1, 0] = float("nan")

    monkeypatch.setattr(LinearProbe, "fit", diverging)
    with pytest.raises(ValueError, match=r"LinearProbe has learned is not finite .* in weight\)"):
        run_here("method=linear_probe", "shots=4")
    assert not list(tmp_path.rglob("*.*"))


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
