"""The supernet of DPL's search; the numbers are those of the list of tests in its specification, as in test_dpl.py. 9 is in
tests/datamodules/test_alternating.py, 14 in tests/lightning_modules/test_dpl_search.py."""

import json
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from dpl_models import ZEROS, both, logits, one_hot, search, subnet, wide
from test_methods import NAMES, batch, model_of

from lightning_modules.optimizers import make_optimizer, set_rates
from prompts.dpl import DPL
from prompts.dpl_search import DPLSearch, most_weighted
from prompts.engine.blocks import Block
from prompts.learner import TrainInfo
from prompts.parts.prompt_lengths import read_lengths
from prompts.prompted_clip import PromptedCLIP
from prompts.zeroshot import ZeroShot


def test_1_a_block_is_a_mixture_of_its_options(small_clip):
    learner = search(small_clip).learner
    for prompts in both(learner):
        assert list(prompts.extra) == [0, 1, 2]
        assert not prompts.rows
        for extra in prompts.extra.values():
            assert [len(option) for option in extra.options] == [0, 1, 3]
            assert extra.weights.sum().item() == pytest.approx(1)
    with torch.no_grad():
        for alphas in learner.alphas:
            alphas.fill_(0.7)
    for prompts in both(learner):
        for extra in prompts.extra.values():
            torch.testing.assert_close(extra.weights, torch.full((3,), 1 / 3))


def test_2_certain_alphas_are_the_subnet(small_clip):
    lengths = {"text": [1, 0, 3], "image": [0, 3, 1]}
    supernet = one_hot(search(small_clip), lengths)
    model = model_of(small_clip, DPL(lengths))
    with torch.no_grad():
        for tower in ("text", "image"):
            for block, rows in getattr(model.learner, f"{tower}_ctx").items():
                rows.copy_(getattr(supernet.learner, f"{tower}_options")[int(block)][str(len(rows))])
    torch.testing.assert_close(logits(supernet), logits(model), rtol=1e-5, atol=1e-5)
    zeroshot = logits(model_of(small_clip, ZeroShot("single")))
    assert (logits(model) - zeroshot).abs().max() > 0.01
    torch.testing.assert_close(logits(one_hot(supernet, ZEROS)), zeroshot, rtol=1e-5, atol=1e-5)


def test_13_tokens_are_projected_once_per_block(small_clip, monkeypatch):
    calls = []
    project = Block.project
    monkeypatch.setattr(Block, "project", lambda self, x, parts: calls.append(parts) or project(self, x, parts))
    model = search(small_clip)
    small_clip.encode_image(batch()[0], model.learner.image_prompts())
    assert calls.count("qkv") == 2
    assert calls.count("q") == 1  # of the last block, for CLS alone
    assert calls.count("kv") == 1 + 3 * 2  # of the last block, and of each option that has prompts


def test_5_the_order_of_prompts_is_free(small_clip):
    model = search(small_clip)
    before = logits(model)
    with torch.no_grad():
        for options in (model.learner.text_options, model.learner.image_options):
            for rows in options:
                rows["3"].copy_(rows["3"][[2, 0, 1]])
    torch.testing.assert_close(logits(model), before, rtol=1e-5, atol=1e-5)


SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=5e-4)


def step(model, optimizer, index):
    images, labels = batch()
    optimizer.zero_grad()
    sum(part.mean() for part in model.losses(model(images), labels, index).values()).backward()
    model.learner.before_step()
    optimizer.step()
    return {name: p.detach().clone() for name, p in model.learner.named_parameters()}


def test_6_turns_move_alphas_or_prompts_alone(small_clip):
    model = search(small_clip)
    frozen = {k: v.clone() for k, v in small_clip.state_dict().items()}
    optimizer = make_optimizer(SGD, model.learner.parameter_groups())
    states = [{name: p.detach().clone() for name, p in model.learner.named_parameters()}]
    turns = [16, 0, 16, 16, 0]  # where indices begin: training images are 0 to 15
    states += [step(model, optimizer, torch.arange(8) + first) for first in turns]
    for first, before, after in zip(turns, states, states[1:], strict=False):
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == {name for name in before if ("alphas" in name) == bool(first)}
    assert all(torch.equal(v, frozen[k]) for k, v in small_clip.state_dict().items())
    assert all(p.grad is None for p in small_clip.parameters())


def test_7_every_tensor_is_in_one_group_and_alphas_have_their_own_optimiser(small_clip):
    learner = search(small_clip).learner
    optimizer = make_optimizer(SGD, learner.parameter_groups())
    prompts, alphas = optimizer.param_groups
    assert [type(part).__name__ for part in optimizer.parts] == ["SGD", "Adam"]
    assert {id(p) for p in alphas["params"]} == {id(p) for p in learner.alphas}
    assert {id(p) for p in prompts["params"] + alphas["params"]} == {id(p) for p in learner.parameters()}
    assert len(prompts["params"]) + len(alphas["params"]) == len(list(learner.parameters()))
    assert (alphas["lr"], alphas["betas"], alphas["weight_decay"]) == (0.0035, (0.5, 0.999), 0)
    rates = []
    for epoch in range(4):
        set_rates(optimizer, epoch, 4)
        rates.append((prompts["lr"], alphas["lr"]))
    assert {rate for _, rate in rates} == {0.0035}  # no schedule
    assert [rate for rate, _ in rates][:2] == [1e-5, 0.01]
    [group] = subnet(small_clip).learner.parameter_groups()
    assert len(group["params"]) == 4


