"""DPL; the numbers are those of the list of tests in its specification. 9 is in tests/datamodules/test_alternating.py, 14 in
tests/lightning_modules/test_dpl_search.py."""

import json
from functools import partial

import plain
import pytest
import torch
import torch.nn.functional as F
from test_methods import NAMES, batch, model_of
from test_methods import make as make_method

from lightning_modules.optimizers import make_optimizer, set_rates
from prompts.dpl import DPL, most_weighted
from prompts.engine.blocks import Block
from prompts.engine.text_plan import token_lists
from prompts.ivlp import IVLP
from prompts.maple import MaPLe
from prompts.parts.prompt_lengths import read_lengths
from prompts.promptsrc import PromptSRC
from prompts.zeroshot import ZeroShot

LENGTHS = {"text": [2, 0, 3], "image": [0, 4, 1]}
ZEROS = {"text": [0, 0, 0], "image": [0, 0, 0]}


def make(**settings):
    """Prompts large enough to matter."""

    def wide(model):
        with torch.no_grad():
            for name, p in model.learner.named_parameters():
                p.mul_(1.0 if "alphas" in name else 20.0)
        return model

    return lambda clip, names=NAMES: wide(model_of(clip, make_method("dpl", **settings), names))


search, subnet = make(phase="search"), make(phase="train", prompt_lengths=LENGTHS)


@torch.no_grad()
def logits(model):
    model.bind(NAMES)  # nothing kept
    return model(batch()[0]).logits


def one_hot(model, lengths):
    with torch.no_grad():
        for tower in ("text", "image"):
            alphas = getattr(model.learner, f"{tower}_alphas").zero_()
            for row, n in zip(alphas, lengths[tower], strict=True):
                row[model.learner.lengths.index(n)] = 40.0
    return model


def both(learner):
    return [learner.text_prompts(torch.empty(0)), learner.image_prompts()]


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
    model = model_of(small_clip, DPL("train", prompt_lengths=lengths))
    with torch.no_grad():
        for tower in ("text", "image"):
            for block, rows in getattr(model.learner, f"{tower}_ctx").items():
                rows.copy_(getattr(supernet.learner, f"{tower}_options")[int(block)][str(len(rows))])
    torch.testing.assert_close(logits(supernet), logits(model), rtol=1e-5, atol=1e-5)
    zeroshot = logits(model_of(small_clip, ZeroShot("single")))
    assert (logits(model) - zeroshot).abs().max() > 0.01
    torch.testing.assert_close(logits(one_hot(supernet, ZEROS)), zeroshot, rtol=1e-5, atol=1e-5)


def test_3_no_prompts_are_the_frozen_clip_and_parameters_are_counted(small_clip):
    model = model_of(small_clip, DPL("train", prompt_lengths=ZEROS))
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
        for place in [(0, 0), (1, 2), (2, 1)]:
            values = []
            with torch.no_grad():
                for move in (0.05, -0.1, 0.05):
                    alphas[place] += move
                    values.append(loss().item())
            assert alphas.grad[place].item() == pytest.approx((values[0] - values[1]) / 0.1, rel=0.03, abs=2e-5)


def test_10_the_length_of_the_largest_alpha_the_smallest_of_equal_ones():
    assert most_weighted([0.1, 0.5, 0.2, 0.4], [0, 2, 4, 6]) == 2
    assert most_weighted([0.1, 0.5, 0.2, 0.5], [1, 3, 9, 27]) == 3
    assert most_weighted([0.0, 0.0], [0, 5]) == 0
    assert DPL("search", [6, 0, 2]).lengths == [0, 2, 6]


