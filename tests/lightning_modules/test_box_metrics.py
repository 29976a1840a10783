"""COCO's mean average precision: torchmetrics' number whatever the order, crowds, sizes, absent classes, pictures' scores."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.detection import MeanAveragePrecision

from lightning_modules.box_metrics import entries_of, image_score, summarise
from lightning_modules.box_pictures import boxes_on
from lightning_modules.detection import as_opened
from prompts.parts.detectors import Detections

RNG = np.random.default_rng(5)


def masks_of(boxes, side=64):
    masks = torch.zeros(len(boxes), side, side, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def image_of(number):
    """Found and true objects of three classes; a few are found well."""
    corners = torch.from_numpy(RNG.integers(0, 40, (4, 2))).float()
    truth = torch.cat([corners, corners + torch.from_numpy(RNG.integers(5, 24, (4, 2))).float()], 1)
    found = truth + torch.from_numpy(RNG.integers(-2, 3, (4, 4))).float()
    found = found.clamp(0, 64)
    labels = torch.from_numpy(RNG.integers(0, 3, 4))
    guessed = torch.where(torch.from_numpy(RNG.random(4) < 0.7), labels, 0)
    crowd = torch.tensor([0, 0, 0, int(number == 1)])
    areas = (truth[:, 2:] - truth[:, :2]).prod(-1)
    scores = torch.from_numpy(RNG.choice([0.2, 0.5, 0.9], 4)).float()  # many equal ones
    return (
        {"boxes": found, "scores": scores, "labels": guessed, "masks": masks_of(found)},
        {"boxes": truth, "labels": labels, "iscrowd": crowd, "area": areas, "masks": masks_of(truth)},
    )


@pytest.mark.parametrize("masks", [True, False])
def test_the_number_is_torchmetrics_in_any_order(masks):
    images = [image_of(number) for number in range(6)]
    whole = MeanAveragePrecision(iou_type=("bbox", "segm") if masks else "bbox", class_metrics=True)
    for found, truth in images:
        whole.update([found], [truth])
    expected = whole.compute()
    key = "bbox_" if masks else ""
    records = {i: entries_of(*image, masks) for i, image in enumerate(images)}
    made = summarise(records, ["a", "b", "c", "never"], masks)
    assert made == summarise(dict(reversed(records.items())), ["a", "b", "c", "never"], masks)
    assert 5 < made["map"] < 95
    assert made["map"] == pytest.approx(100 * float(expected[f"{key}map"]))
    assert made["map_50"] == pytest.approx(100 * float(expected[f"{key}map_50"]))
    assert made["map_large"] is None
    by_class = expected[f"{key}map_per_class"].tolist()
    assert [entry["map"] for entry in made["by_class"][:3]] == pytest.approx([100 * value for value in by_class])
    assert made["by_class"][3] == {"class": "never", "objects": 0, "map": None} | ({"mask_map": None} if masks else {})
    assert made["objects"] == 23  # without the crowd
    if masks:
        assert made["mask_map"] == pytest.approx(100 * float(expected["segm_map"]))


def test_what_lies_in_a_crowd_is_no_mistake():
    truth = {"boxes": torch.tensor([[0.0, 0, 10, 10], [20, 20, 60, 60]]), "labels": torch.tensor([0, 0]),
             "iscrowd": torch.tensor([0, 1]), "area": torch.tensor([100.0, 1600])}  # fmt: skip
    found = {"boxes": torch.tensor([[20.0, 20, 30, 30], [0, 0, 10, 10]]), "scores": torch.tensor([0.9, 0.8]),
             "labels": torch.tensor([0, 0])}  # fmt: skip
    assert summarise({0: entries_of(found, truth, False)}, ["a"], False)["map"] == pytest.approx(100)
    alone = truth | {"iscrowd": torch.tensor([0, 0])}
    assert summarise({0: entries_of(found, alone, False)}, ["a"], False)["map"] < 60


def test_scores_and_pictures_of_an_image():
    found, truth = image_of(0)
    found |= {"boxes": truth["boxes"], "labels": truth["labels"], "scores": torch.tensor([0.9, 0.8, 0.7, 0.4])}
    entry = entries_of(found, truth, False)
    assert image_score(entry) == pytest.approx(2 * 3 / (3 + 4))
    shown, guessed = boxes_on(Image.new("RGB", (64, 32)), entry, ["a", "b", "c"])
    assert shown["truth"].size == guessed["prediction"].size == (128, 64)
    assert len(shown["objects"]) == 4
    assert [round(score) for _, score, _ in guessed["found"]] == [90, 80, 70]
    assert shown["truth"].getextrema() != ((0, 0),) * 3


def test_boxes_and_masks_go_back_to_the_image_as_opened():
    found = Detections(torch.tensor([[10.0, 5, 30, 25]]), torch.tensor([0.9]), torch.tensor([1]), torch.ones(1, 1, 28, 28))
    made = as_opened(found, torch.tensor([50, 40]), [100, 120], True)
    assert made["boxes"].tolist() == [[30, 10, 90, 50]]
    assert made["masks"].shape == (1, 100, 120)
    rows, columns = made["masks"][0].any(1).nonzero(), made["masks"][0].any(0).nonzero()
    assert abs(int(rows[0]) - 10) <= 1
    assert abs(int(columns[-1]) - 89) <= 2
