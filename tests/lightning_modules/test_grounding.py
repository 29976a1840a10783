"""Grounding: what a choice is worth, what the learner is given, what is learned from, files and refusals."""

import json

import numpy as np
import PIL.Image
import pytest
import torch
from small_places import BOXES, ByColour, Rectangles, Scaled, parts
from small_runs import trainer

from datamodules.grounding_items import Expression
from lightning_modules.box_choices import NO_TARGET, images_of, line_of, measured, paint, sample_of, target_of
from prompts.cpt_learned import LearnedCPT


def test_numbers_of_an_evaluation():
    """IoU 1/2 is no hit: the right half of a box against the whole; 5/8 is one."""
    whole, half, most = (0.0, 0.0, 8.0, 8.0), (4.0, 0.0, 8.0, 8.0), (0.0, 0.0, 8.0, 5.0)
    proposals = [(half, most), (half,), (whole, half, most, whole)]
    items = [Expression("a", 1, 1, "x", whole, boxes) for boxes in proposals]
    metrics = measured(items, [1, 0, 1])
    assert metrics["accuracy"] == pytest.approx(100 / 3)
    assert metrics["chance"] == pytest.approx(100 * (1 / 2 + 0 + 3 / 4) / 3)
    assert metrics["upper_bound"] == pytest.approx(200 / 3)
    assert metrics["proposals"] == pytest.approx(7 / 3)
    assert metrics["mean_iou"] == pytest.approx((5 / 8 + 1 / 2 + 1 / 2) / 3)
    assert (metrics["expressions"], metrics["undetected"]) == (3, 0)
    blind = [Expression("b", 2, number, "x", whole, (whole,), detected=False) for number in range(2)]
    assert measured([*items, *blind], [1, 0, 1, 0, 0])["undetected"] == 1  # of images
    assert [target_of(item) for item in items] == [1, NO_TARGET, 0]


def test_zero_shot_methods_train_nothing_and_see_each_expression_once():
    learner = ByColour()
    data, _, module = parts(learner, shots=0)
    assert data.train_items == []
    trainer().test(module, verbose=False)
    metrics = module.metrics["boxes"]
    assert metrics["expressions"] == 14
    assert metrics["accuracy"] == metrics["upper_bound"] == pytest.approx(100 * 12 / 14)  # two cannot be found
    assert metrics["chance"] == pytest.approx(100 * 12 / 14 / 3)
    images, boxes, texts, masks, keys = (
        sum(part, []) for part in zip(*[call[:3] + ([call[3]], call[4]) for call in learner.seen], strict=True)
    )
    items = data.test_items
    assert texts == [item.text for item in items]
    assert masks == [None] * len(learner.seen)
    assert all(torch.equal(of_image, torch.tensor(BOXES)) for of_image in boxes)
    for item, image in zip(items, images, strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(data.source.open(item)))  # without padding
    assert len(set(keys)) == 7  # the expressions of an image share theirs
    assert keys[0] == keys[1] != keys[2]


def test_masks_are_asked_for_where_the_method_wants_them():
    class Masked(Rectangles):
        def region_mask(self, item, number):
            return None if item.path == "test/1" else np.full((2, 2), number > 0)

    learner = ByColour()
    learner.needs_masks = True
    _, _, module = parts(learner, Masked())
    trainer().test(module, verbose=False)
    masks = [mask for call in learner.seen for mask in call[3]]
    assert [mask is None for mask in masks[:6]] == [False, False, True, True, False, False]
    assert masks[0].shape == (3, 2, 2)
    assert masks[0].any(-1).any(-1).tolist() == [False, True, True]


def test_the_bank_is_all_training_expressions_whatever_the_shots():
    learner, banks = ByColour(), []
    learner.set_bank = lambda clip, texts: banks.append(list(texts))
    data, _, module = parts(learner, shots=2)
    trainer().test(module, verbose=False)
    assert banks == [[item.text for item in Rectangles().splits(1).train]]
    assert len(data.train_items) == 2


def test_training_learns_from_expressions_that_a_proposal_hits():
    data, model, module = parts(Scaled())
    before = model.learner.scale.item()
    trainer(2).fit(module)
    assert model.learner.scale.item() > before  # the named colour is the brightest, so a larger scale is better
    batch = next(iter(data.train_loader()))
    losses, outputs = module.training_losses(batch, 0)
    targets = [target_of(data.train_items[i]) for i in batch["index"].tolist()]
    assert [loss > 0 for loss in losses["ce"].tolist()] == [target >= 0 for target in targets]
    assert outputs.shape == (4 * 3,)


def test_what_does_not_count_has_the_whole_image_as_its_box():
    data, _, module = parts(Scaled())
    batch = next(iter(data.train_loader()))
    batch["weight"][1] = 0
    losses, outputs = module.training_losses(batch, 0)
    assert outputs.shape == (3 * 3 + 1,)
    assert losses["ce"][1] == 0
    assert losses["ce"].requires_grad


