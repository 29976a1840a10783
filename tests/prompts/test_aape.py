"""AAPE; T-numbers are those of the test list in its spec, section 10. T1 to T8 are in test_aape_aggregator.py, T11 to
T13 in test_aape_head.py, T17 and T18 in test_reference_prompts.py, the spread over seeds (T24) with the report's tests."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from test_methods import NAMES, OTHERS, SMALL, batch, logits, model_of, train

from lightning_modules.optimizers import make_optimizer, set_rates
from prompts.aape import AAPE
from prompts.learner import Outputs, TrainInfo
from prompts.parts.aape_aggregator import PromptAggregator, ReferenceBank
from prompts.prompted_clip import PromptedCLIP
from runs.summaries import harmonic_mean

PROMPTS = SMALL["aape"]["prompts"]
INDEX = torch.arange(8)


def learner(**options):
    return AAPE(PROMPTS, **options)


def losses_of(model, index=INDEX):
    images, labels = batch()
    return model.losses(model(images), labels, index)


def gradients(parameters):
    return [p.grad for p in parameters if p.grad is not None and p.grad.any()]


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("detach", [True, False])
def test_t9_what_learns_from_what(small_clip, detach):
    model = model_of(small_clip, learner(detach=detach))
    frozen = {name: p.clone() for name, p in small_clip.state_dict().items()}
    head_parameters, aggregator_parameters = model.learner.head_parameters(), list(model.learner.aggregator.parameters())
    model.train()
    losses_of(model)["distill"].sum().backward()
    assert bool(gradients(aggregator_parameters)) == (not detach)
    assert gradients(head_parameters)
    model.zero_grad()
    bank = model.learner.bank
    for tensor in (bank.emb, bank.mean):
        tensor.copy_(F.normalize(model(batch()[0]).image_features.mean(0), dim=-1))  # the reward is no constant 0
    losses_of(model)["reward"].sum().backward()
    assert gradients(aggregator_parameters)
    assert not gradients(head_parameters)
    train(model, 1)
    assert all(torch.equal(p, frozen[name]) for name, p in small_clip.state_dict().items())
    assert all(p.grad is None for p in small_clip.parameters())
    assert not any(module.training for module in small_clip.modules())


def test_t10_distillation_is_the_squared_distance(small_clip):
    a, b = torch.tensor([[3.0, 4.0], [1.0, 2.0]]), torch.tensor([[3.0, 4.0], [3.0, 1.0]])
    torch.testing.assert_close(learner(distill_space="raw").distance(a, b), torch.tensor([0.0, 5.0]))
    torch.testing.assert_close(learner().distance(a, 2 * b), 2 - 2 * F.cosine_similarity(a, b))
    model = model_of(small_clip, learner())
    losses, lighter = losses_of(model), losses_of(model_of(small_clip, learner(distill_weight=1.0)))
    torch.testing.assert_close(losses["distill"], 5 * lighter["distill"])
    assert all(loss.shape == (8,) for loss in losses.values())
    assert set(losses) == {"ce", "distill", "reward"}
    without = model_of(small_clip, AAPE(None, distill_weight=0))
    assert set(losses_of(without)) == {"ce"}
    torch.testing.assert_close(losses_of(without)["ce"], losses["ce"])  # and the same h and g to start from
    assert "reward" not in losses_of(model_of(small_clip, learner(aggregator=partial(PromptAggregator, kind="mean"))))


def test_t20_the_contrastive_loss():
    from tools.tiny_clip import contrast

    a, b, scale = torch.randn(5, 8), torch.randn(5, 8), torch.tensor(10.0)
    torch.testing.assert_close(contrast(a, b, scale), contrast(b, a, scale))
    torch.testing.assert_close(contrast(torch.ones(5, 8), torch.ones(5, 8), scale), torch.tensor(5.0).log())
    matched = torch.eye(5, 8)
    assert all(contrast(matched, matched.roll(i, 0), scale) > contrast(matched, matched, scale) for i in range(1, 5))


def test_t24_harmonic_mean():
    assert harmonic_mean([80.0, 60.0]) == pytest.approx(2 / (1 / 80 + 1 / 60))
    assert harmonic_mean([0.0, 0.0]) == harmonic_mean([0.0, 50.0]) == 0


def test_t16_h_only_takes_the_images_place(small_clip):
    model = model_of(small_clip, learner(head="h_only"))
    assert model.learner.g is None
    out = model(batch()[0])
    h = model.learner.h(F.normalize(out.image_features, dim=-1))
    torch.testing.assert_close(out.logits, small_clip.logits(h, out.text_features))
    assert train(model, 4)[-1] < train(model, 1)[0] + 1


def test_vectors_for_those_who_look_into_a_run(small_clip):
    """A run that is looked into again has h alone, and its prompts where they are given."""
    images = torch.randn(3, small_clip.embed_dim)
    for prompts, names in ((PROMPTS, ["h(x)", "mean reference prompts"]), (None, ["h(x)"])):
        model = PromptedCLIP(small_clip, AAPE(prompts, residual=True, distill_space="raw"))
        model.setup(TrainInfo(NAMES, 16, fit=False))
        found = {name: (per, vectors) for name, per, vectors in model.learner.joint_vectors(small_clip, images, NAMES[:2])}
        assert list(found) == names
        assert found["h(x)"][0] == "image"
        torch.testing.assert_close(found["h(x)"][1], model.learner.h(F.normalize(images, dim=-1)))
    trained = model_of(small_clip, learner()).learner
    given = {name: vectors for name, _, vectors in trained.joint_vectors(small_clip, images, NAMES[:2])}
    torch.testing.assert_close(given["mean reference prompts"], trained.bank.mean[:2])


# ---------------------------------------------------------------- training and what is left of it


def test_t14_only_h_and_g_are_kept(small_clip):
    model = model_of(small_clip, learner())
    train(model)
    state, aggregator_parameters = model.prompt_state()
    assert {name.split(".")[0] for name in state} == {"h", "g"}
    assert {name.split(".")[0] for name in model.learner.state_dict()} == {"h", "g", "aggregator"}  # last.ckpt goes on learning
    assert model.learner.effective_parameters() == sum(tensor.numel() for tensor in state.values())
    before = logits(model)
    del model.learner.bank, model.learner.aggregator
    assert torch.equal(logits(model), before)

    again = PromptedCLIP(small_clip, AAPE(None))
    again.setup(TrainInfo(NAMES, 16, fit=False))  # no prompt file
    again.load_prompt_state(state, aggregator_parameters)
    assert torch.equal(logits(again), before)
    assert again.learner.aggregator is None
    h = again.learner.h(F.normalize(again(batch()[0]).image_features, dim=-1))
    assert not torch.allclose(h[0], h[1])


def test_t15_new_classes_need_nothing_new(small_clip):
    model = model_of(small_clip, learner())
    train(model)
    state = {name: tensor.clone() for name, tensor in model.learner.state_dict().items()}
    for names in (OTHERS, ["emu"], [f"thing {i}" for i in range(30)]):
        model.bind(names)
        assert logits(model).shape == (8, len(names))
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.learner.state_dict().items())


def run(small_clip, epochs=6, **options):
    """Full-batch epochs as the module runs them; the learner, its last losses, and its rows by epoch."""
    model = model_of(small_clip, learner(**options))
    optimizer = make_optimizer(partial(torch.optim.SGD, lr=0.05, momentum=0.9), model.learner.parameter_groups())
    history = []
    for epoch in range(epochs):
        set_rates(optimizer, epoch, epochs)
        optimizer.zero_grad()
        sum(loss.mean() for loss in losses_of(model).values()).backward()
        optimizer.step()
        history.append({name: p.detach().clone() for name, p in model.learner.named_parameters()})
    return model, history


def changed(before, after, prefix):
    return any(not torch.equal(after[name], before[name]) for name in before if name.startswith(prefix))


def on_gaussian_classes(clip, epochs=80, **options):
    """Trains on Gaussian classes of image features, prompts lying around the middle of each class: (accuracy before, after,
    cosine of h(x) and the mean prompt at the end, state)."""
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(len(NAMES), clip.embed_dim, generator=generator)
    labels = torch.arange(16) % len(NAMES)
    images = centres[labels] + 0.3 * torch.randn(16, clip.embed_dim, generator=generator)
    emb = centres[:, None] + torch.randn(len(NAMES), 3, clip.embed_dim, generator=generator)
    model = model_of(clip, learner(hidden=16, **options))
    learned, text = model.learner, model.text_features(images)
    if learned.aggregator:
        learned.bank = ReferenceBank(emb, torch.ones(emb.shape[:2], dtype=torch.bool))
    optimizer = make_optimizer(partial(torch.optim.Adam, lr=0.01), learned.parameter_groups())
    accuracy, totals = [], []
    for epoch in range(epochs):
        set_rates(optimizer, epoch, epochs)
        out = Outputs(learned.logits(clip, images, text), images, text, None)
        losses = learned.losses(out, labels, torch.arange(16))
        accuracy.append((out.logits.argmax(1) == labels).float().mean().item())
        totals.append(sum(loss.mean() for loss in losses.values()))
        optimizer.zero_grad()
        totals[-1].backward()
        optimizer.step()
    closeness = F.cosine_similarity(learned.h(F.normalize(images, dim=-1)), F.normalize(emb, dim=-1).mean(1)[labels]).mean()
    assert totals[-1] < totals[0]
    return accuracy[0], accuracy[-1], closeness.item(), learned.state_dict()


def test_t23_end_to_end_on_gaussian_classes(small_clip):
    before, after, close, state = on_gaussian_classes(small_clip)
    assert after > max(before, 0.9)
    assert close > on_gaussian_classes(small_clip, distill_weight=0)[2] + 0.3
    again = on_gaussian_classes(small_clip)[3]
    assert all(torch.equal(tensor, again[name]) for name, tensor in state.items())
    assert on_gaussian_classes(small_clip, schedule="two_stage")[1] > 0.9


def test_t23_the_stages_come_one_after_the_other(small_clip):
    _, history = run(small_clip, schedule="two_stage", aggregator_share=0.5)
    first, last, second = history[0], history[2], history[5]
    assert changed(first, last, "aggregator.")
    assert not changed(first, last, ("h.", "g."))
    assert changed(last, second, ("h.", "g."))
    assert not changed(last, second, "aggregator.")
    _, history = run(small_clip)
    assert changed(history[0], history[2], "aggregator.")
    assert changed(history[0], history[2], "h.")
    _, history = run(small_clip, schedule="two_stage", distill_weight=0)  # nothing to wait for
    assert changed(history[0], history[2], "h.")


@pytest.mark.parametrize("kind", ["attention", "weights", "mlp", "mean", "random"])
@pytest.mark.parametrize("query", ["per_image", "image_conditioned"])
@pytest.mark.parametrize("head", ["bottleneck", "linear_relu"])
def test_every_kind_learns(small_clip, kind, query, head):
    options = {"aggregator": partial(PromptAggregator, kind=kind, query=query), "head": head}
    losses = train(model_of(small_clip, learner(**options)))
    assert losses[-1] < losses[0]


def test_random_prompts_depend_on_the_step_and_the_image_alone(small_clip):
    learned = model_of(small_clip, learner()).learner
    learned.sample(None, None, 5)
    draws = learned.draws(INDEX)
    assert torch.equal(learned.draws(INDEX.flip(0)), draws.flip(0))
    learned.sample(None, None, 6)
    assert not torch.equal(learned.draws(INDEX), draws)


def test_a_step_does_not_depend_on_how_its_batch_is_split(small_clip):
    model = model_of(small_clip, learner())
    images, labels = batch()
    out = model(images)
    whole = model.losses(out, labels, INDEX)
    halves = [
        model.losses(replace(out, logits=out.logits[part], image_features=out.image_features[part]), labels[part], INDEX[part])
        for part in (slice(0, 3), slice(3, 8))
    ]
    for name, loss in whole.items():
        torch.testing.assert_close(torch.cat([half[name] for half in halves]), loss)


def test_mistakes_are_named(small_clip):
    with pytest.raises(ValueError, match="method.prompts=PATH"):
        model_of(small_clip, AAPE(None))
    with pytest.raises(ValueError, match=r"no entry for 1 classes \(emu\)"):
        model_of(small_clip, learner(), [*NAMES, "emu"])
    with pytest.raises(ValueError, match="method.head='mlp' is none of bottleneck"):
        learner(head="mlp")
    with pytest.raises(ValueError, match="two_stage"):
        learner(schedule="two_stage", detach=False)
    with pytest.raises(ValueError, match="distill_weight=-1: give a number, 0 or more"):
        learner(distill_weight=-1)
