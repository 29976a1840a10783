"""Images with boxes: batches, mirrored and resized boxes and masks, crowds, boxes over the edge, images without objects."""

import json

import numpy as np
import PIL.Image
import pytest
import torch
from detection_trees import put_coco_instances

from datamodules.box_transforms import Boxed, BoxTransform
from datamodules.coco_boxes import CocoBoxes
from datamodules.detected import NO_CLASS, DetectedData
from datamodules.detected_items import DetectedImage
from datamodules.drawn_boxes import DrawnBoxes

SPEC = {"size": 32, "mean": (0.5,) * 3, "std": (0.3,) * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
FILES = {"train": "annotations/instances_train2017.json", "test": "annotations/instances_val2017.json",
         "train_images": "train2017", "test_images": "val2017"}  # fmt: skip


def source_of(root, **options):
    return CocoBoxes(str(root), "coco", **{**FILES, **options})


def data_of(root, source=None, **options):
    defaults = {"shots": -1, "seed": 1, "shorter": 32, "longer": 48, "batch_size": 5, "eval_batch_size": 4}
    return DetectedData("coco_boxes", source or source_of(root), SPEC, **{**defaults, **options})


def edited(root, edit, split="train2017"):
    path = root / f"coco/annotations/instances_{split}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def said(call, *arguments, **named):
    """The one sentence of a refusal."""
    with pytest.raises(ValueError) as error:
        call(*arguments, **named)
    assert "\n" not in str(error.value)
    return str(error.value)


def first_batch(data):
    return next(iter(data.train_loader()))


def test_batches_of_training_and_test(tmp_path):
    put_coco_instances(tmp_path)
    data = data_of(tmp_path, flip=0.0)
    batch = first_batch(data)
    assert data.classnames == ["person", "car", "cat"]
    assert data.category_ids == data.eval_loader("test").dataset.category_ids == [1, 3, 17]
    assert data.trained_on == "6 training images, 10 objects of 3 classes"
    assert batch["image"].shape == (5, 3, 32, 48)
    assert batch["masks"].shape == (5, 2, 32, 48)
    for boxes, classes, masks in zip(batch["boxes"], batch["classes"], batch["masks"], strict=True):
        for (x1, y1, x2, y2), label, mask in zip(boxes.int().tolist(), classes.tolist(), masks, strict=True):
            if label != NO_CLASS:
                assert mask.sum() == mask[y1:y2, x1:x2].sum() == (y2 - y1) * (x2 - x1)
    [test] = data.eval_loader("test")
    assert test["classes"].tolist() == [[2, 1, 0], [2, 1, -1], [2, 1, -1], [-1, -1, -1]]
    assert test["crowd"].tolist()[0] == [False, False, True]  # which training leaves out
    assert test["area"][0].tolist() == [192, 192, 190]
    assert data.evaluation("test", "test", "all").classnames == data.classnames


def test_an_image_goes_with_its_boxes_and_masks():
    masks = torch.zeros(1, 20, 40, dtype=torch.uint8)
    masks[0, 5:10, 4:14] = 1
    image = torch.zeros(3, 20, 40, dtype=torch.uint8)
    image[:, 5:10, 4:14] = 255
    sample = Boxed(image, torch.tensor([[4.0, 5, 14, 10]]), masks)
    made = BoxTransform(40, 100, 1.0)(sample, 0)
    assert made.image.shape == (3, 40, 80)
    assert made.boxes.tolist() == [[80 - 28, 10, 80 - 8, 20]]
    assert made.masks[0, 10:20, 52:72].all()
    assert made.masks.sum() == 200
    assert made.image[0, 12:18, 54:70].min() == 255
    assert BoxTransform(40, 60).size_of(20, 40) == (30, 60)
    kinds = {tuple(BoxTransform(20, 40, 0.5)(sample, seed).boxes[0].tolist()) for seed in range(20)}
    assert kinds == {(4, 5, 14, 10), (26, 5, 36, 10)}
    with pytest.raises(ValueError, match="shorter"):
        BoxTransform(50, 40)
    with pytest.raises(ValueError, match="flip"):
        BoxTransform(5, 40, 2.0)


def test_what_is_mirrored_depends_on_no_rank(tmp_path):
    put_coco_instances(tmp_path)
    whole = {int(i): box for b in data_of(tmp_path).train_loader() for i, box in zip(b["index"], b["boxes"], strict=True)}
    for rank in range(2):
        for batch in data_of(tmp_path).train_loader(rank, 2):
            for i, weight, boxes in zip(batch["index"], batch["weight"], batch["boxes"], strict=True):
                assert not weight or torch.equal(boxes[:1], whole[int(i)][:1])


def test_boxes_are_cut_at_the_edge_and_left_out_without_area(tmp_path):
    """The rule of docs/detection.md."""
    put_coco_instances(tmp_path)

    def edit(content):
        boxes = ([-5, -5, 15, 12], [40, 20, 30, 30], [60, 5, 10, 10], [7, 7, 0, 5])
        for thing, box in zip(content["annotations"], boxes, strict=False):
            thing["bbox"] = box

    edited(tmp_path, edit)
    items = source_of(tmp_path).splits(1).train
    assert [[thing.box for thing in item.objects if not thing.crowd] for item in items[:2]] == [
        [(0, 0, 10, 7), (40, 20, 48, 32)],
        [],
    ]
    assert len(source_of(tmp_path, keep_empty=False).splits(1).train) == 4


def test_an_image_of_another_size_or_that_cannot_be_read(tmp_path):
    folder = put_coco_instances(tmp_path)
    item = source_of(tmp_path).splits(1).train[0]
    PIL.Image.new("RGB", (20, 20)).save(folder / item.path, "PNG")
    text = said(source_of(tmp_path).open, item)
    assert "has 20 x 20 pixels, and its file of objects says 48 x 32" in text
    data = data_of(tmp_path, on_bad_image="skip", batch_size=6)
    batch = first_batch(data)
    place = batch["index"].tolist().index(0)
    assert batch["weight"][place] == 0
    assert (batch["classes"][place] == NO_CLASS).all()
    assert data.bad_images() == [item.path]


def test_refusals(tmp_path):
    put_coco_instances(tmp_path)
    assert "no subset=base" in said(data_of(tmp_path).listed, "train", "base")
    assert "has no validation images" in said(data_of(tmp_path).items, "val")
    assert "there are 6 images" in said(source_of(tmp_path, held_out=6).splits, 1)
    assert "held_out=1" in said(source_of, tmp_path, held_out=1, val="a.json")
    assert "neither train nor test" in said(CocoBoxes, str(tmp_path), "coco")
    edited(tmp_path, lambda content: content["annotations"][0].pop("segmentation"))
    assert "annotation 1000 has no segmentation" in said(source_of(tmp_path).splits, 1)
    assert len(source_of(tmp_path, masks=False).splits(1).train) == 6
    edited(tmp_path, lambda content: content["categories"].pop(0), "val2017")
    edited(tmp_path, lambda content: content["annotations"].clear(), "val2017")
    assert "has other categories than" in said(source_of(tmp_path, masks=False).splits, 1)


def test_the_digest_follows_boxes_and_masks(tmp_path):
    put_coco_instances(tmp_path)
    before = source_of(tmp_path).digest(1)
    assert source_of(tmp_path, masks=False).digest(1) != before
    edited(tmp_path, lambda content: content["annotations"][0].update(segmentation=[[5, 5, 9, 5, 9, 9]]))
    assert source_of(tmp_path).digest(1) != before


def test_drawn_things_have_their_boxes_and_masks():
    source = DrawnBoxes()
    item = DetectedImage("placed/test/3", "placed/test/3", ())
    masks = source.object_masks(item)
    assert masks.shape[1:] == source.open(item).size[::-1] == (64, 64)
    assert 2 <= len(masks) <= 5
    assert not np.logical_and.reduce(masks[:2]).any()  # of visible pixels
    assert [len(DrawnBoxes(classes).classnames) for classes in ("colours", "shapes")] == [8, 20]
    with pytest.raises(ValueError, match="colours or shapes"):
        DrawnBoxes("textures")
