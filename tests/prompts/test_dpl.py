"""DPL's training of found lengths; the numbers are those of the list of tests in its specification. The other numbers are in
test_dpl_supernet.py, tests/datamodules/test_alternating.py and tests/lightning_modules/test_dpl_search.py."""

from functools import partial

import plain
import pytest
import torch
import torch.nn.functional as F
from dpl_models import LENGTHS, ZEROS, both, logits, search, subnet, wide
from sizes import SMALL
from test_methods import NAMES, batch, model_of

from prompts.dpl import DPL
from prompts.dpl_search import DPLSearch
from prompts.engine.blocks import Block
from prompts.engine.clip import FrozenCLIP, build
from prompts.engine.text_plan import token_lists
from prompts.parts.teacher import SIXTY_TEMPLATES
from prompts.zeroshot import ZeroShot


def test_3_no_prompts_are_the_frozen_clip_and_parameters_are_counted(small_clip):
    model = model_of(small_clip, DPL(ZEROS))
    zeroshot = model_of(small_clip, ZeroShot("single"))
    torch.testing.assert_close(logits(model), logits(zeroshot), rtol=1e-6, atol=1e-6)
    assert not model.learner.uses_gradients
    assert sum(p.numel() for p in subnet(small_clip).learner.parameters()) == 5 * 64 + 5 * 96
    assert sum(p.numel() for p in search(small_clip).learner.parameters()) == 3 * 4 * (64 + 96) + 2 * 3 * 3


def test_4_prompts_add_no_positions_and_reach_every_row(small_clip, monkeypatch):
    seen = []
    finish = Block.finish
    monkeypatch.setattr(Block, "finish", lambda *args: seen.append(finish(*args)) or seen[-1])
    rows = {}
    for name, model in {"with": subnet(small_clip), "without": model_of(small_clip, ZeroShot("single"))}.items():
        seen.clear()
        logits(model)
        rows[name] = list(seen)
    assert [x.shape for x in rows["with"]] == [x.shape for x in rows["without"]]
    blocks = small_clip.image_blocks
    assert not torch.allclose(rows["with"][blocks][0, 0], rows["without"][blocks][0, 0])  # SOS sees what stands behind it
    assert torch.equal(rows["with"][0], rows["without"][0])  # the first image block has no prompts


@pytest.mark.parametrize("names", [NAMES, ["rose"]])
def test_4_and_13_towers_are_the_papers(small_clip, names):
    """Against every position of every class under a causal mask, each option attended to in a call of its own."""
    images = batch()[0]
    lists = token_lists(small_clip.tokenizer, names, "a photo of a {}.", 0, "end")
    for model in (search(small_clip, names), subnet(small_clip, names)):
        text, image = both(model.learner)
        out = model(images)
        torch.testing.assert_close(out.text_features, plain.encode_text(small_clip, lists, text)[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(out.image_features, plain.encode_image(small_clip, images, image), rtol=1e-4, atol=1e-4)


def test_12_distillation_from_zero_shot_clip(small_clip):
    images, labels = batch()

    def run(weight, lengths=LENGTHS):
        model = wide("dpl", prompt_lengths=lengths, kd_weight=weight, teacher_templates=["a photo of a {}."])(small_clip)
        out = model(images)
        losses = model.losses(out, labels, torch.arange(8))
        total = sum(part.mean() for part in losses.values())
        if total.requires_grad:
            total.backward()
        return losses, [p.grad for p in model.learner.parameters()], out.logits.detach()

    without, gradients, student = run(0.0)
    assert set(without) == {"ce"}
    kd, others, _ = run(0.5)
    assert kd["kd"].min() >= 0
    assert kd["kd"].max() > 1e-5
    assert not all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
    assert torch.equal(kd["ce"], without["ce"])
    torch.testing.assert_close(kd["kd"], 0.5 * run(1.0)[0]["kd"])
    same, _, teacher = run(1.0, ZEROS)
    torch.testing.assert_close(same["kd"], torch.zeros(8), atol=1e-7, rtol=0)  # student == teacher
    divided = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="none").mean(1)  # by the number of classes
    torch.testing.assert_close(kd["kd"], 0.5 * divided, rtol=1e-4, atol=1e-7)


def test_the_teacher_is_the_clip_that_is_prompted_or_another(small_clip):
    images, labels = batch()
    other = FrozenCLIP(build(SMALL | {"quick_gelu": False}))

    def kd(**settings):
        model = model_of(small_clip, DPL(LENGTHS, kd_weight=1.0, teacher_templates=["a photo of a {}."], **settings))
        return model.losses(model(images), labels, torch.arange(8))["kd"]

    own = kd()
    assert torch.equal(kd(teacher={"_partial_": True}), own)  # as in conf/method/dpl.yaml
    assert torch.equal(kd(teacher=lambda: small_clip), own)
    assert not torch.allclose(kd(teacher=lambda: other), own)
    assert DPL(LENGTHS, kd_weight=1.0).teacher.templates == SIXTY_TEMPLATES
    assert DPL(LENGTHS, teacher=lambda: other).teacher is None


def test_the_released_text_of_each_dataset():
    assert DPL(LENGTHS, custom_templates=True, dataset="dtd").template == "a texture of {}."
    assert DPLSearch(custom_templates=True, dataset="oxford_pets").template == "a type of pet, a photo of a {}."
    assert DPL(LENGTHS, template="a {}.", dataset="dtd").template == "a {}."
    for method in (DPLSearch, partial(DPL, LENGTHS)):
        with pytest.raises(ValueError, match="has none for data=shapes: give method.template"):
            method(custom_templates=True, dataset="shapes")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "method.prompt_lengths is null: give the folder of a finished method=dpl_search run"),
        ({"prompt_lengths": ""}, "give the folder of a finished method=dpl_search run"),
        ({"prompt_lengths": LENGTHS, "kd_weight": -1}, "kd_weight=-1: give a number, 0 or more"),
        ({"prompt_lengths": "nowhere"}, "nowhere cannot be read"),
        ({"prompt_lengths": {"text": [1]}}, "no lists named text and image"),
        ({"prompt_lengths": {"text": [], "image": [1]}}, "text tower must be one integer per block"),
        ({"prompt_lengths": {"text": [1], "image": [-1]}}, "image tower must be one integer per block"),
    ],
)
def test_a_wrong_setting_is_one_sentence(settings, message):
    with pytest.raises(ValueError, match=message):
        DPL(**settings)
