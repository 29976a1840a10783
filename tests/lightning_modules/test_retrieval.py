"""The task as a LightningModule: its loss, its figures and its files."""

import json
import logging
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from captioned_toys import CaptionedToys, with_captions
from small_retrievals import evaluated, fit, parts
from small_runs import trainer
from toys import Toy

from lightning_modules.features import features_of
from lightning_modules.retrieval import Retrieval, StepCaptions, captions_over_images
from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.engine.text_plan import Caption, TextPlan, token_lists
from prompts.vpt import VPT
from prompts.zeroshot import ZeroShot


def test_the_loss_of_every_step_by_hand():
    seen = []

    class Look(Retrieval):
        def training_losses(self, batch, seed):
            losses, logits = super().training_losses(batch, seed)
            seen.append((batch, seed, self.model.classnames, losses, logits.detach()))
            return losses, logits

    data, model, module = parts()
    module.__class__ = Look
    trainer(1).fit(module)
    assert len(seen) == 3
    for batch, seed, captions, losses, logits in seen:
        assert len(captions) == 4
        by_place = dict(zip(batch["batch_index"].tolist(), batch["index"].tolist(), strict=True))
        for place, caption in enumerate(captions):
            assert caption in data.train_items[by_place[place]].captions
            assert caption == module.drawn(data.train_items, by_place[place], seed)
        order, labels = batch["batch_index"].argsort(), torch.arange(4)
        square = logits[order]
        assert torch.allclose(2 * losses["ce"][order], F.cross_entropy(square, labels, reduction="none"))
        assert torch.allclose(2 * losses["captions"][order], F.cross_entropy(square.T, labels, reduction="none"))
    assert model.learner.up.abs().sum() > 0


def test_what_is_drawn_depends_on_the_seed_and_the_image_alone():
    data, model, module = parts()
    drawn = [[module.drawn(data.train_items, index, seed) for index in range(13)] for seed in range(20)]
    assert drawn == [[module.drawn(data.train_items, index, seed) for index in range(13)] for seed in range(20)]
    assert {row[1] for row in drawn} == set(data.train_items[1].captions)


def test_gathered_images_that_do_not_count_and_other_views():
    """Two ranks with two rows each: the last is padding. The first two rows are views of one image."""
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    step = StepCaptions([Caption("a"), Caption("b")], torch.tensor([0, 0, 1, 0]), torch.tensor([True, True, True, False]))
    first, second = (captions_over_images(logits, step, torch.tensor(own)) for own in ([0, 1], [2, 3]))
    expected = [-logits[[row, 2], 0].log_softmax(0)[0] for row in (0, 1)]
    assert torch.allclose(first, torch.stack(expected))
    assert torch.allclose(second[0], -logits[[2, 0, 1], 1].log_softmax(0)[0])
    assert second.isfinite().all()  # what has weight 0 must not be NaN


def test_an_image_that_cannot_be_read_brings_no_caption():
    class Broken(CaptionedToys):
        broken = ("train/0.png", "train/5.png", "test/2.png")

    for source, batch_size in ((Broken(), 4), (Broken(), 1)):
        data, model, module = fit(source=source, on_bad_image="skip", batch_size=batch_size)
        assert all(math.isfinite(loss) for loss, _ in module.losses)
    trainer().test(module, verbose=False)
    metrics = module.metrics["toys"]
    items = [item for i, item in enumerate(data.test_items) if i != 2]
    assert (metrics["images"], metrics["captions"]) == (8, sum(len(item.captions) for item in items))


@pytest.mark.parametrize("learner", [Toy, lambda: ZeroShot(["{}"]), lambda: CoCoOp(2, None)])
def test_the_figures_are_those_of_the_whole_matrix(learner):
    data, model, module = evaluated(learner())
    every = [caption for item in data.test_items for caption in item.captions]
    owner = torch.tensor([i for i, item in enumerate(data.test_items) for _ in item.captions])
    model.bind([Caption(caption) for caption in every])
    with torch.no_grad():
        rows = [model(batch["image"]).logits for batch in data.eval_loader("test", "all")]
    logits = torch.cat(rows)  # (9,M)
    own = owner == torch.arange(9)[:, None]
    best = logits.masked_fill(~own, -torch.inf).max(1).values
    image_to_text = 1 + ((logits > best[:, None] + 1e-4) & ~own).sum(1)
    metrics = module.metrics["toys"]
    # "something outside" is a caption of four images: equal scores, which the order of the list decides
    ours = logits[owner, torch.arange(len(every))]
    text_to_image = 1 + (logits > ours + 1e-4).sum(0)
    for k in (1, 5, 10):
        assert metrics[f"text_to_image_r{k}"] == pytest.approx(100 * (text_to_image <= k).float().mean().item())
        assert metrics[f"image_to_text_r{k}"] <= 100 * (image_to_text <= k).float().mean().item() + 1e-4
    assert set(metrics["domains"]) == {"near", "far"}
    total = sum(part["images"] * part["image_to_text_r5"] for part in metrics["domains"].values())
    assert total / 9 == pytest.approx(metrics["image_to_text_r5"])
    assert sum(part["captions"] for part in metrics["domains"].values()) == metrics["captions"] == len(every)


def test_one_image():
    data, _, module = parts()
    data.selected = replace(data.selected, test=data.test_items[:1])
    module.tests = [data.evaluation("toys", "test", "all")]
    trainer().test(module, verbose=False)
    assert (module.metrics["toys"]["images"], module.metrics["toys"]["image_to_text_r1"]) == (1, 100.0)


