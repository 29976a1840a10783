"""Predicting images with finished runs: from Python, and by the command."""

import csv
import json
import re

import numpy as np
import PIL.Image
import pytest
import torch
from toys import ROOT

import run as entry
from datamodules.shapes import Shapes
from runs import jobs, launch
from tools import predict
from tools.classifier import load


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of two finished runs on drawn images, by method."""
    output = tmp_path_factory.mktemp("runs")
    options = ["shots=1", "epochs=1", "logger=none", "callbacks=none", f"output={output}", "trainer=cpu", "features.store=null"]
    for method in ("coop", "cocoop"):
        entry.run(*jobs.compose_job([f"method={method}", *options], ROOT / "conf"))
    return {path.parts[-4]: path.parent for path in output.rglob("result.json")}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Nine drawn images in folders, one file that is none, and one that a decoder refuses."""
    folder = tmp_path_factory.mktemp("photos")
    source = Shapes()
    for at, item in enumerate(source.splits(1).test[:180:20]):
        (folder / f"{at % 2}").mkdir(exist_ok=True)
        source.open(item).save(folder / f"{at % 2}" / f"{at}.png")
    (folder / "notes.md").write_text("not an image")
    (folder / "phone").mkdir()
    (folder / "phone" / "a.HEIC").write_text("of a phone")
    (folder / "more").symlink_to(folder / "phone")
    (folder / "0" / "bad.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command in an empty folder: exit status, screen, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["predict", *map(str, arguments)])
        status = launch.exit_status_of(predict.main)
        return status, *capsys.readouterr()

    return run


def test_a_loaded_run_predicts_what_the_run_did(runs):
    source = Shapes()
    images = [source.open(item) for item in source.splits(1).test]
    stored = np.load(runs["coop"] / "predictions.npz")
    probabilities = load(runs["coop"]).probabilities(images)
    assert probabilities.argmax(1).tolist() == stored["test/pred"].tolist()
    assert torch.allclose(probabilities.sum(1), torch.ones(len(images)))


def test_other_class_names(runs):
    source = Shapes()
    star = next(item for item in source.splits(1).test if item.classname == "pink plain star")
    for folder in runs.values():
        classifier = load(folder / "prompts.safetensors")
        ((best, second),) = classifier.top([source.open(star)], ["blue fish", "pink star"])
        assert best[0] == "pink star"
        assert best[1] + second[1] == pytest.approx(1, abs=1e-5)
        assert classifier.classnames == ["blue fish", "pink star"]


def test_features(runs):
    classifier = load(runs["coop"])
    image = PIL.Image.new("RGB", (60, 40), "red")
    x, w = classifier.image_features([image]), classifier.text_features(["red star", "blue fish"])
    assert (tuple(x.shape), tuple(w.shape)) == ((1, 128), (2, 128))
    cosine = torch.cosine_similarity(x, w)
    expected = (classifier.model.clip.logit_scale.cpu() * cosine).softmax(0)
    assert torch.allclose(classifier.probabilities([image])[0], expected, atol=1e-5)
    with pytest.raises(ValueError, match="text of a class anew for each image"):
        load(runs["cocoop"]).text_features()


@pytest.mark.parametrize("names", ["cat", [], ["cat", " "]])
def test_class_names_that_are_none(runs, names):
    with pytest.raises(ValueError, match="give a list of class names"):
        load(runs["coop"]).probabilities([], names)


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_the_command_writes_a_row_for_every_image(runs, photos, command, tmp_path, suffix):
    status, screen, errors = command(runs["coop"], "--images", photos, "--out", f"out/p.{suffix}", "--top", "2")
    assert status == 0, errors
    assert "9 images predicted over 36 classes" in screen
    assert "passed over, as no image: 1 .heic, 1 .md, 1 linked folder(s)\n" in screen
    assert errors == f"not read: {photos}/0/bad.png cannot be decoded\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"p.{suffix}"]
    rows = read(tmp_path / "out" / f"p.{suffix}")
    assert [row["image"] for row in rows] == sorted(str(path) for path in photos.rglob("*.png"))
    images = [PIL.Image.open(row["image"]) for row in rows if not row["error"]]
    expected = load(runs["coop"]).top(images, k=2)
    found = [[(row[f"class_{k}"], pytest.approx(row[f"probability_{k}"])) for k in (1, 2)] for row in rows if not row["error"]]
    assert expected == found


def test_nothing_is_written_where_no_image_is_read(runs, photos, command, tmp_path, caplog):
    (tmp_path / "list.txt").write_text("gone.png\nlost.png\n")
    (tmp_path / "predictions.csv").write_text("of yesterday")
    status, screen, errors = command(runs["coop"], "--images", "list.txt")
    assert (status, screen) == (1, "")
    said = "none of the 2 images can be read, so nothing is written; the first: gone.png does not exist."
    assert errors == f"error: {said}\n"
    assert not caplog.records  # the loader does not name them once more
    assert {path.name: path.read_text() for path in tmp_path.glob("p*")} == {"predictions.csv": "of yesterday"}
    assert command(runs["coop"], "--images", "list.txt", photos / "1")[0] == 0
    assert [row["error"] for row in read(tmp_path / "predictions.csv")][:2] == [
        "gone.png does not exist", "lost.png does not exist",
    ]  # fmt: skip


def read(path):
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".csv":
        rows = list(csv.DictReader(path.open()))
        return [{key: float(v) if "probability" in key and v else v for key, v in row.items()} for row in rows]
    return [
        {"image": row["image"], "error": row["error"]}
        | {f"class_{k}": name for k, name in enumerate(row["classes"], 1)}
        | {f"probability_{k}": value for k, value in enumerate(row["probabilities"], 1)}
        for row in json.loads(path.read_text())
    ]


def test_an_ensemble_is_the_mean(runs, photos, command, tmp_path):
    images = sorted(photos.glob("1/*.png"))
    (tmp_path / "list.txt").write_text("\n".join(map(str, images)))
    (tmp_path / "names.txt").write_text("red star\nblue fish\n")
    both = [runs["coop"], runs["cocoop"]]
    status, _, errors = command(*both, "--images", "list.txt", "--classes-file", "names.txt", "--top", "all")
    assert status == 0, errors
    opened = [PIL.Image.open(path) for path in images]
    mean = sum(load(one).probabilities(opened, ["red star", "blue fish"]) for one in both) / 2
    rows = read(tmp_path / "predictions.csv")
    assert [row["probability_1"] for row in rows] == pytest.approx(mean.max(1).values.tolist(), abs=1e-6)


def test_an_interrupted_prediction_goes_on(runs, photos, command, tmp_path, monkeypatch):
    line = (runs["coop"], "--images", photos, "--batch-size", "4")
    assert command(*line)[0] == 0
    whole = (tmp_path / "predictions.csv").read_text()
    (tmp_path / "predictions.csv").unlink()
    mean, calls = predict.mean_probabilities, []

    def broken(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return mean(*arguments)

    monkeypatch.setattr(predict, "mean_probabilities", broken)
    assert command(*line)[0] == 130
    partial = tmp_path / "predictions.csv.partial"
    partial.write_bytes(partial.read_bytes() + b'[{"image": "cut')
    calls[:] = []
    monkeypatch.setattr(predict, "mean_probabilities", lambda *arguments: calls.append(1) or mean(*arguments))
    status, screen, _ = command(*line)
    assert status == 0
    assert "going on after 8 of 10 images" in screen
    assert len(calls) == 1
    assert (tmp_path / "predictions.csv").read_text() == whole
    assert not partial.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--images", "nowhere"], "nowhere does not exist"),
        (["--images", "{photos}/notes.md"], "is not named like an image"),
        (["--images", "empty"], "there is no image in empty"),
        (["--images", "{photos}", "--top", "0"], "--top 0"),
        (["--images", "{photos}", "--out", "p.xlsx"], "ends in .csv, .json, .parquet"),
        (["--images", "{photos}", "--workers", "many"], "--workers many"),
        (["--images", "{photos}", "--workers", "100000"], "--workers 100000: give a number of processes, at most"),
        (["--images", "{photos}", "--device", "tpu"], "--device tpu: there is no such device here"),
        (["--images", "{photos}/phone"], "or its folders, only 1 .heic"),
        (["--images", "{photos}", "--set", "clip.nothing=1"], "clip.nothing"),
    ],
)
def test_mistakes_are_one_sentence(runs, photos, command, tmp_path, arguments, said):
    (tmp_path / "empty").mkdir()
    status, _, errors = command(runs["coop"], *(text.format(photos=photos) for text in arguments))
    assert status == 1
    assert re.fullmatch(r"error: .*\n", errors)
    assert said in errors


def test_no_prompts_there(tmp_path):
    with pytest.raises(ValueError, match="there are no prompts at"):
        load(tmp_path)
