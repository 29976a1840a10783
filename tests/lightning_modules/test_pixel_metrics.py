"""MIoU and accuracies from one confusion matrix, by hand and by a second implementation."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score, recall_score

from datamodules.segmented_items import IGNORE
from lightning_modules.pixel_metrics import ImageScores, confusion_of, iou_of, summarise

NAMES = ["sky", "tree", "car", "boat"]


def test_2_9_12_a_matrix_by_hand():
    """Two images of 2 x 3 pixels; boats are nowhere, cars only in the predictions, two pixels do not count."""
    truth = torch.tensor([[[0, 0, 1], [1, 1, IGNORE]], [[0, 0, 0], [IGNORE, 1, 1]]])
    found = torch.tensor([[[0, 1, 1], [1, 2, 3]], [[0, 0, 1], [0, 1, 1]]])
    confusion = confusion_of(4)
    confusion.update(found, truth)
    expected = torch.tensor([[3, 2, 0, 0], [0, 4, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert torch.equal(confusion.compute(), expected)
    metrics = summarise(expected, NAMES)
    iou = [3 / 5, 4 / 7, 0 / 1]  # sky: 3 of 3 + 2; tree: 4 of 4 + 2 + 1; car: predicted once and nowhere true
    assert metrics["miou"] == pytest.approx(100 * sum(iou) / 3)
    assert metrics["macc"] == pytest.approx(100 * (3 / 5 + 4 / 5) / 2)
    assert metrics["aacc"] == pytest.approx(70)
    assert metrics["pixels"] == 10
    assert metrics["per_class"][3] == {"class": "boat", "iou": None, "accuracy": None, "pixels": 0}
    assert metrics["per_class"][2] == {"class": "car", "iou": 0.0, "accuracy": None, "pixels": 0}
    assert metrics["per_class"][1] == {
        "class": "tree", "iou": pytest.approx(100 * 4 / 7), "accuracy": pytest.approx(80), "pixels": 5,
    }  # fmt: skip


def drawn(images=7, size=(9, 11), classes=6, absent=4):
    """Label maps and predictions that are right in most places; class `absent` is in neither."""
    generator = np.random.default_rng(0)
    able = [c for c in range(classes) if c != absent]
    truth = generator.choice(able, (images, *size))
    found = np.where(generator.random(truth.shape) < 0.6, truth, generator.choice(able, truth.shape))
    truth[generator.random(truth.shape) < 0.2] = IGNORE
    return torch.from_numpy(truth).byte(), torch.from_numpy(found).byte()


def test_it_is_sklearns():
    truth, found = drawn()
    confusion = confusion_of(6)
    confusion.update(found, truth)
    counts = truth != IGNORE
    a, b = truth[counts].numpy(), found[counts].numpy()
    assert np.array_equal(confusion.compute().numpy(), confusion_matrix(a, b, labels=range(6)))
    metrics, present = summarise(confusion.compute(), list("abcdef")), [0, 1, 2, 3, 5]
    ious = jaccard_score(a, b, labels=present, average=None)
    assert metrics["miou"] == pytest.approx(100 * ious.mean())
    assert [metrics["per_class"][c]["iou"] for c in present] == pytest.approx(list(100 * ious))
    assert metrics["per_class"][4]["iou"] is None
    assert metrics["macc"] == pytest.approx(100 * recall_score(a, b, labels=present, average="macro"))
    assert metrics["aacc"] == pytest.approx(100 * (a == b).mean())
    assert metrics["pixels"] == len(a)


@pytest.mark.parametrize("sizes", [(7,), (1,) * 7, (3, 4), (5, 1, 1)])
def test_2_9_12_batches_and_ranks_change_nothing(sizes):
    """What ranks counted is summed; each of these parts stands for a batch, or for a rank."""
    truth, found = drawn()
    whole = confusion_of(6)
    whole.update(found, truth)
    parts = []
    for one_truth, one_found in zip(truth.split(sizes), found.split(sizes), strict=True):
        part = confusion_of(6)
        part.update(one_found, one_truth)
        parts.append(part.confmat)
    assert torch.equal(sum(parts), whole.compute())
    assert summarise(sum(parts), list("abcdef")) == summarise(whole.compute(), list("abcdef"))


def test_the_mean_is_of_the_evaluation_and_not_of_its_images():
    """An image all right and one all wrong: 50 % of the images' means, 1/3 over all pixels."""
    truth, found = torch.zeros(2, 4, dtype=torch.long), torch.tensor([[0] * 4, [1] * 4])
    confusion, scores = confusion_of(2), ImageScores(3)
    for index in range(2):
        scores.update(index, confusion(found[index], truth[index]))
    assert summarise(confusion.compute(), ["a", "b"])["miou"] == pytest.approx(25)
    assert scores.compute()[:2].tolist() == [100, 0]
    assert math.isnan(scores.compute()[2])


def test_an_image_without_a_pixel_that_counts_has_no_score():
    confusion, scores = confusion_of(3), ImageScores(1)
    scores.update(0, confusion(torch.zeros(4).byte(), torch.full((4,), IGNORE, dtype=torch.uint8)))
    assert scores.compute().isnan().all()
    assert not confusion.compute().any()
    assert iou_of(confusion.compute()).isnan().all()
