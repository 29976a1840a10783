"""AAPE on images with captions; T-numbers are those of the test list in its spec, section 10. The method matrix has it too."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from test_methods import OTHERS, batch, logits, model_of
from toys import only

from lightning_modules.optimizers import make_optimizer
from prompts.aape_captions import AAPECaptions
from prompts.learner import TrainInfo
from prompts.parts.aape_aggregator import PromptAggregator
from prompts.parts.caption_pairing import contrast, mean_caption
from prompts.prompted_clip import PromptedCLIP

INDEX = torch.arange(8)
TEXTS = [f"a rose by a cat, number {i}" for i in range(8)]  # one caption of each image


def caption_features(n=8, d=32):
    """A few captions for each image, around a direction of its own."""
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(n, 1, d, generator=generator) + 0.3 * torch.randn(n, 3, d, generator=generator)
    return features, torch.arange(3) < torch.tensor([3, 1, 2, 3, 3, 2, 1, 3])[:n, None]


def outputs_of(model):
    """Of a step in which each image's own caption has its place among the captions, as the task makes them."""
    model.bind(TEXTS)
    features, mask = caption_features(d=model.clip.embed_dim)
    return replace(model(batch()[0]), captions=features, caption_mask=mask)


def losses_of(model):
    return model.losses(outputs_of(model), INDEX, INDEX)


def train(model, steps=30):
    optimiser = make_optimizer(partial(torch.optim.AdamW, lr=1e-2), model.learner.parameter_groups())
    history = []
    for _ in range(steps):
        optimiser.zero_grad()
        losses = losses_of(model)
        sum(loss.mean() for loss in losses.values()).backward()
        optimiser.step()
        history.append({name: loss.mean().item() for name, loss in losses.items()})
    return history


def learned(model):
    return [p for p in model.learner.parameters() if p.grad is not None and p.grad.any()]


def test_t19_the_query_is_h(small_clip):
    model = model_of(small_clip, AAPECaptions())
    out = outputs_of(model)
    h = model.learner.h(F.normalize(out.image_features, dim=-1))
    torch.testing.assert_close(out.logits, small_clip.logits(h, out.text_features))
    assert not torch.allclose(out.logits, small_clip.logits(out.image_features, out.text_features), atol=0.1)
    torch.testing.assert_close(out.text_features, small_clip.encode_text(model.learner.plan))
    (found,) = model.learner.joint_vectors(small_clip, out.image_features, TEXTS)
    assert found[:2] == ("h(x)", "image")
    torch.testing.assert_close(found[2], h)


def test_what_learns_from_what(small_clip):
    model = model_of(small_clip, AAPECaptions())
    of_h, of_summary = list(model.learner.h.parameters()), list(model.learner.summary.parameters())
    losses = losses_of(model)
    assert set(losses) == {"ce", "reward", "distill"}
    assert all(loss.shape == (8,) for loss in losses.values())
    losses["distill"].sum().backward()
    assert {id(p) for p in learned(model)} <= {id(p) for p in of_h}
    model.zero_grad()
    losses_of(model)["ce"].sum().backward()
    assert {id(p) for p in learned(model)} <= {id(p) for p in of_h}
    model.zero_grad()
    losses_of(model)["reward"].sum().backward()
    assert {id(p) for p in learned(model)} <= {id(p) for p in of_summary}
    assert learned(model)
    model.zero_grad()
    losses_of(model_of(small_clip, AAPECaptions(distill_weight=1.0)))
    assert all(p.grad is None for p in small_clip.parameters())
    lighter = losses_of(model_of(small_clip, AAPECaptions(distill_weight=1.0)))
    torch.testing.assert_close(losses["distill"], 5 * lighter["distill"])
    groups = model.learner.parameter_groups()
    assert [group.get("optimizer") for group in groups] == [None, torch.optim.AdamW]
    assert groups[1]["lr"] == 1e-3
    mean = AAPECaptions(aggregator=partial(PromptAggregator, kind="mean"))
    assert set(losses_of(model_of(small_clip, mean))) == {"ce", "distill"}
    assert len(mean.parameter_groups()) == 1


@pytest.mark.parametrize("pairing", ["all", "mean"])
def test_another_pairing_is_in_place_of_the_tasks_loss(small_clip, pairing):
    model = model_of(small_clip, AAPECaptions(pairing=pairing, distill_weight=0))
    out = outputs_of(model)
    losses, query = losses_of(model), model.learner.query(out.image_features)
    texts = (out.captions, out.caption_mask) if pairing == "all" else mean_caption(out.captions, out.caption_mask)
    torch.testing.assert_close(losses, {"contrast": contrast(query, *texts, INDEX, small_clip.logit_scale)})
    history = train(model)
    assert history[-1]["contrast"] < history[0]["contrast"] - 0.5
    assert set(model.prompt_state()[0]) == {"h.linear1.weight", "h.linear1.bias", "h.linear2.weight", "h.linear2.bias"}


