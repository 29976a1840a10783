import pytest
import torch
import torch.nn.functional as F
from test_methods import NAMES, batch, make, model_of, train

from prompts.learner import Outputs
from prompts.parts.teacher import SIXTY_TEMPLATES
from prompts.promptsrc import PromptSRC, gaussian_weights


def small(**settings):
    return make("promptsrc", depth_text=2, depth_image=3, **settings)


def test_the_templates_are_the_first_sixty_behind_the_plain_one():
    assert len(SIXTY_TEMPLATES) == len(set(SIXTY_TEMPLATES)) == 60
    assert SIXTY_TEMPLATES[0] == "a photo of a {}."


@pytest.mark.parametrize(
    ("epochs", "mu", "sigma", "peak"), [(20, 15, 1, 0.39894), (20, 6, 10, 0.06278), (50, 30, 30, 0.02254), (50, 45, 5, 0.09227)]
)
def test_weights_of_the_epochs(epochs, mu, sigma, peak):
    weights = gaussian_weights(epochs, mu, sigma)
    assert weights.sum().item() == pytest.approx(1)
    assert weights.argmax() + 1 == mu
    assert weights.max().item() == pytest.approx(peak, abs=5e-6)
    assert gaussian_weights(3, 100, 0.5).sum().item() == pytest.approx(1)  # far from all epochs: the nearest counts


def test_losses_by_hand(small_clip):
    model = model_of(small_clip, small())
    images, labels = batch(3)
    out = model(images)
    losses = model.losses(out, labels, torch.arange(3))
    text, image = model.learner.teacher.text(), F.normalize(small_clip.encode_image(images), dim=-1)
    own_text, own_image = F.normalize(out.text_features, dim=-1), F.normalize(out.image_features, dim=-1)
    p0, p = (small_clip.logits(image, text)).softmax(-1), out.logits.softmax(-1)
    torch.testing.assert_close(losses["text"], 25 * (own_text - text).abs().mean())
    torch.testing.assert_close(losses["image"].mean(), 10 * (own_image - image).abs().mean())
    torch.testing.assert_close(losses["kl"].mean(), (p0 * (p0.log() - p.log())).sum() / p.numel(), rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(losses["ce"], F.cross_entropy(out.logits, labels, reduction="none"))


def test_the_regularisers_vanish_where_student_and_teacher_agree(small_clip):
    learner = model_of(small_clip, small()).learner
    images, labels = batch(3)
    image, text = small_clip.encode_image(images), learner.teacher.text()
    losses = learner.losses(Outputs(small_clip.logits(image, text), image, text, images), labels, torch.arange(3))
    for name in ("text", "image", "kl"):
        torch.testing.assert_close(losses[name], torch.zeros_like(losses[name]), atol=1e-6, rtol=0)
    assert losses["ce"].min() > 0


def test_the_teacher_encodes_its_classes_once_and_no_evaluation_asks_it(small_clip, monkeypatch):
    model = model_of(small_clip, small())
    train(model, 1)
    encoded = []
    encode = type(small_clip).encode_image
    monkeypatch.setattr(
        type(small_clip), "encode_image", lambda clip, images, *a: encoded.append(a) or encode(clip, images, *a)
    )
    first = model.learner.teacher.text()
    model.bind(["tulip"])
    with torch.no_grad():
        model(batch()[0])
    assert len(encoded) == 1  # with prompts alone
    model.bind(NAMES)
    assert model.learner.teacher.text() is first
    model.bind(["tulip"])
    assert model.learner.teacher.text().shape == (1, small_clip.embed_dim)


def test_average_over_epochs(small_clip):
    model = model_of(small_clip, small(mu=2, sigma=1.5))
    learner, seen, weights = model.learner, [], gaussian_weights(4, 2, 1.5).float()
    for epoch in range(4):
        train(model, 1)
        seen.append([p.detach().clone() for p in learner.parameters()])
        learner.end_epoch(epoch, 4)
        if epoch < 3:
            assert all(torch.equal(p, q) for p, q in zip(learner.parameters(), seen[-1], strict=True))
    for i, p in enumerate(learner.parameters()):
        torch.testing.assert_close(p.detach(), sum(w * values[i] for w, values in zip(weights, seen, strict=True)))
    assert not torch.equal(next(learner.parameters()), seen[-1][0])
    with torch.no_grad():  # no features of before the average are kept
        logits = model(batch()[0]).logits
        model.bind(NAMES)
        torch.testing.assert_close(model(batch()[0]).logits, logits)


def test_the_average_of_constants_is_the_constant_and_null_averages_nothing(small_clip):
    for settings in ({}, {"sigma": None}):
        learner = model_of(small_clip, small(**settings)).learner
        before = [p.detach().clone() for p in learner.parameters()]
        for epoch in range(20):
            learner.end_epoch(epoch, 20)
        for p, q in zip(learner.parameters(), before, strict=True):
            torch.testing.assert_close(p.detach(), q, rtol=1e-5, atol=1e-8)
        assert bool(learner.averaged.any()) == (not settings)


def test_the_average_is_not_shared(small_clip):
    model = model_of(small_clip, small())
    assert "averaged" in model.learner.state_dict()
    assert "averaged" not in model.prompt_state()[0]


def test_mistakes():
    with pytest.raises(ValueError, match="method.sigma=0 is no width"):
        PromptSRC(sigma=0)
    with pytest.raises(ValueError, match="prompts both towers"):
        PromptSRC(n_image=0)