def test_captions_are_encoded_once_per_evaluation():
    data, model, module = parts()
    count = model.text_encodings
    trainer().test(module, verbose=False)
    assert model.text_encodings == count + 1
    assert model.classnames == data.classnames  # bound again
    data, model, module = parts(CoCoOp(2, None))  # its text depends on the image: twice asked for, encoded in one pass
    count = model.text_encodings
    trainer().test(module, verbose=False)
    assert model.text_encodings == count + 2  # and once to see what the text depends on


class Counted(CaptionedToys):
    opened = 0

    def open(self, item):
        self.opened += 1
        return super().open(item)


@pytest.mark.parametrize(("learner", "times"), [(lambda: CoOp(2), 1), (lambda: VPT(2, 1), 2)])
def test_frozen_images_come_from_the_store(learner, times, tmp_path):
    source, results = Counted(), []
    for _ in range(2):
        data, model, module = parts(learner(), source=source)
        module.features = features_of(str(tmp_path), 1.0, "online")
        trainer().test(module, verbose=False)
        results.append(module.metrics)
    assert source.opened == times * 9
    assert results[0] == results[1]


def test_evaluating_in_training_changes_nothing():
    (_, a, one), (_, b, two) = fit(epochs=2), fit(epochs=2, vals=True)
    assert one.losses == two.losses
    assert [entry["epoch"] for entry in two.history] == [0, 1]
    assert {"image_to_text_r1", "text_to_image_median_rank"} <= set(two.history[0]["toys"])
    assert all(torch.equal(p, q) for p, q in zip(a.learner.parameters(), b.learner.parameters(), strict=True))


def test_text_is_watched_once_for_all_captions(monkeypatch):
    from prompts.parts.text_features import Reads

    entered = []
    monkeypatch.setattr(Reads, "__enter__", lambda self, enter=Reads.__enter__: entered.append(1) or enter(self))
    fit(CoOp(2), epochs=2)
    assert 1 <= len(entered) <= 2  # six steps


def test_files_and_the_line(tmp_path):
    data, model, module = evaluated()
    module.write_files(tmp_path)
    samples = json.loads((tmp_path / "samples.json").read_text())
    assert samples["task"] == "retrieval"
    entries = samples["evaluations"]["toys"]
    assert [entry["why"] for entry in entries] == ["best"] * 4 + ["worst"] * 4 + ["random"] * 4
    for entry in entries:
        assert entry["captions"] == list(data.test_items[entry["index"]].captions)
        assert (tmp_path / entry["image"]).is_file()
        scores = [score for _, score, _ in entry["retrieved"]]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
        first = next((place for place, (*_, own) in enumerate(entry["retrieved"], 1) if own), None)
        assert first == entry["rank"] or (first is None and entry["rank"] > 5)
    assert max(e["rank"] for e in entries[:4]) <= min(e["rank"] for e in entries[4:8])
    assert "(9 images, 22 captions)" in module.line(module.metrics["toys"])


class Long(CaptionedToys):
    def splits(self, seed):
        splits = super().splits(seed)
        more = [replace_captions(item) for item in splits.test]
        return replace(splits, train=[replace_captions(item) for item in splits.train], test=more)


def replace_captions(item):
    first, *others = item.captions
    return with_captions(item, (first, *("very " * 90 + caption for caption in others)))


def test_long_captions_are_cut_counted_and_said_once(caplog):
    with caplog.at_level(logging.WARNING):
        data, model, module = fit(CoOp(3), epochs=2, source=Long())
        trainer().test(module, verbose=False)
        trainer().test(module, verbose=False)
    metrics = module.metrics["toys"]
    assert metrics["cut_captions"] == metrics["captions"] - 9 > 0
    said = [record.getMessage() for record in caplog.records if "and cut" in record.getMessage()]
    assert len(said) == 2
    assert said[0].startswith("training: ")
    assert said[1].startswith(f"toys: {metrics['cut_captions']} of {metrics['captions']} captions are longer")


class Wants(Toy):
    """Learns from the image's own captions, too."""

    wants_captions = True

    def losses(self, out, labels, index):
        self.seen.append((index, out.captions, out.caption_mask))
        own = (out.captions * out.caption_mask[..., None]).sum(1) / out.caption_mask.sum(1, keepdim=True)
        near = 1 - F.cosine_similarity(out.image_features @ self.down @ self.up + out.image_features, own)
        return super().losses(out, labels, index) | {"near": near}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_learners_that_want_them_get_all_captions_of_an_image(precision):
    learner = Wants()
    learner.seen = []
    data, model, module = parts(learner, epochs=2)
    trainer(2, precision=precision).fit(module)
    assert len(learner.seen) == 6
    for index, features, mask in learner.seen:
        for image, rows, present in zip(index.tolist(), features, mask, strict=True):
            captions = list(data.train_items[image].captions)
            assert present.tolist() == [True] * len(captions) + [False] * (3 - len(captions))
            plan = TextPlan(token_lists(model.clip.tokenizer, captions, "{}", 0, "end"))
            torch.testing.assert_close(rows[present], model.clip.encode_text(plan), rtol=1e-4, atol=1e-4)
            assert (rows[~present] == 0).all()


def test_bf16():
    data, model, module = parts(CoOp(2))
    trainer(precision="bf16-mixed").fit(module)
    trainer(precision="bf16-mixed").test(module, verbose=False)
    assert model.learner.ctx.dtype == torch.float32
    assert 0 <= module.metrics["toys"]["image_to_text_r1"] <= 100