def test_copies_of_training_images_are_encoded_once_and_each_image_alone(monkeypatch):
    """So that a run that is resumed in the middle meets the same bits: a feature's last ones depend on what is encoded with
    it."""
    data, model, module = parts(LearnedCPT(marker="crop", learn_marker=False))
    calls, encode = [], type(model.clip).encode_image
    monkeypatch.setattr(type(model.clip), "encode_image", lambda *given: calls.append(len(given[1])) or encode(*given))
    batches = list(data.train_loader())
    assert sum(len(batch["index"]) for batch in batches) == 12  # for 6 images
    for _ in range(3):
        for batch in batches:
            losses, _ = module.training_losses(batch, 0)
            losses["ce"].sum().backward()
    assert calls == [3] * 6
    batches[0]["weight"][1] = 0  # one whose image cannot be read: its pixels are not the image's
    for _ in range(2):
        module.training_losses(batches[0], 0)
    assert calls[6:] == [1, 1]
    trainer().test(module, verbose=False)
    assert calls[8:] == [6, 6, 6, 3]  # other images, in an evaluation: the two of a batch together


def test_an_image_that_cannot_be_read_is_left_out():
    source = Rectangles()
    source.broken = "test/1"
    _, _, module = parts(source=source, on_bad_image="skip")
    trainer().test(module, verbose=False)
    assert module.metrics["boxes"]["expressions"] == 12
    assert sorted(module.records["boxes"]) == [0, 1, *range(4, 14)]


def test_no_shots_are_refused_where_something_is_to_be_learned():
    _, _, module = parts(Scaled(), shots=0)
    with pytest.raises(ValueError, match="shots=0 gives Scaled no expression to learn from: give shots=N"):
        trainer().fit(module)


def test_shots_without_a_target_are_refused():
    class Missed(Rectangles):
        def expressions(self, split, images):
            for item in super().expressions(split, images):
                yield Expression(*item[:4], (0.0, 0.0, 3.0, 3.0), item.proposals)

    _, _, module = parts(Scaled(), Missed(), shots=2)
    with pytest.raises(ValueError, match="none of the 2 training expressions has a proposal"):
        trainer().fit(module)


def test_scores_that_are_not_finite_are_refused():
    class Lost(ByColour):
        def region_scores(self, *args, **kwargs):
            return [scores / 0 * 0 for scores in super().region_scores(*args, **kwargs)]

    _, _, module = parts(Lost())
    with pytest.raises(ValueError, match="a score of expression test-0-0 is not finite"):
        trainer().test(module, verbose=False)


def test_the_files_of_a_run(tmp_path):
    data, _, module = parts()
    trainer().test(module, verbose=False)
    module.write_files(tmp_path)
    lines = json.loads((tmp_path / "boxes_boxes.json").read_text())
    assert [line["expression_id"] for line in lines] == [item.expression_id for item in data.test_items]
    assert lines[0] == {"expression_id": "test-0-0", "image_id": 0, "proposal": 0, "box": list(BOXES[0])} | {
        key: lines[0][key] for key in ("score", "iou")
    }
    assert lines[0]["iou"] == 1.0
    assert lines[5]["iou"] < 0.5
    samples = json.loads((tmp_path / "samples.json").read_text())["evaluations"]["boxes"]
    worst = [sample for sample in samples if sample["why"] == "worst"]
    assert {sample["iou"] for sample in worst[:2]} == {lines[5]["iou"]}
    assert worst[0]["expression"] == data.test_items[5].text
    assert (tmp_path / worst[0]["image"]).exists()


def test_the_boxes_are_drawn_at_their_places():
    item = Expression("a", 1, 1, "x", (2.0, 2.0, 22.0, 12.0), ((2.0, 2.0, 22.0, 12.0), (30.0, 10.0, 40.0, 20.0)))
    for number, colour in ((0, (30, 90, 255)), (1, (230, 0, 40))):
        drawn = np.asarray(paint(PIL.Image.new("RGB", (100, 50)), sample_of(item, line_of(item, number, 0.5)), 2.0))
        gold = np.argwhere((drawn == (0, 170, 0)).all(-1))
        assert (gold.min(0).tolist(), gold.max(0).tolist()) == ([4, 4], [23, 43])
        chosen = np.argwhere((drawn == colour).all(-1))
        x1, y1, x2, y2 = item.proposals[number]
        assert (chosen.min(0).tolist(), chosen.max(0).tolist()) == ([2 * y1 + 2, 2 * x1 + 2], [2 * y2 - 3, 2 * x2 - 3])


def test_images_of_a_batch_lose_their_padding():
    batch = {"image": torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5), "size": torch.tensor([[4, 2], [3, 5]])}
    assert [image.shape for image in images_of(batch)] == [(3, 4, 2), (3, 3, 5)]
    assert torch.equal(images_of(batch)[1], batch["image"][1, :, :3])