def test_images_that_do_not_count(small_clip):
    """They have no captions in the outputs, and no loss is NaN."""
    model = model_of(small_clip, AAPECaptions(pairing="all"))
    out = outputs_of(model)
    mask = out.caption_mask.clone()
    mask[3] = False
    losses = model.losses(replace(out, caption_mask=mask), INDEX, INDEX)
    sum(loss.sum() for loss in losses.values()).backward()
    assert all(loss.isfinite().all() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in model.learner.parameters())
    assert losses["contrast"][3] == 0


def test_t23_distillation_brings_h_to_the_summary(small_clip):
    def trained(weight):
        model = model_of(small_clip, AAPECaptions(distill_weight=weight, hidden=16))
        return model, train(model)

    (model, history), (without, _) = trained(5.0), trained(0.0)
    assert history[-1]["distill"] < 0.5 * history[0]["distill"]
    assert history[-1]["ce"] < history[0]["ce"]
    out = outputs_of(model)
    target = model.learner.summary(out.image_features, out.captions, out.caption_mask, INDEX)
    close, far = (F.cosine_similarity(of.learner.query(out.image_features), target).mean() for of in (model, without))
    assert close > far + 0.2
    assert without.learner.summary is None
    again, same = trained(5.0)
    assert same == history
    assert torch.equal(logits(again), logits(model))


def test_h_alone_is_kept(small_clip):
    model = model_of(small_clip, AAPECaptions())
    train(model, 3)
    state, _ = model.prompt_state()
    assert {name.split(".")[0] for name in state} == {"h"}
    assert {name.split(".")[0] for name in model.learner.state_dict()} == {"h", "summary"}  # last.ckpt goes on learning
    assert model.learner.effective_parameters() == sum(tensor.numel() for tensor in state.values())
    again = PromptedCLIP(small_clip, AAPECaptions())
    again.setup(TrainInfo(OTHERS, 0, fit=False))
    again.load_prompt_state(state)
    assert again.learner.summary is None
    model.bind(OTHERS)
    assert torch.equal(logits(again), logits(model))


@pytest.mark.parametrize(("d", "hidden", "count"), [(512, None, 33_312), (768, None, 74_544), (768, 32, 49_952)])
def test_the_size_of_h(d, hidden, count):
    """The paper's 33 thousand are those of a width of 512."""

    class Clip:
        embed_dim = d

    learner = AAPECaptions(hidden=hidden)
    learner.setup(Clip(), TrainInfo(OTHERS, 1, fit=False))
    assert learner.effective_parameters() == count == 2 * d * (hidden or d // 16) + (hidden or d // 16) + d


def test_what_it_refuses(small_clip):
    with pytest.raises(ValueError, match="method.hidden=0: give a number, 1 or more"):
        AAPECaptions(hidden=0)
    with pytest.raises(ValueError, match="method.distill_weight=-1"):
        AAPECaptions(distill_weight=-1)
    with pytest.raises(ValueError, match="method.distill_space='far'"):
        AAPECaptions(distill_space="far")
    model = model_of(small_clip, AAPECaptions())
    images, labels = batch()
    with pytest.raises(ValueError, match="learns from the captions of the training images, and this task gives it none"):
        model.losses(model(images), labels, INDEX)


# ---------------------------------------------------------------- whole runs

RUN = [
    "method=aape_captions",
    "data=toy_captions",
    "+protocol.targets.toy_captions=[]",
    "recipe=none",
    "method.hidden=8",
    "batch_size=5",
    "epochs=3",
]


def test_a_run_its_evaluation_and_one_that_starts_from_it(run_here, tmp_path):
    result = run_here(*RUN, "output=first")
    prompts = only(tmp_path / "first", "prompts.safetensors")
    assert {name.split(".")[0] for name in load_file(prompts)} == {"h"}
    assert result["effective_parameters"] == 2 * 32 * 8 + 8 + 32
    again = run_here(*RUN, "output=again", "fit=false", f"ckpt={prompts}")
    assert again["metrics"] == result["metrics"]
    small = ["optim.lr=1e-9", "method.aggregator_lr=0", "epochs=1"]  # nothing moves, so the figures are those of the start
    tuned = run_here(*RUN, "output=tuned", f"init_from={prompts}", *small)
    assert tuned["metrics"] == result["metrics"]
    fresh = run_here(*RUN, "output=fresh", *small)
    assert fresh["train_loss"] != tuned["train_loss"]
