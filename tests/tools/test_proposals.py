"""The command that makes dets.json: what it finds is read back by the dataset; which weights and options it refuses."""

import json
import os
import pickle
import re

import pytest
import torch
from refer_trees import THINGS, put_refcoco
from safetensors.torch import save_file
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d, box_iou

from datamodules.boxes import clamp, from_xywh
from datamodules.refer_files import ReferFiles
from runs import launch
from tools import detector, proposals

SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"
BAD = "coco/train2014/COCO_train2014_000000000030.jpg"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights for the smallest detector and two classes beside none."""
    torch.manual_seed(0)
    model = getattr(detection, SMALL)(weights=None, weights_backbone=None, num_classes=3)
    state = {name: value for name, value in model.state_dict().items() if "num_batches" not in name}  # as published ones
    path = tmp_path_factory.mktemp("weights") / "detector.pth"
    torch.save(state, path)
    return path


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command on the files in tmp_path: exit status, screen, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*options, data="refcoco"):
        line = ["proposals", f"data={data}", f"data_root={tmp_path}", "--model", SMALL, "--size", "32", "--threshold", "0.01"]
        monkeypatch.setattr("sys.argv", [*line, "--most", "7", "--device", "cpu", *map(str, options)])
        status = launch.exit_status_of(proposals.main)
        return status, *capsys.readouterr()

    return run


def test_what_is_found_is_read_back_by_the_dataset(tmp_path, command, weights):
    folder = put_refcoco(tmp_path)
    (folder / "dets.json").unlink()
    status, screen, errors = command("--weights", weights, "--out", folder / "dets.json")
    assert status == 0, errors
    rows = json.loads((folder / "dets.json").read_text())
    assert f"{len(rows)} boxes in 6 images, 0 without one" in screen
    assert sorted(path.name for path in folder.iterdir()) == ["dets.json", "instances.json", "refs(unc).p"]
    assert [row["det_id"] for row in rows] == list(range(len(rows)))
    assert {row["image_id"] for row in rows} == set(THINGS)  # of every split
    lists = ReferFiles(str(tmp_path), "refcoco", "refs(unc).p", test="testA", without="refuse").splits(1)
    for item in (*lists.train, *lists.val, *lists.test):
        own = [row for row in rows if row["image_id"] == item.image_id]
        assert len(own) <= 7
        assert [row["score"] for row in own] == sorted((row["score"] for row in own), reverse=True)
        assert item.proposals == tuple(clamp(from_xywh(row["box"]), item.size) for row in own)
        boxes = torch.tensor([from_xywh(row["box"]) for row in own])
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= torch.tensor(item.size) + 0.01).all()
        overlaps = box_iou(boxes, boxes).fill_diagonal_(0)
        assert overlaps.max() <= 0.52  # whatever their classes; corners are rounded
    assert {row["category_id"] for row in rows} <= {1, 2}
    assert {row["category_name"] for row in rows} <= {"class 1", "class 2"}  # the file's only category has another numbering


def test_boxes_of_different_classes_are_merged():
    """Of two that overlap the better one stays; a box beyond the image is cut off there."""
    out = {
        "boxes": torch.tensor([[1.0, 1, 11, 11], [1, 1, 11, 12], [20, 5, 40, 9]]),
        "labels": torch.tensor([1, 2, 1]),
        "scores": torch.tensor([0.4, 0.9, 0.5]),
    }
    image = torch.zeros(3, 24, 32, dtype=torch.uint8)
    assert detector.detections(lambda images: [out], image, 0.5, 9) == [
        ([1.0, 1.0, 10.0, 11.0], 2, 0.9),
        ([20.0, 5.0, 12.0, 4.0], 1, 0.5),
    ]
    assert len(detector.detections(lambda images: [out], image, 0.5, 1)) == 1


def test_an_interruption_and_a_bad_image(tmp_path, command, weights, monkeypatch):
    """What goes on after an interruption writes what an undisturbed command does."""
    put_refcoco(tmp_path)
    (tmp_path / BAD).write_bytes(b"no picture")
    assert command("--weights", weights, "--out", "whole.json")[0] == 0
    read, calls = proposals.detections, []

    def stopped(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(*arguments)

    monkeypatch.setattr(proposals, "detections", stopped)
    assert command("--weights", weights, "--out", "dets.json")[0] == 130
    assert not (tmp_path / "dets.json").exists()
    status, screen, errors = command("--weights", weights, "--out", "dets.json")
    assert (status, len(calls)) == (0, 6)  # of five images that can be read, one twice
    assert "going on after 3 of 6 images" in screen
    assert f"not read: {tmp_path / BAD} cannot be decoded" in errors
    assert BAD in (tmp_path / "dets.json.not_read.txt").read_text()
    assert (tmp_path / "dets.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert 30 not in {row["image_id"] for row in json.loads((tmp_path / "dets.json").read_text())}


def test_the_images_of_a_split(tmp_path, command, weights):
    put_refcoco(tmp_path)
    status, screen, _ = command("--weights", weights, "--out", "dets.json", "--splits", "val", "testB")
    assert (status, "in 3 images" in screen) == (0, True)
    assert {row["image_id"] for row in json.loads((tmp_path / "dets.json").read_text())} == {30, 73, 74}


def test_no_image_that_can_be_read(tmp_path, command, weights):
    put_refcoco(tmp_path)
    (tmp_path / BAD).write_bytes(b"no picture")
    status, _, errors = command("--weights", weights, "--out", "dets.json", "--splits", "val")
    assert (status, "no image can be read" in errors) == (1, True)
    assert not list(tmp_path.glob("dets.json*"))


@pytest.mark.parametrize(
    ("options", "data", "reason"),
    [
        ("--threshold 1.5", "refcoco", "--threshold 1.5: give a number from 0 to 1"),
        ("--nms nan", "refcoco", "--nms nan: give a number from 0 to 1"),
        ("--most 0", "refcoco", "--most 0: give a number of boxes from 1 to 2,000"),
        ("--size 5", "refcoco", "--size 5: give a number of pixels"),
        ("--workers many", "refcoco", "--workers many: give a number of processes"),
        ("--device nothing", "refcoco", "--device nothing cannot be used here"),
        ("--splits test", "refcoco", r"--splits test: .*refs(unc).p has the splits testA, testB, train, val"),
        ("--out coco", "refcoco", "--out coco is there"),
        ("images=true", "refcoco", "images=true is not understood"),
        ("data.source.disk.without=x", "refcoco", "without='x': choose one of whole_image, refuse"),
        ("", "scenes_refer", "data=scenes_refer has no files of expressions"),
        ("", "eurosat", "data=eurosat has no files of expressions"),
        ("", "all", "data=all has no files of expressions"),
        ("", "nothing", "data=nothing is not known"),
    ],
)
def test_mistakes(tmp_path, command, weights, options, data, reason):
    put_refcoco(tmp_path)
    status, _, errors = command("--weights", weights, "--out", "dets.json", *options.split(), data=data)
    assert (status, errors.count("\n")) == (1, 1)
    assert reason.replace(".*", f"{tmp_path}/refcoco/") in errors
    assert not (tmp_path / "dets.json").exists()


SCORES, BLOCK = "roi_heads.box_predictor.cls_score.bias", "backbone.fpn.inner_blocks.0.0.weight"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({BLOCK: None}, f"it lacks {BLOCK}; give the file of that model, or its name by --model"),
        ({"more": torch.ones(2)}, "it has 'more'"),
        ({SCORES: None}, "it scores 0 classes"),
        ({SCORES: torch.zeros(5)}, "size mismatch"),
        ({SCORES: torch.zeros(10**6)}, "it scores 1,000,000 classes"),
        ({SCORES: torch.full((3,), torch.nan)}, "holds numbers that are not finite"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, weights, changes, reason):
    state = {name: value for name, value in (torch.load(weights, mmap=True) | changes).items() if value is not None}
    with pytest.raises(ValueError, match=reason):
        detector.detector(SMALL, tmp_path / "file", state, 0.3, 0.5)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("was-here",)


def test_files_that_are_no_weights(tmp_path, monkeypatch):
    """They are refused, and nothing in them runs."""
    monkeypatch.chdir(tmp_path)
    torch.save({SCORES: Hostile()}, tmp_path / "hostile.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "damaged.safetensors").write_bytes(b"\xff" * 64)
    for path in (*tmp_path.iterdir(), tmp_path / "nowhere.pth", tmp_path):
        with pytest.raises(ValueError, match="detector weights"):
            detector.opened(SMALL, path, 0.3, 0.5)
    assert not (tmp_path / "was-here").exists()


def old(name):
    """A tensor's name in the files that torchvision publishes for its first detectors."""
    return re.sub(r"(_blocks\.\d|rpn\.head\.conv)(?:\.0)+\.(weight|bias)$", r"\1.\2", name)