def test_10_what_was_found_is_written_and_read_each_tower_in_its_place(small_clip, tmp_path):
    lengths = {"text": [1, 0, 3], "image": [0, 3, 1]}
    model = one_hot(search(small_clip), lengths)
    written = model.learner.keep(tmp_path)
    assert sorted(path.name for path in written) == sorted(path.name for path in tmp_path.iterdir()) == ["dpl.json", "dpl.png"]
    found = json.loads((tmp_path / "dpl.json").read_text())
    assert found == {"options": [0, 1, 3], **lengths, "alphas": found["alphas"]}
    assert torch.equal(torch.tensor(found["alphas"]["text"]), model.learner.text_alphas)
    assert torch.equal(torch.tensor(found["alphas"]["image"]), model.learner.image_alphas)
    assert (tmp_path / "dpl.png").read_bytes().startswith(b"\x89PNG")
    for source in (tmp_path, str(tmp_path / "dpl.json"), found):
        assert (read_lengths(source).text, read_lengths(source).image) == (lengths["text"], lengths["image"])
    assert not DPL("both", prompt_lengths=tmp_path).first_stage
    learner = DPL("both")
    assert learner.first_stage == {"phase": "search"}
    learner.take_over(tmp_path)
    assert not learner.first_stage
    assert not learner.val_batch
    trained = model_of(small_clip, learner).learner
    assert {name: tuple(p.shape) for name, p in trained.named_parameters()} == {
        "text_ctx.0": (1, 64), "text_ctx.2": (3, 64), "image_ctx.1": (3, 96), "image_ctx.2": (1, 96),
    }  # fmt: skip
    (tmp_path / "again").mkdir()
    trained.keep(tmp_path / "again")
    assert (tmp_path / "again" / "dpl.json").read_text() == (tmp_path / "dpl.json").read_text()
    assert trained.found_settings == {"phase": "train", "prompt_lengths": lengths}  # what a saved file needs to be read


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

    planted = model_of(small_clip, DPL("train", prompt_lengths=lengths))
    before, after = fit(planted, planted.learner.parameters(), 0.02, 100)
    assert after < before / 2
    model = model_of(small_clip, DPL("search", [0, 1, 3]))
    with torch.no_grad():
        for tower in ("text", "image"):
            getattr(model.learner, f"{tower}_options")[1]["3"].copy_(getattr(planted.learner, f"{tower}_ctx")["1"])
    fit(model, model.learner.alphas, 0.1, 60)
    found = model.learner.configuration()
    assert found["text"][1] == found["image"][1] == 3


def test_12_distillation_from_zero_shot_clip(small_clip):
    images, labels = batch()

    def run(weight, lengths=LENGTHS):
        model = make(phase="train", prompt_lengths=lengths, kd_weight=weight, teacher_templates=["a photo of a {}."])(
            small_clip
        )
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


def test_the_released_start_is_wide(small_clip):
    wide = model_of(small_clip, DPL("search", paper_init=True)).learner
    text, image = (
        torch.cat([p.flatten() for p in options.parameters()]) for options in (wide.text_options, wide.image_options)
    )
    assert text.min() >= 0
    assert text.mean().item() == pytest.approx(0.5, abs=0.03)
    assert image.std().item() == pytest.approx(1, abs=0.05)
    assert max(alphas.abs().max().item() for alphas in wide.alphas) < 0.01


