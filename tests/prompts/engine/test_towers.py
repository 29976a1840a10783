"""The towers against the plain computation: features and gradients for every way in which prompts enter."""

import plain
import pytest
import torch
from torch import nn

from prompts.engine.rows import NO_PROMPTS, ExtraKV, Rows, TowerPrompts
from prompts.engine.text_plan import TextPlan, token_lists

NAMES = ["rose", "golden_retriever", "annual crop land", "cat", "(shop)", "2012 Acura TL Sedan", "dog", "sea or lake " * 4]
C, B, N, M = len(NAMES), 3, 4, 2


def draw(*shape):
    return nn.Parameter(0.5 * torch.randn(*shape))


def ways(width, text):
    """Every way in which prompts enter a tower: {name: prompts}."""
    t = lambda *lead: draw(*lead, N, width)  # noqa: E731
    three = lambda residual="q": Rows(t(), t(), t(), residual)  # noqa: E731
    extra = {
        0: ExtraKV([draw(0, width), draw(1, width), draw(3, width)], nn.Parameter(torch.rand(3))),
        2: ExtraKV([draw(2, width)]),
    }
    prompts = {
        "no prompts": NO_PROMPTS,
        "input": TowerPrompts(Rows(t())),
        "deep": TowerPrompts(Rows(t()), {1: Rows(t()), 2: Rows(t())}),
        "added": TowerPrompts(Rows(t()), {1: Rows(t(), add=True)}),
        "per image": TowerPrompts(Rows(t(B), per="image"), {1: Rows(t(B), per="image")}),
        "three streams": TowerPrompts(three(), {1: three(), 2: three()}),
        "keys and values only": TowerPrompts(Rows(t()), {1: Rows(t(), k=t()), 2: Rows(t(), v=t())}),
        "own residual": TowerPrompts(three(t()), {1: three(t())}),
        "residual arrived": TowerPrompts(three(), {1: three("arrived"), 2: three("arrived")}),
        "extra": TowerPrompts(extra=extra),
        "everything": TowerPrompts(three(), {1: three("arrived"), 2: Rows(t(), add=True)}, extra),
    }
    if text:  # the text tower: its slots hold words before anything enters
        prompts["input added"] = TowerPrompts(Rows(t(), add=True))
        prompts["per class"] = TowerPrompts(Rows(t(C), per="class"), {1: Rows(t(C), per="class")})
        prompts["deep per class"] = TowerPrompts(Rows(t()), {0: Rows(t(C), per="class"), 2: Rows(t(C), per="class", add=True)})
        by_class = Rows(t(C), t(C), t(C), t(C), per="class")
        prompts["per class and per image"] = TowerPrompts(
            Rows(t(B), per="image"), {1: by_class, 2: Rows(t(B), per="image")}, extra
        )
    return prompts


def learned(prompts):
    return [t for t in prompts.tensors if t.requires_grad and t.numel()]


def same(ours, theirs, tensors):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    if tensors:
        cotangent = torch.randn_like(theirs)
        ours = torch.autograd.grad(ours, tensors, cotangent)  # of every tensor, even where it is zero
        theirs = torch.autograd.grad(theirs, tensors, cotangent, allow_unused=True)
        for a, b in zip(ours, theirs, strict=True):
            b = torch.zeros(()) if b is None else b
            assert (a - b).abs().max() <= 1e-4 * max(1.0, b.abs().max().item())


@pytest.mark.parametrize(("position", "chunk"), [("end", None), ("middle", 20), ("front", None)])
@pytest.mark.parametrize("way", ways(8, text=True))
def test_text(small_clip, way, position, chunk):
    torch.manual_seed(0)
    prompts = ways(small_clip.text_width, text=True)[way]
    slots = N if prompts.inputs else 0
    lists = token_lists(small_clip.tokenizer, NAMES, "X X X X {}." if slots else "a photo of a {}.", slots, position)
    plan = TextPlan(lists)  # of which the tower itself takes the slots out of the shared prefix where rows differ by class
    theirs = plain.encode_text(small_clip, lists, prompts, prompts.images or 1)
    ours = small_clip.text_tower.encode(plan, prompts, max_rows=chunk, recompute=bool(chunk))
    same(ours, theirs if prompts.images else theirs[0], learned(prompts))


@pytest.mark.parametrize("chunk", [None, 20])
def test_rows_per_class_with_sampled_classes(small_clip, chunk):
    torch.manual_seed(0)
    way = ways(small_clip.text_width, text=True)["deep per class"]
    plan = TextPlan(token_lists(small_clip.tokenizer, NAMES, "X X X X {}.", N, "end"))
    ids = torch.tensor([5, 0, 7, 3])
    whole = small_clip.text_tower.encode(plan, way)
    assert plan.slots_shared  # for the next prompts, which may be shared
    same(small_clip.text_tower.encode(plan, way, ids, max_rows=chunk, recompute=bool(chunk)), whole[ids], learned(way))


