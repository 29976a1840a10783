"""Captioning: what is asked, what is measured of what is said, the files, and what is refused."""

import json

import pytest
import torch
from small_language import FakeLM, ToyPictures, parts
from small_runs import trainer

from datamodules.captioned import CaptionedImage
from lightning_modules.caption_metrics import CaptionMetrics, clip_scores
from lightning_modules.captioning import Captioning
from lightning_modules.language import drawn
from prompts.limber import LiMBeR

pytest.importorskip("pycocoevalcap.cider.cider")
SAID = ["a red dog", "a blue dog", "a dog", "a red dog sits", "blue", "", "a red cat"]


def evaluated(language_model, **options):
    data, model, module = parts(Captioning, ToyPictures(), language_model, **options)
    trainer().test(module, verbose=False)
    return data, model, module


def test_metrics_are_those_of_what_was_said_and_of_each_domain():
    words = FakeLM(lambda context, key: SAID[key])
    _, model, module = evaluated(words)
    assert {context[1] for context in words.asked} == {"A picture of"}
    assert {context[0].shape for context in words.asked} == {(16, 8)}
    items, metrics = module.tests[0].items, module.metrics["toys"]
    expected = CaptionMetrics()(SAID, [item.captions for item in items])
    for name, value in expected.together.items():
        assert metrics[name] == pytest.approx(value)
    assert (metrics["images"], metrics["tokenizer"]) == (7, "python")
    assert metrics["computed"] == [*expected.together, "clip_score", "ref_clip_score"]
    far = [i for i in range(7) if items[i].domain == "far"]
    expected = CaptionMetrics()([SAID[i] for i in far], [items[i].captions for i in far])
    assert metrics["domains"]["far"]["cider_d"] == pytest.approx(expected.together["cider_d"])
    assert metrics["domains"]["far"]["images"] + metrics["domains"]["near"]["images"] == 7
    assert "CIDEr-D" in module.line(metrics)


def test_clip_scores_are_those_of_the_images():
    _, model, module = evaluated(FakeLM(lambda context, key: SAID[key]))
    [evaluation] = module.tests
    pixels = torch.cat([batch["image"] for batch in evaluation.loader(0, 1)])
    score, with_references = clip_scores(
        model.clip, model.clip.encode_image(pixels), SAID, [item.captions for item in evaluation.items]
    )
    assert module.metrics["toys"]["clip_score"] == pytest.approx(score.mean().item(), abs=1e-3)
    assert module.metrics["toys"]["ref_clip_score"] == pytest.approx(with_references.mean().item(), abs=1e-3)


def test_the_files_are_what_the_server_takes_and_samples(tmp_path):
    _, _, module = evaluated(FakeLM(lambda context, key: SAID[key]))
    module.write_files(tmp_path)
    results = json.loads((tmp_path / "captions_toys.json").read_text())
    assert results == [{"image_id": 100 + i, "caption": SAID[i]} for i in range(7)]
    samples = json.loads((tmp_path / "samples.json").read_text())
    best = samples["evaluations"]["toys"][0]
    assert samples["task"] == "captioning"
    assert best["scores"]["cider_d"] == max(scores["cider_d"] for scores in module.scores["toys"].values())
    assert best["caption"] == SAID[best["index"]]
    assert best["references"] == list(module.tests[0].items[best["index"]].captions)


def test_training_lowers_the_loss_of_captions_drawn_by_the_image():
    words = FakeLM()
    data, model, module = parts(Captioning, ToyPictures(), words, learner=LiMBeR(dropout=0.0), prompt="This is")
    before = model.learner.image_map.weight.detach().clone()
    trainer(2).fit(module)
    assert module.losses[1][0] < module.losses[0][0]
    assert not torch.equal(before, model.learner.image_map.weight)
    assert {prompt for prompt, _ in words.learned} == {"This is"}
    assert len({text for _, text in words.learned}) > 6


def test_a_caption_is_drawn_by_the_seed_of_the_step_and_the_image_alone():
    texts = [str(i) for i in range(5)]
    draws = {(seed, index): drawn(texts, seed, index) for seed in range(20) for index in range(5)}
    assert set(draws.values()) == set(texts)
    assert all(drawn(texts, *key) == text for key, text in draws.items())


class Missing(ToyPictures):
    def __init__(self, split):
        self.split = split

    def items(self, split, count):
        for item in super().items(split, count):
            yield CaptionedImage(item.path, item.image_id, ()) if item.path == f"{self.split}/1" else item


def test_an_image_without_captions_is_refused():
    with pytest.raises(ValueError, match="test/1 has no text to compare with, and others have"):
        parts(Captioning, Missing("test"), FakeLM())
    _, _, module = parts(Captioning, Missing("train"), FakeLM())
    with pytest.raises(ValueError, match="train/1 has no text to learn from"):
        trainer(1).fit(module)


class Hidden(ToyPictures):
    def items(self, split, count):
        for item in super().items(split, count):
            yield CaptionedImage(item.path, item.image_id, (), item.domain) if split == "test" else item


def test_captions_that_are_not_public_leave_clip_score_and_the_servers_file(tmp_path):
    words = FakeLM(lambda context, key: SAID[key])
    data, model, module = parts(Captioning, Hidden(), words)
    trainer().test(module, verbose=False)
    _, _, full = evaluated(words)
    metrics = module.metrics["toys"]
    assert (module.figure.key, metrics["computed"]) == ("clip_score", ["clip_score"])
    assert metrics["clip_score"] == pytest.approx(full.metrics["toys"]["clip_score"], abs=1e-4)
    assert "ref_clip_score" not in metrics
    assert "cider_d" not in metrics
    assert "CLIPScore" in module.line(metrics)
    module.write_files(tmp_path)
    assert [entry["caption"] for entry in json.loads((tmp_path / "captions_toys.json").read_text())] == SAID


def test_prefixes_that_are_not_finite_have_no_result():
    _, model, module = parts(Captioning, ToyPictures(), FakeLM())
    with torch.no_grad():
        model.learner.image_map.bias.fill_(1e38).mul_(1e10)
    model.check_finite = lambda: None
    with pytest.raises(ValueError, match="prefix of the image test/0 is not finite"):
        trainer().test(module, verbose=False)


def test_wrong_options_are_one_sentence():
    with pytest.raises(ValueError, match="choose python or java"):
        parts(Captioning, ToyPictures(), FakeLM(), tokenizer="nltk")
    with pytest.raises(ValueError, match="there are meteor and spice"):
        parts(Captioning, ToyPictures(), FakeLM(), java_metrics=["cider"])
    with pytest.raises(ValueError, match="no language model"):
        parts(Captioning, ToyPictures(), None)
