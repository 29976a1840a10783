"""POMP's step and what it learns; numbers in test names: the test list of docs/pretraining.md."""

import pytest
import torch
import torch.nn.functional as F
from sizes import SMALL

from lightning_modules.schedule import cosine_after_warmup
from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP, build
from prompts.learner import Outputs, TrainInfo
from prompts.parts.local_contrast import draw
from prompts.pomp import POMP
from prompts.prompted_clip import PromptedCLIP

NAMES = ["cat", "golden_retriever", "sea or lake", "rose", "(shop)", "dog", "annual crop land", "red car", "tree", "old tree"]
LABELS, INDEX = torch.tensor([1, 0, 5, 1]), torch.arange(4)


def model_of(clip, learner, names=NAMES):
    torch.manual_seed(0)
    model = PromptedCLIP(clip, learner)
    model.setup(TrainInfo(names, 0))
    return model


def pomp(classes):
    return POMP(local_contrast={"num_sampled_classes": classes})


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def step(model, images, seed=5):
    """Mean loss and the gradient of ctx in one training step."""
    sample = model.learner.sample(LABELS, INDEX, seed)
    loss = model.losses(model(images, sample), LABELS, INDEX)["ce"].mean()
    return loss, torch.autograd.grad(loss, model.learner.ctx)[0]


@pytest.mark.parametrize("classes", [None, len(NAMES)])
def test_13_all_classes_are_coops_exact_softmax(small_clip, images, classes):
    ours = step(model_of(small_clip, pomp(classes)), images)
    coop = model_of(small_clip, CoOp(4))
    loss = F.cross_entropy(coop(images).logits, LABELS)
    torch.testing.assert_close(ours[0], loss)
    torch.testing.assert_close(ours[1], torch.autograd.grad(loss, coop.learner.ctx)[0])


def test_16_classes_encoded_once_give_the_released_step(small_clip, images):
    """The released step encodes the labels with repeats, then the sampled classes; target 0."""
    model = model_of(small_clip, pomp(4))
    ours = step(model, images)
    sampled = draw(len(NAMES), 3, 5, 0)
    text = model.learner.encode_text(small_clip, None)[torch.cat([LABELS, sampled])]
    logits = small_clip.logits(small_clip.encode_image(images), text)
    positive, others = logits[:, :4].diagonal()[:, None], logits[:, 4:]
    hit = sampled[None] == LABELS[:, None]
    others = others + torch.tensor(9.0).log10() - (3 - hit.sum(1, keepdim=True)).log10()
    logits = torch.cat([positive, others.masked_fill(hit, -1e6)], 1)
    loss = F.cross_entropy(logits, torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(ours[0], loss)
    torch.testing.assert_close(ours[1], torch.autograd.grad(loss, model.learner.ctx)[0], rtol=1e-4, atol=1e-5)


def test_16_chunks_and_recomputation_change_nothing(images):
    whole, pieces = (FrozenCLIP(build(SMALL), text_rows=rows, recompute=again) for rows, again in ((None, False), (12, True)))
    a, b = (step(model_of(clip, pomp(6)), images) for clip in (whole, pieces))
    torch.testing.assert_close(a[0], b[0])
    torch.testing.assert_close(a[1], b[1], rtol=1e-4, atol=1e-5)


def test_17_views_weigh_as_images(small_clip, images):
    """Two views, view-major: the mean over them is the mean of two batches, in either order."""
    model, views = (
        model_of(small_clip, pomp(4)),
        images + 0.1 * torch.randn_like(images),
    )
    single = [step(model, x)[0] for x in (images, views)]
    labels, index = LABELS.repeat(2), INDEX.repeat(2)
    sample = model.learner.sample(labels, index, 5)
    for both in (torch.cat([images, views]), torch.cat([views, images])):
        loss = model.losses(model(both, sample), labels, index)["ce"].mean()
        torch.testing.assert_close(loss, sum(single) / 2)


def test_21_the_published_rates():
    rates = [cosine_after_warmup(epoch, 5, 0.002) for epoch in range(5)]
    assert rates == pytest.approx([1e-5, 0.002, 0.001809, 0.001309, 0.000691], abs=1e-6)


def test_25_a_context_serves_any_class_list(small_clip, images):
    trained = model_of(small_clip, pomp(4), NAMES[:6])
    with torch.no_grad():
        trained.learner.ctx.normal_()
    state, positive = trained.prompt_state()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {"ctx": (4, small_clip.text_width)}
    other = model_of(small_clip, POMP(), NAMES[4:])
    other.load_prompt_state(state, positive)
    trained.bind(NAMES[4:])
    with torch.no_grad():
        assert torch.equal(trained(images).text_features, other(images).text_features)


def test_26_twenty_separable_classes_are_learned():
    """Images whose features are the text features of a hidden context, without what all classes share."""
    clip = FrozenCLIP(build(SMALL))
    names = [f"{a} {b}" for a in ("red", "old", "big", "wet") for b in ("cat", "car", "tree", "sea", "shop")]
    clip.model.logit_scale.data.fill_(100.0).log_()
    hidden = model_of(clip, CoOp(4), names)
    with torch.no_grad():
        text = F.normalize(hidden.learner.encode_text(clip, None), dim=-1)
        features = text - text.mean(0)
    model = model_of(clip, pomp(10), names)
    labels, losses = torch.arange(20), []
    optimiser = torch.optim.Adam(model.learner.parameters(), lr=0.03)
    for seed in range(200):
        sample = model.learner.sample(labels, labels, seed)
        text = model.learner.encode_text(clip, features, sample.ids)
        out = Outputs(clip.logits(features, text), features, text, features, sample)
        loss = model.losses(out, labels, labels)["ce"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.5
    assert sum(losses[-10:]) / 10 < 0.1