def test_published_weights_are_run_as_torchvision_does(tmp_path):
    """Their normalisation is frozen, with nothing added to the variance, and their names are those of an early version."""
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d)
    reference = detection.FasterRCNN(backbone, 4).eval()
    for module in reference.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0
            module.running_var.fill_(2e-5)  # to which 1e-5, as elsewhere, would add a half
            module.weight.mul_(0.004)
    state = {old(name): value for name, value in reference.state_dict().items()}
    assert {"backbone.fpn.inner_blocks.0.weight", "rpn.head.conv.bias"} < state.keys()
    save_file(state, tmp_path / "published.safetensors")
    (model, classes), _ = detector.opened(detector.MODELS[0], tmp_path / "published.safetensors", 0.01, 0.5)
    assert classes == 4
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected, got = reference.backbone(image), model.backbone(image)
        for level, seen in expected.items():
            assert torch.allclose(got[level], seen, rtol=1e-3, atol=1e-4 * float(seen.std()))
        assert torch.equal(model.rpn.head(list(got.values()))[0][0], reference.rpn.head(list(got.values()))[0][0])


@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn_v2"])
def test_other_detectors(name, tmp_path):
    with torch.device("meta"):
        shapes = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=6).state_dict()
    state = {key: torch.full(value.shape, 0.01, dtype=value.dtype) for key, value in shapes.items()}
    model, classes = detector.detector(name, tmp_path / "file", state, 0.01, 0.5, 32)
    assert classes == 6
    out = model([torch.rand(3, 24, 32)])[0]
    assert set(out) == {"boxes", "labels", "scores"}  # no masks, which nobody asks for
    with pytest.raises(ValueError, match="holds no weights of fasterrcnn_resnet50_fpn"):
        detector.detector("fasterrcnn_resnet50_fpn", tmp_path / "file", state, 0.3, 0.5)
