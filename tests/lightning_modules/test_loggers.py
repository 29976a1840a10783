import json
import re
import time

import numpy as np
import pytest
import yaml
from fakes import guessed, put
from PIL import Image
from toys import NAMES, ROOT

from lightning_modules import loggers, shown
from lightning_modules.boards import WandbBoard
from runs import jobs

SWEEP = ROOT / "docs" / "wandb-sweep.yaml"


def records(folder):
    """What an offline run holds: W&B's log has the frames of LevelDB's (blocks of 32 KiB), after seven bytes of its own."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.rglob("run-*.wandb")
    data, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of the block is empty
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or a last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def read_back(folder, seconds=30):
    """By kind of record. W&B's own process may write a moment longer."""
    until = time.monotonic() + seconds
    contents = {"config": {}, "history": {}, "summary": {}, "artifacts": {}}
    while "exit" not in contents:
        assert time.monotonic() < until, "W&B's own process did not end the run"
        for record in records(folder):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                contents["run"] = record.run
                contents["config"] |= values(record.run.config.update)
            elif kind == "history":
                contents["history"] |= values(record.history.item)
            elif kind == "summary":
                contents["summary"] |= values(record.summary.update)
            elif kind == "artifact":
                contents["artifacts"][record.artifact.name] = record.artifact.type
            elif kind == "exit":
                contents["exit"] = record.exit.exit_code
    return contents


