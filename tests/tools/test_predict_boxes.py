"""Finding boxes with a finished run: the command, COCO's own evaluation of what it writes, and from Python."""

import json

import PIL.Image
import pytest
from detection_trees import CATEGORIES, put_coco_instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from toys import ROOT, TESTS, only

import run as entry
from lightning_modules.checkpoints import PROMPTS
from runs import jobs, launch
from tools import predict, predict_boxes
from tools.box_finder import load
from tools.predict_boxes import image_ids

CONF = TESTS / "conf"
TREE = ["clip=toy", "data=coco_boxes", "data.shorter=24", "data.longer=36", "batch_size=6", "epochs=1", "recipe=none"]
SMALL = ["method.width=8", "method.hidden=16", "method.decoder_width=8", "method.decoder_heads=2", "method.sampled=[16,16]"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run that finds masks, and that of its data."""
    root = tmp_path_factory.mktemp("run")
    data = put_coco_instances(root)
    options = [*TREE, *SMALL, "method=denseclip_maskrcnn", "method.least_score=0.01", "logger=none", "callbacks=none"]
    options += ["trainer=cpu", f"data_root={root}", f"output={root}", "features.store=null", "precision=32-true"]
    entry.run(*jobs.compose_job([f"hydra.searchpath=[file://{CONF}]", *options], ROOT / "conf"))
    return only(root, "result.json").parent, data


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command in an empty folder: exit status, screen, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["predict", "--config-dir", str(CONF), *map(str, arguments)])
        status = launch.exit_status_of(predict.main)
        return status, *capsys.readouterr()

    return run


def coco_map(truth, rows, kind):
    """COCO's own mean average precision, in percent, of a file of results."""
    results = truth.loadRes(rows)
    measured = COCOeval(truth, results, kind)
    measured.evaluate()
    measured.accumulate()
    measured.summarize()
    return 100 * measured.stats[0]


def test_what_is_written_is_what_the_run_measured_and_coco_reads_it(trained, command, tmp_path, capsys):
    """pycocotools reads both files with the official annotations: ids of images and categories are those."""
    run, data = trained
    official = data / "annotations/instances_val2017.json"
    status, screen, errors = command(run, "--images", data / "val2017", "--image-ids", official)
    assert status == 0, errors
    of_run, of_tool = (json.loads((folder / name).read_text()) for folder, name in (
        (run, "detections_test.json"), (tmp_path, "detections.json")))  # fmt: skip
    assert f"{len(of_tool)} boxes of 3 classes in 4 images: detections.json" in screen
    assert len(of_run) == len(of_tool) > 10
    names = {category["id"]: category["name"] for category in CATEGORIES}
    assert {row["image_id"] for row in of_tool} <= {500, 501, 502, 503}
    assert all(names[row["category_id"]] == row["category"] for row in of_run + of_tool)
    for ours, theirs in zip(of_tool, of_run, strict=True):  # the run saw several images in a batch
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-5)
        assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=1e-3)
    truth, metrics = COCO(official), json.loads((run / "result.json").read_text())["metrics"]["test"]
    for kind, key in (("bbox", "map"), ("segm", "mask_map")):
        assert coco_map(truth, of_run, kind) == pytest.approx(metrics[key], abs=1e-3)
    capsys.readouterr()


def test_an_interruption_and_an_image_that_cannot_be_read(trained, command, tmp_path, monkeypatch):
    run, data = trained
    (tmp_path / "photos").mkdir()
    pictures = sorted((data / "train2017").iterdir())
    for name, picture in zip(("a.png", "c.png"), pictures, strict=False):
        PIL.Image.open(picture).save(tmp_path / "photos" / name)
    (tmp_path / "photos/b.jpg").write_bytes(b"no picture")
    found_in, calls = predict_boxes.BoxFinder.found_in, []

    def stopping(*given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return found_in(*given)

    monkeypatch.setattr(predict_boxes.BoxFinder, "found_in", stopping)
    status, _, _ = command(run, "--images", "photos", "--out", "found.json")
    assert status == 130
    assert not (tmp_path / "found.json").exists()
    status, screen, errors = command(run, "--images", "photos", "--out", "found.json")
    assert status == 0, errors
    assert "going on after 2 of 3 images" in screen
    assert len(calls) == 3  # of two images, one of them twice
    assert errors == "not read: photos/b.jpg cannot be decoded\n"
    assert (tmp_path / "found.json.not_read.txt").read_text() == "photos/b.jpg cannot be decoded\n"
    assert {row["image_id"] for row in json.loads((tmp_path / "found.json").read_text())} == {"photos/a.png", "photos/c.png"}
    assert not (tmp_path / "found.json.partial").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "found.csv"], "--out found.csv: boxes are written as COCO's results: give a name that ends in .json."),
        (["--top", "3"], "a run of detection finds boxes, each of one class: name a single run, and no --top."),
        (
            ["--images", "list.txt"],
            "none of the 1 images can be read, so nothing is written; the first: gone.jpg does not exist.",
        ),
        (["--workers", "x"], "--workers x: give a number of processes, at most "),
        (["--classes", "cat"], "DenseCLIPDetector learned tensors for each of its 3 classes"),
        (["--image-ids", "train.json"], "train.json has 0 images of the name 000000000500.jpg, and each image needs one"),
    ],
)
def test_mistakes_end_in_one_sentence(trained, command, tmp_path, arguments, said):
    run, data = trained
    (tmp_path / "list.txt").write_text("gone.jpg")
    (tmp_path / "train.json").write_bytes((data / "annotations/instances_train2017.json").read_bytes())
    status, _, errors = command(run, "--images", data / "val2017", *arguments)
    assert status == 1
    assert said in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("detections*"))


def test_from_python(trained):
    finder = load(trained[0] / PROMPTS, config_dir=CONF)
    assert (finder.classnames, finder.category_ids) == (["person", "car", "cat"], [1, 3, 17])
    image = PIL.Image.open(sorted((trained[1] / "val2017").iterdir())[0])
    assert finder.pixels(image).shape == (3, 24, 36)  # as in the run's own test
    rows = finder.found(image)
    assert rows[0].keys() == {"category_id", "category", "bbox", "score", "segmentation"}
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert all(row["segmentation"]["size"] == [32, 48] for row in rows)


def test_ids_of_images(tmp_path):
    file = tmp_path / "info.json"
    images = [{"id": 9, "file_name": "a.jpg"}, {"id": 8, "file_name": "deep/b.jpg"}, {"id": 7, "file_name": "b.jpg"}]
    file.write_text(json.dumps({"images": images}))
    assert image_ids(["p/a.jpg"], file) == [9]
    assert image_ids(["p/a.jpg"], None) == ["p/a.jpg"]
    with pytest.raises(ValueError, match="has 2 images of the name b.jpg"):
        image_ids(["b.jpg"], file)
