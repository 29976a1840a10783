"""Predicting the class of every pixel with a finished run: the command, and from Python."""

import json
import re

import numpy as np
import PIL.Image
import pytest
from ade_toys import ADE, CLASSES, SGD, put_ade_toys
from toys import ROOT, TESTS, only

import run as entry
from datamodules.segmentation_sets import palette
from lightning_modules.label_pictures import NO_CLASS, label_picture
from lightning_modules.segmentation import colours_of
from runs import jobs, launch
from tools import predict, predict_masks
from tools.predict_masks import mask_names
from tools.segmenter import load

CONF = TESTS / "conf"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run that was tested by windows, and the files of its data."""
    root = tmp_path_factory.mktemp("run")
    folder = put_ade_toys(root)
    options = [*ADE, *SGD, "epochs=1", "logger=none", "callbacks=none", "trainer=cpu", f"data_root={root}", f"output={root}"]
    options += ["poly.warmup=1", "task.module.window=24", "task.module.stride=16"]
    entry.run(*jobs.compose_job([f"hydra.searchpath=[file://{CONF}]", *options], ROOT / "conf"))
    return only(root, "result.json").parent, folder


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command in an empty folder: exit status, screen, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["predict", "--config-dir", str(CONF), *map(str, arguments)])
        status = launch.exit_status_of(predict.main)
        return status, *capsys.readouterr()

    return run


def test_the_masks_are_what_the_run_measured(trained, command, tmp_path):
    """As in the run's own test, by windows, so the pixels that are right are as many."""
    run, data = trained
    status, screen, errors = command(run, "--images", data / "images" / "validation")
    assert status == 0, errors
    assert "5 masks of 150 classes: masks" in screen
    right = counted = 0
    for truth_file in sorted((data / "annotations/validation").iterdir()):
        truth, mask = np.array(PIL.Image.open(truth_file)), PIL.Image.open(tmp_path / "masks" / truth_file.name)
        assert mask.mode == "P"
        assert mask.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
        ids = np.array(mask)
        assert ids.shape == truth.shape
        right, counted = right + int((ids + 1 == truth)[truth > 0].sum()), counted + int((truth > 0).sum())
    metrics = json.loads((run / "result.json").read_text())["metrics"]["test"]
    assert counted == metrics["pixels"]
    assert 100 * right / counted == pytest.approx(metrics["aacc"])
    about = json.loads((tmp_path / "masks/classes.json").read_text())["classes"]
    assert (len(about), about[1]) == (150, {"id": 1, "class": "building", "colour": "#800000"})


def test_what_is_there_is_passed_over_and_what_cannot_be_read_is_listed(trained, command, tmp_path, monkeypatch):
    run, data = trained
    (tmp_path / "photos/deep").mkdir(parents=True)
    for name in ("a.png", "a.jpg", "deep/b.png"):
        PIL.Image.open(next((data / "images/training").iterdir())).save(tmp_path / "photos" / name)
    (tmp_path / "photos/bad.jpg").write_bytes(b"no picture")
    status, screen, errors = command(run, "--images", "photos", "--out", "there")
    assert status == 0, errors
    assert "3 masks" in screen
    assert errors == "not read: photos/bad.jpg cannot be decoded\n"
    assert (tmp_path / "there/not_read.txt").read_text() == "photos/bad.jpg cannot be decoded\n"
    found = {path.relative_to(tmp_path / "there").as_posix() for path in (tmp_path / "there").rglob("*.png")}
    assert found == {"a.png.png", "a.jpg.png", "deep/b.png"}

    (tmp_path / "there/deep/b.png").unlink()
    calls, classes_of = [], predict_masks.Segmenter.classes_of
    monkeypatch.setattr(predict_masks.Segmenter, "classes_of", lambda *given: calls.append(1) or classes_of(*given))
    status, screen, _ = command(run, "--images", "photos", "--out", "there")
    assert status == 0
    assert "going on after 2 of 4 images" in screen
    assert len(calls) == 1
    assert (tmp_path / "there/deep/b.png").exists()
    status, screen, _ = command(run, "--images", ".", "--out", "there")
    assert "photos/deep" not in screen  # another folder that is shared, and so other names
    assert not list((tmp_path / "there").rglob("there"))  # no masks of masks


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "mine"], "mine is there and no folder of masks: give a new folder as --out."),
        (["--out", "other"], "other holds the masks of another prediction: give another --out, or remove that folder."),
        (["--top", "3"], "a run of segmentation gives each pixel one class: name a single run, and no --top."),
        (
            ["--images", "list.txt"],
            "none of the 1 images can be read, so nothing is written; the first: gone.jpg does not exist.",
        ),
        (["--workers", "x"], "--workers x: give a number of processes, at most "),
        (["--classes", "cat"], "DenseCLIP learned tensors for each of its 150 classes"),
    ],
)
def test_mistakes_end_in_one_sentence(trained, command, tmp_path, arguments, said):
    run, data = trained
    (tmp_path / "list.txt").write_text("gone.jpg")
    for name, content in {"mine/diary.txt": "", "other/classes.json": '{"digest": "f00"}'}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(content)
    status, _, errors = command(run, "--images", data / "images/validation", *arguments)
    assert status == 1
    assert said in errors
    assert "Traceback" not in errors


def test_from_python_an_image_is_one_of_the_class_ids(trained):
    segmenter = load(trained[0], config_dir=CONF)
    image = PIL.Image.open(next((trained[1] / "images/validation").iterdir()))
    ids = segmenter.classes(image)
    assert ids.shape == (image.height, image.width)
    assert ids.dtype == np.uint8
    assert segmenter.mode.window == 24
    assert load(trained[0], ["task.module.window=30"], CONF).mode.window == 30
    assert segmenter.classnames[CLASSES[-1] - 1] == "flag"


def test_names_of_masks():
    assert mask_names(["p/a.jpg", "p/q/b.png"]) == ["a.png", "q/b.png"]
    assert mask_names(["p/a.jpg", "p/a.png", "p/b.jpg"]) == ["a.jpg.png", "a.png.png", "b.png"]
    assert mask_names(["p/x/../a.jpg"]) == ["a.png"]
    assert not any(re.search(r"\.\.|^/", name) for name in mask_names(["../a.jpg", "/tmp/b.jpg", "c/d.jpg"]))


def test_pictures_of_label_maps():
    ids = np.array([[0, 1], [2, 255]])
    picture = label_picture(ids, colours_of(3))
    assert np.array_equal(np.array(picture), ids)
    assert [picture.convert("RGB").getpixel((x, y)) for y in (0, 1) for x in (0, 1)] == [*palette(3), NO_CLASS]
    assert colours_of(2, [(1, 2, 3), (4, 5, 6)]) == [(1, 2, 3), (4, 5, 6)]
    assert len(set(colours_of(150))) == 150