def values(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def tables(folder):
    """Rows by name; the files are called NAME_STEP_DIGEST.table.json."""
    return {file.name.rsplit("_", 2)[0]: json.loads(file.read_text())["data"] for file in folder.rglob("*.table.json")}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")


def test_an_offline_run_holds_config_curves_summary_and_tables(run_here, tmp_path):
    overrides = ("protocol=base_to_new", "shots=4", "seed=2", "select=best_val")
    run_here("logger=wandb", "logger.offline=true", "logger.tags=[mine]", *overrides)
    contents = read_back(tmp_path)
    run = contents["run"]
    assert re.fullmatch("toy on toy, 4 shots, base_to_new #[0-9a-f]{6}", run.run_group)
    assert run.display_name == "toy on toy, 4 shots, seed 2"
    assert run.job_type == "train"
    assert set(run.tags) == {"base_to_new", "toy", "4 shots", "mine"}
    assert contents["config"]["shots"] == 4
    assert contents["config"]["names"]["protocol"] == "base_to_new"
    assert contents["exit"] == 0

    (path,) = tmp_path.rglob("result.json")
    [kept] = json.loads(path.with_name("kept.json").read_text())
    assert contents["artifacts"][kept["artifact"].split(":")[0]] == "prompts"
    metrics = json.loads(path.read_text())["metrics"]
    base, new = (metrics[name]["accuracy"] for name in ("base", "new"))
    assert contents["history"]["base/accuracy"] == pytest.approx(base)
    assert contents["summary"]["H"] == pytest.approx(2 * base * new / max(base + new, 1e-9))
    assert contents["summary"]["trainable_parameters"] > 0
    figures = [entry["val"]["accuracy"] for entry in json.loads(path.read_text())["history"]]
    assert contents["summary"]["best/val"] == max(figures)
    rows = tables(tmp_path)
    for why, picture, true, predicted, confidence in rows["predictions"]:
        assert (why in ("best", "worst", "random"), picture, 0 < confidence <= 1) == (True, "Image", True)
        assert {true, predicted} <= set(NAMES)
        assert why == "random" or (true == predicted) == (why == "best") or 0 < base < 100
    assert [row[:2] for row in rows["evaluations"]] == [["base", base], ["new", new]]
    assert len(rows["classes"]) == sum(len(metric["per_class"]) for metric in metrics.values())


def test_a_job_that_raises_is_marked_failed(run_here, monkeypatch, tmp_path):
    monkeypatch.setenv("DOOM", "1:raise:0:20")
    with pytest.raises(ValueError, match="doomed"):
        run_here("logger=wandb", "logger.offline=true", "method=doomed", "shots=4")
    assert read_back(tmp_path)["exit"] == 1


def test_predictions_become_a_confusion_matrix(tmp_path):
    import wandb

    metrics, arrays = guessed(0.7)
    result = {"metrics": {"test": metrics}, "trainable_parameters": 1, "seconds": 1.0, "peak_memory": {}, "epoch": 1}
    names = {"method": "coop", "data": "shapes", "clip": "tiny", "protocol": "few_shot"}
    (tmp_path / "result.json").write_text(json.dumps(result | {"digest": "d", "names": names, "seed": 1, "shots": 16}))
    named = zip(("test/pred", "test/label", "test/confidence"), arrays, strict=True)
    np.savez(tmp_path / "predictions.npz", **dict(named))
    run = wandb.init(mode="offline", dir=tmp_path)
    shown.show_result(WandbBoard(run), tmp_path / "result.json")
    loggers.finish(0)
    assert read_back(tmp_path)["exit"] == 0
    (cells,) = (rows for name, rows in tables(tmp_path).items() if "confusion" in name)
    right = sum(count for true, guess, count in cells if true == guess)
    assert 100 * right / len(arrays[0]) == pytest.approx(metrics["accuracy"])


def test_samples_become_a_table_with_pictures(tmp_path):
    import wandb

    path = put(tmp_path, metrics={"test": 50.0}, trainable_parameters=1, seconds=1.0, peak_memory={}, epoch=1)
    Image.new("RGB", (32, 32), "red").save(path.with_name("0.png"))
    answers = {"question": "what colour?", "answer": "red", "answers": ["red"], "accuracy": 100.0, "shots": 4}
    sample = {"why": "best", "image": "0.png", "index": 0, **answers}
    path.with_name("samples.json").write_text(json.dumps({"task": "vqa", "evaluations": {"test": [sample]}}))
    run = wandb.init(mode="offline", dir=tmp_path)
    shown.show_result(WandbBoard(run), path)
    loggers.finish(0)
    ((why, picture, question, answer, *_),) = tables(tmp_path)["samples"]
    assert (why, question, answer) == ("best", "what colour?", "red")
    assert picture == "Image"  # its file goes with the table's artifact


def test_a_report_is_a_run_of_its_own(tmp_path):
    loggers.report_to_wandb("prompts", tmp_path, "Results", [["table", "mean"], ["a", 50.0], ["b", 60.0]], "<p>page</p>")
    contents = read_back(tmp_path)
    assert contents["run"].job_type == "report"
    assert tables(tmp_path)["figures"] == [["a", 50.0], ["b", 60.0]]
    (page,) = tmp_path.rglob("*.html")
    assert page.read_text() == "<p>page</p>"


def test_the_sweep_for_wandb_speaks_hydra():
    sweep = yaml.safe_load(SWEEP.read_text())
    assert "${args_no_hyphens}" in sweep["command"]  # key=value
    fixed = [part for part in sweep["command"] if "=" in part]
    for end, at in (("min", 0), ("max", -1)):
        chosen = {
            key: about.get("value", about.get("values", [about.get(end)])[at]) for key, about in sweep["parameters"].items()
        }
        cfg, _ = jobs.compose_job([*fixed, *(f"{key}={value}" for key, value in chosen.items())], ROOT / "conf")
        assert cfg.optim.lr == chosen["optim.lr"]
    assert cfg.select == "best_val"
    assert sweep["metric"] == {"name": shown.BEST, "goal": "maximize"}  # of validation images, and of the epoch that is kept
    assert sweep["method"] in ("bayes", "random", "grid")
    assert not any(key.endswith("seed") and "value" not in about for key, about in sweep["parameters"].items())


def test_pictures_of_samples_and_any_numbers_of_classes_are_columns(tmp_path):
    import wandb

    entries = [{"class": "sky", "iou": 61.5, "accuracy": 70.0, "pixels": 12}, {"class": "boat", "iou": None, "accuracy": None}]
    metrics = {"test": {"miou": 61.5, "per_class": entries}}
    figure = {"key": "miou", "title": "mIoU", "unit": "%", "higher_is_better": True}
    path = put(tmp_path, metrics=metrics, figure=figure, trainable_parameters=1, seconds=1.0, peak_memory={}, epoch=1)
    Image.new("RGB", (32, 32), "red").save(path.with_name("0.png"))
    sample = {"why": "best", "image": "0.png", "index": 0, "miou": 61.5, "classes": [["sky", 61.5, "#00ff00"]]}
    sample |= {"truth": "0.png", "prediction": "0.png"}
    path.with_name("samples.json").write_text(json.dumps({"task": "segmentation", "evaluations": {"test": [sample]}}))
    run = wandb.init(mode="offline", dir=tmp_path)
    shown.show_result(WandbBoard(run), path)
    loggers.finish(0)
    logged = tables(tmp_path)
    assert logged["classes"] == [["test", "sky", 61.5, 70, 12], ["test", "boat", None, None, None]]
    assert logged["samples"] == [["best", "Image", "Image", "Image", "61.5", "['sky', 61.5, '#00ff00']"]]
