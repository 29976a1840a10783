"""Runs within this process: the files of a finished run, messages for mistakes, a new method."""

import csv
import json

import pytest
import torch
from toys import NAMES, ROOT, TESTS, Toy

import run as entry
from runs import jobs


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


def test_the_best_epoch_on_validation(run_here, tmp_path):
    result = run_here("select=best_val", "epochs=4", "optim.lr=0.5", "shots=4", "eval_every=2")
    scores = {entry["epoch"]: entry["val"]["accuracy"] for entry in result["history"]}
    assert list(scores) == [1, 3]
    best = max(scores, key=scores.get)
    at_best = next(entry for entry in result["history"] if entry["epoch"] == best)
    assert result["metrics"]["test"]["accuracy"] == at_best["test"]["accuracy"]
    assert result["epoch"] == best


def test_a_debug_run_is_not_the_result(run_here, tmp_path, capsys):
    """A debug run prints its figures and leaves no file; a real run afterwards is not "done already"."""
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