def test_equal_rows_per_class_are_shared_rows(small_clip):
    torch.manual_seed(0)
    shared = TowerPrompts(Rows(draw(N, small_clip.text_width)), {1: Rows(draw(N, small_clip.text_width))})

    def spread(rows):
        return Rows(rows.q.expand(C, -1, -1), per="class")

    by_class = TowerPrompts(spread(shared.inputs), {1: spread(shared.rows[1])})
    plan = TextPlan(token_lists(small_clip.tokenizer, NAMES, "X X X X {}.", N, "end"))
    same(small_clip.encode_text(plan, by_class), small_clip.encode_text(plan, shared), learned(shared))
    assert plan.unshared() is plan.unshared()  # made once


@pytest.mark.parametrize("names", [["rose"], ["rose", "rose"], NAMES[::-1]], ids=["one class", "equal names", "any order"])
def test_text_class_lists(small_clip, names):
    prompts = TowerPrompts(Rows(draw(N, small_clip.text_width)))
    lists = token_lists(small_clip.tokenizer, names, "X X X X {}.", N, "end")
    theirs = plain.encode_text(small_clip, lists, prompts)[0]
    same(small_clip.encode_text(TextPlan(lists), prompts), theirs, learned(prompts))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("way", ways(8, text=False))
def test_image(small_clip, way, recompute):
    torch.manual_seed(0)
    prompts = ways(small_clip.image_width, text=False)[way]
    images = torch.randn(B, 3, 16, 16)
    ours = small_clip.image_tower.encode(images, prompts, recompute=recompute)
    same(ours, plain.encode_image(small_clip, images, prompts), learned(prompts))


def test_the_number_of_slots_changes_between_blocks(small_clip):
    """Before a block with more, fewer or no slots, the old slots are removed and the new ones are inserted."""
    torch.manual_seed(0)
    lists = token_lists(small_clip.tokenizer, NAMES, "X X X X {}.", N, "end")
    width, model, blocks = small_clip.text_width, small_clip.model, small_clip.model.transformer.resblocks
    first, one, six = draw(N, width), draw(1, width), draw(6, width)
    for counts in ({1: one, 2: six}, {1: six, 2: draw(0, width)}, {1: draw(0, width), 2: one}):
        prompts = TowerPrompts(Rows(first), {i: Rows(rows) for i, rows in counts.items()})
        ours = small_clip.encode_text(TextPlan(lists), prompts)
        for tokens, feature in zip(lists, ours, strict=True):
            words = torch.tensor([tokens[0], *[0] * N, *tokens[1 + N :]])
            x = model.token_embedding(words)
            x = torch.cat([x[:1], first, x[1 + N :]])[None] + model.positional_embedding[: len(words)]
            slots = N
            for i, block in enumerate(blocks):
                if i in counts:
                    x = torch.cat([x[:, :1], counts[i][None], x[:, 1 + slots :]], 1)
                    slots = len(counts[i])
                x = block(x, attn_mask=model.attn_mask[: x.shape[1], : x.shape[1]])
            theirs = model.ln_final(x[0, -1]) @ model.text_projection
            torch.testing.assert_close(feature, theirs, rtol=1e-4, atol=1e-4)
    images, visual = torch.randn(2, 3, 16, 16), small_clip.model.visual
    first, more = draw(2, small_clip.image_width), draw(5, small_clip.image_width)
    prompts = TowerPrompts(Rows(first), {1: Rows(more), 2: Rows(draw(0, small_clip.image_width))})
    x = visual._embeds(images)
    n = x.shape[1]
    x = torch.cat([x, visual.ln_pre(first).expand(2, -1, -1)], 1)
    x = visual.transformer.resblocks[0](x)
    x = visual.transformer.resblocks[1](torch.cat([x[:, :n], more.expand(2, -1, -1)], 1))
    x = visual.transformer.resblocks[2](x[:, :n])
    theirs = visual.ln_post(x[:, 0]) @ visual.proj
    torch.testing.assert_close(small_clip.encode_image(images, prompts), theirs, rtol=1e-4, atol=1e-4)


def test_slots_in_the_suffix_keep_their_number(small_clip):
    lists = token_lists(small_clip.tokenizer, NAMES, "X X X X {}.", N, "front")
    prompts = TowerPrompts(Rows(draw(N, small_clip.text_width)), {1: Rows(draw(2, small_clip.text_width))})
    with pytest.raises(ValueError, match="block 1 are 2 rows, but the text has 4 slots there: their number can change"):
        small_clip.encode_text(TextPlan(lists), prompts)


def test_only_the_needed_rows_are_run(small_clip):
    lists = token_lists(small_clip.tokenizer, NAMES, "X X X X {}.", N, "end")
    plan = TextPlan(lists)
    assert len(plan.prefix) == 1 + N
    (chunk,), _ = plan.chunks(None)
    assert len(chunk.ids) == sum(len(tokens) - 1 - N for tokens in lists)  # EOT is each class's last row
    pieces, _ = plan.chunks(10)
    assert sum(len(piece.ids) for piece in pieces) == len(chunk.ids)
    assert all(len(piece.ids) <= 10 or len(piece.eot) == 1 for piece in pieces)


def test_too_long_a_name_is_named(small_clip):
    with pytest.raises(ValueError, match="class name 'very very .* prompt of 8. tokens.* holds 28"):
        token_lists(small_clip.tokenizer, ["cat", "very " * 80 + "long"], "X X X X {}.", N, "end")