def test_8_the_gradient_of_the_alphas_is_that_of_the_loss(small_clip):
    model = search(small_clip)
    images, labels = batch()

    def loss():
        return F.cross_entropy(model(images).logits.double(), labels)

    loss().backward()
    for alphas in model.learner.alphas:
        for position in [(0, 0), (1, 2), (2, 1)]:
            values = []
            with torch.no_grad():
                for move in (0.05, -0.1, 0.05):
                    alphas[position] += move
                    values.append(loss().item())
            assert alphas.grad[position].item() == pytest.approx((values[0] - values[1]) / 0.1, rel=0.03, abs=2e-5)


def test_10_the_length_of_the_largest_alpha_the_smallest_of_equal_ones():
    assert most_weighted([0.1, 0.5, 0.2, 0.4], [0, 2, 4, 6]) == 2
    assert most_weighted([0.1, 0.5, 0.2, 0.5], [1, 3, 9, 27]) == 3
    assert most_weighted([0.0, 0.0], [0, 5]) == 0
    assert DPLSearch([6, 0, 2]).lengths == [0, 2, 6]


def test_10_what_was_found_is_written_and_read_each_tower_in_its_place(small_clip, tmp_path):
    lengths = {"text": [1, 0, 3], "image": [0, 3, 1]}
    model = one_hot(search(small_clip), lengths)
    written = model.learner.artifacts(tmp_path)
    assert sorted(path.name for path in written) == sorted(path.name for path in tmp_path.iterdir()) == ["dpl.json", "dpl.png"]
    searched = json.loads((tmp_path / "dpl.json").read_text())
    assert searched == {"options": [0, 1, 3], **lengths, "alphas": searched["alphas"]}
    assert torch.equal(torch.tensor(searched["alphas"]["text"]), model.learner.text_alphas)
    assert torch.equal(torch.tensor(searched["alphas"]["image"]), model.learner.image_alphas)
    assert (tmp_path / "dpl.png").read_bytes().startswith(b"\x89PNG")
    for source in (tmp_path, str(tmp_path / "dpl.json"), searched):
        assert (read_lengths(source).text, read_lengths(source).image) == (lengths["text"], lengths["image"])
    trained = model_of(small_clip, DPL(tmp_path)).learner
    assert {name: tuple(p.shape) for name, p in trained.named_parameters()} == {
        "text_ctx.0": (1, 64), "text_ctx.2": (3, 64), "image_ctx.1": (3, 96), "image_ctx.2": (1, 96),
    }  # fmt: skip
    (tmp_path / "again").mkdir()
    trained.artifacts(tmp_path / "again")
    assert (tmp_path / "again" / "dpl.json").read_text() == (tmp_path / "dpl.json").read_text()
    assert trained.found_settings == {"prompt_lengths": lengths}  # what a saved file needs to be read


def test_11_a_planted_prompt_is_found(small_clip):
    """Labels that only the option of length 3 in one block of each tower explains: it was trained on them alone."""
    images, labels = batch(32)
    lengths = {"text": [0, 3, 0], "image": [0, 3, 0]}

    def fit(model, tensors, lr, steps):
        optimizer, losses = torch.optim.Adam(tensors, lr, betas=(0.5, 0.999)), []
        for _ in range(steps):
            optimizer.zero_grad()
            losses.append(F.cross_entropy(model(images).logits, labels))
            losses[-1].backward()
            optimizer.step()
        return losses[0].item(), losses[-1].item()

    planted = model_of(small_clip, DPL(lengths))
    before, after = fit(planted, planted.learner.parameters(), 0.02, 100)
    assert after < before / 2
    model = model_of(small_clip, DPLSearch([0, 1, 3]))
    with torch.no_grad():
        for tower in ("text", "image"):
            getattr(model.learner, f"{tower}_options")[1]["3"].copy_(getattr(planted.learner, f"{tower}_ctx")["1"])
    fit(model, model.learner.alphas, 0.1, 60)
    searched = model.learner.configuration()
    assert searched["text"][1] == searched["image"][1] == 3


def test_the_released_start_is_wide(small_clip):
    wide = model_of(small_clip, DPLSearch(paper_init=True)).learner
    text, image = (
        torch.cat([p.flatten() for p in options.parameters()]) for options in (wide.text_options, wide.image_options)
    )
    assert text.min() >= 0
    assert text.mean().item() == pytest.approx(0.5, abs=0.03)
    assert image.std().item() == pytest.approx(1, abs=0.05)
    assert max(alphas.abs().max().item() for alphas in wide.alphas) < 0.01


def test_a_list_without_0_gives_every_block_prompts(small_clip):
    model = one_hot(wide("dpl_search", lengths=[2, 4])(small_clip), {"text": [2, 4, 2], "image": [4, 4, 2]})
    assert model.learner.configuration()["image"] == [4, 4, 2]
    assert min(model_of(small_clip, DPLSearch([2, 4])).learner.configuration()["text"]) >= 2


def test_a_search_without_alternating_batches_is_refused(small_clip):
    model = PromptedCLIP(small_clip, DPLSearch())
    with pytest.raises(ValueError, match="give data.alternating_batch_size=16"):
        model.setup(TrainInfo(NAMES, 16))
    model.setup(TrainInfo(NAMES, 16, fit=False))  # saved prompts need none


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lengths": []}, "two or more different numbers"),
        ({"lengths": [0]}, "two or more different numbers"),
        ({"lengths": [0, 2, 2]}, "two or more different numbers"),
        ({"lengths": [0, -2]}, "two or more different numbers"),
        ({"lengths": [0, 1.5]}, "two or more different numbers"),
        ({"alpha_lr": -1}, "alpha_lr=-1: give a number, 0 or more"),
    ],
)
def test_a_wrong_search_setting_is_one_sentence(settings, message):
    with pytest.raises(ValueError, match=message):
        DPLSearch(**settings)
