"""Which tensors text features depend on is detected, not declared, and cached features are never stale."""

import pytest
import torch
import torch.nn.functional as F
from test_learners import logits, model_of
from torch import nn

from prompts.aape import AAPE
from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.dpl import DPL
from prompts.dpl_search import DPLSearch
from prompts.engine.clip import FrozenCLIP
from prompts.linear_probe import LinearProbe
from prompts.maple import MaPLe
from prompts.vpt import VPT
from prompts.zeroshot import ZeroShot


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


class Adapted(VPT):
    """A visual-prompt learner with a text adapter; all else is inherited."""

    def __init__(self):
        super().__init__(2, 3)

    def setup(self, clip, info):
        super().setup(clip, info)
        self.adapter = nn.Linear(clip.embed_dim, clip.embed_dim)

    def encode_text(self, clip, image, classes=None):
        text = super().encode_text(clip, image, classes)
        return text + self.adapter(text)


class Detached(Adapted):
    """A learner whose text depends on a tensor that gets no gradient through the text."""

    def encode_text(self, clip, image, classes=None):
        return VPT.encode_text(self, clip, image, classes) + self.adapter.weight.detach().sum(0)


class Averaged(VPT):
    """A learner whose text depends on a buffer that changes in each step."""

    def __init__(self):
        super().__init__(2, 3)

    def setup(self, clip, info):
        super().setup(clip, info)
        self.register_buffer("mean", torch.zeros(clip.embed_dim))

    def encode_text(self, clip, image, classes=None):
        return super().encode_text(clip, image, classes) + self.mean


class Coupled(VPT):
    """A learner whose text depends on the result of making the visual prompts, so that encoding the text reads no tensor."""

    def __init__(self):
        super().__init__(2, 3)

    def image_prompts(self):
        self.shift = self.image_ctx["0"].mean()
        return super().image_prompts()

    def encode_text(self, clip, image, classes=None):
        return super().encode_text(clip, image, classes) + self.shift


class Picked(VPT):
    """A learner that chooses a text by the image, without a gradient and without an axis for images."""

    def __init__(self):
        super().__init__(2, 3)

    def encode_text(self, clip, image, classes=None):
        return super().encode_text(clip, image, classes) * (1 + image.argmax(1).float().mean())


class Drawn(VPT):
    """A learner whose text is changed at random."""

    def __init__(self):
        super().__init__(2, 3)

    def encode_text(self, clip, image, classes=None):
        return super().encode_text(clip, image, classes) * torch.rand(())


def one_step(model, images, optimiser):
    optimiser.zero_grad()
    loss = F.cross_entropy(model(images).logits, torch.arange(len(images)))
    loss.backward()
    optimiser.step()
    return loss.item()


READ = {
    "zeroshot": (lambda: ZeroShot("single"), "nothing"),
    "probe": (LinearProbe, "nothing"),
    "vpt": (lambda: VPT(2, 3), "nothing"),
    "aape": (lambda: AAPE(distill_weight=0.0), "nothing"),
    "dpl without text": (lambda: DPL({"text": [0, 0, 0], "image": [1, 0, 2]}), "nothing"),
    "dpl": (lambda: DPL({"text": [0, 1, 0], "image": [1, 0, 2]}), "tensors"),
    "dpl search": (lambda: DPLSearch([0, 1]), "tensors"),
    "coop": (lambda: CoOp(2), "tensors"),
    "maple": (lambda: MaPLe(2, 2), "tensors"),
    "cocoop": (CoCoOp, "image"),
    "adapted": (Adapted, "tensors"),
    "detached": (Detached, "tensors"),
    "averaged": (Averaged, "tensors"),
    "picked": (Picked, "image"),
}


@pytest.mark.parametrize("way", READ)
def test_what_text_is_made_from_is_seen(small_clip, images, way):
    make, expected = READ[way]
    model = model_of(small_clip, make())
    assert model.text_depends_on() == expected
    model.bind(model.classnames)
    out = model(images)  # with gradients it is the same
    assert model.text_depends_on() == expected
    if expected == "nothing" and out.logits.requires_grad:
        trained = [p for p in model.learner.parameters() if p.requires_grad]
        optimiser, before = torch.optim.SGD(trained, lr=0.1), model.text_encodings
        for _ in range(3):
            one_step(model, images, optimiser)
        assert model.text_encodings == before  # once per class list, whatever else is trained


def test_a_text_adapter_on_visual_prompts_learns_undeclared(small_clip, images):
    model = model_of(small_clip, Adapted())
    optimiser = torch.optim.SGD(model.learner.parameters(), lr=0.05)
    logits(model, images)  # seen first in an evaluation: training looks again
    losses = [one_step(model, images, optimiser) for _ in range(5)]
    assert all(p.grad.abs().sum() > 0 for p in model.learner.adapter.parameters())
    assert losses[-1] < losses[0] - 0.01


@pytest.mark.parametrize("make", [Adapted, Detached, Averaged, Coupled, Picked, Drawn])
def test_kept_text_is_never_stale(small_clip, images, make):
    """After each step the cached features equal newly encoded ones."""
    model = model_of(small_clip, make())
    learner, optimiser = model.learner, torch.optim.SGD(model.learner.parameters(), lr=0.05)
    for step in range(3):
        one_step(model, images, optimiser)
        if make is Averaged:
            learner.mean += 1.0
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                torch.manual_seed(step)
                image = small_clip.encode_image(images + step, learner.image_prompts())
                cached = model.text_features(image)
                torch.manual_seed(step)
                assert torch.equal(cached, learner.encode_text(small_clip, image))


def test_seeing_changes_neither_text_nor_gradient(small_clip, images):
    clip = FrozenCLIP(small_clip.model, text_rows=12, recompute=True)
    model = model_of(clip, CoOp(2))
    collected = []
    for _ in range(2):  # the first is watched
        model.learner.ctx.grad = None
        loss = F.cross_entropy(model(images).logits, torch.arange(len(images)))
        loss.backward()
        collected.append((loss.detach(), model.learner.ctx.grad))
    assert all(torch.equal(a, b) for a, b in zip(*collected, strict=True))