def test_a_list_without_0_gives_every_block_prompts(small_clip):
    model = one_hot(make(phase="search", lengths=[2, 4])(small_clip), {"text": [2, 4, 2], "image": [4, 4, 2]})
    assert model.learner.configuration()["image"] == [4, 4, 2]
    assert min(model_of(small_clip, DPL("search", [2, 4])).learner.configuration()["text"]) >= 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"phase": "find"}, "none of search, train, both"),
        ({"phase": "train"}, "phase=train needs method.prompt_lengths=PATH"),
        ({"phase": "search", "prompt_lengths": LENGTHS}, "takes none: train those with method.phase=train"),
        ({"lengths": []}, "two or more different numbers"),
        ({"lengths": [0]}, "two or more different numbers"),
        ({"lengths": [0, 2, 2]}, "two or more different numbers"),
        ({"lengths": [0, -2]}, "two or more different numbers"),
        ({"lengths": [0, 1.5]}, "two or more different numbers"),
        ({"val_batch_size": 0}, "val_batch_size=0"),
        ({"phase": "train", "prompt_lengths": "nowhere"}, "nowhere cannot be read"),
        ({"phase": "train", "prompt_lengths": {"text": [1]}}, "no lists named text and image"),
        ({"phase": "train", "prompt_lengths": {"text": [], "image": [1]}}, "text tower must be one integer per block"),
        ({"phase": "train", "prompt_lengths": {"text": [1], "image": [-1]}}, "image tower must be one integer per block"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(ValueError, match=message):
        DPL(**settings)


def test_lengths_of_another_backbone_are_refused(small_clip):
    for method in (partial(DPL, "train"), IVLP, MaPLe):
        with pytest.raises(ValueError, match="names 12 blocks of the text tower, and this CLIP's has 3"):
            model_of(small_clip, method(prompt_lengths={"text": [2] * 12, "image": [2] * 12}))


# ---------------------------------------------------------------- its lengths in other methods


@pytest.mark.parametrize("method", [IVLP, PromptSRC])
@pytest.mark.parametrize(
    "lengths",
    [
        LENGTHS,
        {"text": [2, 2, 0], "image": [3, 0, 0]},
        {"text": [0, 0, 2], "image": [1, 0, 2]},
        {"text": [6, 1, 4], "image": [5, 5, 1]},
    ],
)
def test_found_lengths_shape_deep_prompts(small_clip, method, lengths):
    model = model_of(small_clip, method(prompt_lengths=lengths))
    shapes = {name: tuple(p.shape) for name, p in model.learner.named_parameters()}
    assert shapes == {
        f"{tower}_ctx.{i}": (n, width)
        for tower, width in (("text", 64), ("image", 96))
        for i, n in enumerate(lengths[tower])
        if n
    }
    text, image = both(model.learner)
    for prompts, tower in ((text, "text"), (image, "image")):
        counts, here = [], 0
        for i in range(3):
            rows = prompts.inputs if not i else prompts.rows.get(i)
            here = here if rows is None else rows.count
            counts.append(here)
        assert counts == lengths[tower]  # what stands in the slots of each block
    images, labels = batch()
    sum(part.mean() for part in model.losses(model(images), labels, torch.arange(8)).values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.learner.parameters())
    assert model.learner.found_settings == {"prompt_lengths": lengths}


def test_equal_lengths_are_the_uniform_method(small_clip):
    lengths = {"text": [2, 2, 2], "image": [2, 2, 2]}
    for uniform, shaped in (
        (IVLP(2, 2, 3, 3), IVLP(prompt_lengths=lengths)),
        (MaPLe(2, 3), MaPLe(prompt_lengths=lengths)),
    ):
        assert torch.equal(logits(model_of(small_clip, uniform)), logits(model_of(small_clip, shaped)))


def test_maple_takes_the_text_lengths(small_clip):
    model = model_of(small_clip, MaPLe(prompt_lengths={"text": [2, 0, 3], "image": [0, 0, 0]}))
    assert [tuple(p.shape) for p in model.learner.compound_prompts_text] == [(3, 64)]
    for prompts, width in zip(both(model.learner), (64, 96), strict=True):
        assert tuple(prompts.inputs.q.shape) == (2, width)
        assert {i: tuple(rows.q.shape) for i, rows in prompts.rows.items()} == {1: (0, width), 2: (3, width)}
    with pytest.raises(ValueError, match="0 in the first text block: use ivlp"):
        MaPLe(prompt_lengths={"text": [0, 2, 3], "image": [0, 0, 0]})
    with pytest.raises(ValueError, match="learns nothing"):
        IVLP(prompt_lengths=ZEROS)
