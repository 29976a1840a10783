"""Prompts of one method as the start of another; 28: of the test list in docs/pretraining.md."""

import pytest
import torch
from test_methods import NAMES, logits, make, model_of, train

from prompts.learner import TrainInfo
from prompts.parts.transfer import start_from
from prompts.prompted_clip import PromptedCLIP

RPP = {"depth_text": 2, "depth_image": 3, "n_text": 2, "n_image": 2, "distillation": {"weight": 0}}


def rpp(clip, **settings):
    return model_of(clip, make("rpp", **RPP | settings))


def test_28_the_same_method_goes_on_where_it_stood(small_clip):
    first = rpp(small_clip)
    train(first)
    torch.manual_seed(5)
    second = PromptedCLIP(small_clip, make("rpp", **RPP))
    second.setup(TrainInfo(NAMES, 16))
    assert not torch.equal(logits(first), logits(second))
    start_from(second, first.prompt_state()[0])
    assert torch.equal(logits(first), logits(second))


def test_rpp_starts_deep_prompts_with_the_mean_of_keys_and_values(small_clip):
    source, _ = rpp(small_clip).prompt_state()
    model = model_of(small_clip, make("ivlp", n_text=2, n_image=2, depth_text=3, depth_image=2))
    before, _ = model.prompt_state()
    taken = start_from(model, source)
    after, _ = model.prompt_state()
    assert taken == ["image_ctx.0", "image_ctx.1", "text_ctx.0", "text_ctx.1"]
    for name in taken:
        assert torch.equal(after[name], (source[f"{name}.k"] + source[f"{name}.v"]) / 2)
    assert torch.equal(after["text_ctx.2"], before["text_ctx.2"])


@pytest.mark.parametrize("share", ["shared", "unshared", "kv_only"])
def test_a_context_starts_every_stream(small_clip, share):
    source, _ = model_of(small_clip, make("pomp", n_ctx=2)).prompt_state()
    model = rpp(small_clip, qkv_share=share)
    assert {name.rpartition(".")[0] for name in start_from(model, source)} == {"text_ctx.0"}
    assert all(torch.equal(rows, source["ctx"]) for rows in model.learner.text_ctx[0].values())


def test_pomp_starts_coop_cocoop_maple_and_contexts_of_every_class(small_clip):
    source, _ = model_of(small_clip, make("pomp", n_ctx=2)).prompt_state()
    for method, settings in {
        "coop": {"n_ctx": 2},
        "cocoop": {"n_ctx": 2, "init": None},
        "maple": {"n_ctx": 2, "depth": 2},
    }.items():
        model = model_of(small_clip, make(method, **settings))
        assert start_from(model, source) == ["ctx"]
        assert torch.equal(model.learner.ctx, source["ctx"])
    model = model_of(small_clip, make("coop", n_ctx=2, class_context=True))
    start_from(model, source)
    assert torch.equal(model.learner.ctx, source["ctx"].expand(len(NAMES), -1, -1))


def test_maples_deep_prompts_stand_one_block_later(small_clip):
    source, _ = model_of(small_clip, make("maple", n_ctx=2, depth=3)).prompt_state()
    model = model_of(small_clip, make("ivlp", n_text=2, n_image=0, depth_text=3))
    start_from(model, source)
    state, _ = model.prompt_state()
    assert [*state] == ["text_ctx.0", "text_ctx.1", "text_ctx.2"]
    assert torch.equal(state["text_ctx.2"], source["compound_prompts_text.1"])


def test_what_does_not_fit_is_refused(small_clip):
    source, _ = model_of(small_clip, make("coop", n_ctx=4)).prompt_state()
    with pytest.raises(ValueError, match=r"init_from holds \(4, \d+\) rows where ctx has \(2, \d+\): configure as many"):
        start_from(model_of(small_clip, make("coop", n_ctx=2)), source)
    with pytest.raises(ValueError, match="nothing that VPT could start from: it has ctx, this method image_ctx"):
        start_from(model_of(small_clip, make("vpt", n_ctx=2, depth=2)), source)
