"""Prompts that do not fit their tower: each is one sentence with the tower, the block and the shapes."""

import time
from dataclasses import replace

import pytest
import torch
from torch import zeros

from prompts.engine.rows import NO_PROMPTS, ExtraKV, Rows, TowerPrompts, check_prompts
from prompts.engine.text_plan import TextPlan, token_lists

NAMES = ["rose", "golden_retriever", "cat"]
C, B, N, T, I = 3, 2, 4, 64, 96  # classes, images, slots; widths of the small CLIP's text and image tower  # noqa: E741
GOOD = Rows(zeros(N, T))
PER_IMAGE = Rows(zeros(B, N, T), per="image")


def deep(rows, **more):
    return TowerPrompts(GOOD, {1: rows}, **more)


def extra(*options, weights=None, block=1):
    return TowerPrompts(GOOD, extra={block: ExtraKV(list(options), weights)})


TEXT = {  # name -> (prompts, words of the sentence), for a plan of three classes with four slots behind SOT
    "no rows for the slots": (NO_PROMPTS, "no rows for its input, but the text has 4 slots there: give 4"),
    "too many at the input": (TowerPrompts(Rows(zeros(5, T))), "at its input are 5 rows, but the text has 4 slots"),
    "too few at the input": (TowerPrompts(Rows(zeros(2, T))), "at its input are 2 rows, but the text has 4 slots"),
    "too few of each class": (TowerPrompts(Rows(zeros(C, 3, T), per="class")), "at its input are 3 rows, but the text has 4"),
    "width of the other tower": (TowerPrompts(Rows(zeros(N, I))), r"input: q has shape \(4, 96\) where \(n, 64\) is expected"),
    "width in a block": (deep(Rows(zeros(N, 63))), r"block 1: q has shape \(4, 63\) where \(n, 64\) is expected"),
    "one row without its axis": (deep(Rows(zeros(T))), r"block 1: q has shape \(64,\) where \(n, 64\) is expected"),
    "per class that does not say so": (deep(Rows(zeros(C, N, T))), r"q has shape \(3, 4, 64\) where \(n, 64\) is expected"),
    "shared that says per class": (
        deep(Rows(zeros(N, T), per="class")),
        r"block 1: q has shape \(4, 64\) where \(3, n, 64\), rows for each class, is expected",
    ),
    "of other classes": (
        deep(Rows(zeros(C + 1, N, T), per="class")),
        r"block 1: q has shape \(4, 4, 64\) where \(3, n, 64\), rows for each class, is expected",
    ),
    "of other classes at the input": (TowerPrompts(Rows(zeros(1, N, T), per="class")), r"its input: q has shape \(1, 4, 64\)"),
    "images at odds": (
        TowerPrompts(PER_IMAGE, {2: Rows(zeros(B + 1, N, T), per="image")}),
        r"block 2: q has shape \(3, 4, 64\) where \(2, n, 64\), rows for each image, is expected",
    ),
    "per image without its axis": (
        deep(Rows(zeros(N, T), per="image")),
        r"block 1: q has shape \(4, 64\) where \(B, n, 64\), rows for each image, is expected",
    ),
    "keys of another number": (
        deep(Rows(zeros(N, T), k=zeros(N - 1, T))),
        r"block 1: k has shape \(3, 64\) where \(4, 64\), as of q, is expected",
    ),
    "values of another width": (deep(Rows(zeros(N, T), v=zeros(N, I))), r"block 1: v has shape \(4, 96\) where \(n, 64\)"),
    "residual of another number": (
        deep(Rows(zeros(N, T), residual=zeros(2, T))),
        r"block 1: residual has shape \(2, 64\) where \(4, 64\), as of q, is expected",
    ),
    "keys of other classes": (
        deep(Rows(zeros(C, N, T), k=zeros(1, N, T), per="class")),
        r"block 1: k has shape \(1, 4, 64\) where \(3, n, 64\)",
    ),
    "an unknown residual": (deep(Rows(zeros(N, T), residual="k")), "residual='k' is neither a tensor nor one of q, arrived"),
    "a residual that is no tensor": (deep(Rows(zeros(N, T), residual=None)), "residual is of type NoneType where"),
    "an unknown per": (deep(replace(GOOD, per="classes")), "per='classes' is none of shared, class, image"),
    "integers": (deep(Rows(zeros(N, T).long())), r"block 1: q is a tensor of torch.int64 where floating-point numbers"),
    "lists": (deep(Rows([[0.0] * T] * N)), "block 1: q is of type list where floating-point numbers"),
    "no queries": (deep(Rows(None, k=zeros(N, T))), "block 1: q is of type NoneType where"),
    "a tensor for rows": (deep(zeros(N, T)), r"block 1 are a tensor of torch.float32, not Rows"),
    "a tensor for prompts": (zeros(N, T), "text tower's prompts are a tensor of torch.float32: return a TowerPrompts"),
    "a list for blocks": (TowerPrompts(GOOD, [GOOD]), "have rows of type list: give a dict by block number"),
    "a block too many": (TowerPrompts(GOOD, {3: GOOD}), "name block 3, but its 3 blocks are 0 to 2"),
    "a negative block": (TowerPrompts(GOOD, {-1: GOOD}), "name block -1, but its 3 blocks are 0 to 2"),
    "a block by its name": (TowerPrompts(GOOD, {"1": GOOD}), "name block '1', but its 3 blocks are 0 to 2"),
    "a block that is true": (TowerPrompts(GOOD, {True: GOOD}), "name block True, but"),
    "extra rows in no block": (extra(zeros(1, T), block=7), "name block 7, but its 3 blocks are 0 to 2"),
    "extra rows of another width": (extra(zeros(1, T), zeros(1, I)), r"block 1: option 1 has shape \(1, 96\) where \(m, 64\)"),
    "extra rows with an axis too many": (extra(zeros(1, 1, T)), r"block 1: option 0 has shape \(1, 1, 64\) where \(m, 64\)"),
    "integer extra rows": (extra(zeros(1, T).int()), "option 0 is a tensor of torch.int32 where"),
    "no option": (extra(), "extra key/value rows in block 1 have no option"),
    "weights of another length": (
        extra(zeros(1, T), weights=zeros(2)),
        r"block 1: weights has shape \(2,\) where \(1,\), one for each option, is expected",
    ),
    "weights with two axes": (extra(zeros(1, T), weights=zeros(1, 1)), r"weights has shape \(1, 1\) where \(1,\)"),
    "weights that are no tensor": (extra(zeros(1, T), weights=[1.0]), "weights is of type list where"),
    "a tensor for extra rows": (
        TowerPrompts(GOOD, extra={0: zeros(1, T)}),
        "block 0 are a tensor of torch.float32, not an Extra",
    ),
    "added to a different number": (deep(Rows(zeros(2, T), add=True)), "block 1 are 2 rows with add=True, but 4 arrive there"),
    "nothing arrived": (deep(Rows(zeros(6, T), residual="arrived")), "are 6 rows with residual='arrived', but 4 arrive there"),
    "another number per class": (deep(Rows(zeros(C, 2, T), per="class")), "block 1 are 2 rows, but the text has 4 slots there"),
    "another number beside classes": (
        TowerPrompts(GOOD, {1: Rows(zeros(C, N, T), per="class"), 2: Rows(zeros(1, T))}),
        "block 2 are 1 rows, but the text has 4 slots there: their number can change between blocks only with one context",
    ),
}
IMAGE = {
    "of another batch": (
        TowerPrompts(Rows(zeros(B + 1, N, I), per="image")),
        r"image tower's prompts at its input: q has shape \(3, 4, 96\) where \(2, n, 96\), rows for each image, is expected",
    ),
    "width of the other tower": (TowerPrompts(Rows(zeros(N, T))), r"input: q has shape \(4, 64\) where \(n, 96\) is expected"),
    "per class": (TowerPrompts(Rows(zeros(C, N, I), per="class")), "rows that differ by class cannot enter the image tower"),
    "per class, deep": (TowerPrompts(rows={2: Rows(zeros(C, N, I), per="class")}), "block 2: rows that differ by class cannot"),
    "a block too many": (TowerPrompts(rows={3: Rows(zeros(N, I))}), "the image tower's prompts name block 3"),
    "added to nothing": (TowerPrompts(Rows(zeros(N, I), add=True)), "input are 4 rows with add=True, but 0 arrive there"),
    "added to nothing, deep": (TowerPrompts(rows={1: Rows(zeros(N, I), add=True)}), "block 1 are 4 rows with add=True, but 0"),
    "added to a different number": (
        TowerPrompts(Rows(zeros(N, I)), {1: Rows(zeros(N, I)), 2: Rows(zeros(2, I), add=True)}),
        "block 2 are 2 rows with add=True, but 4 arrive there",
    ),
    "extra rows of another width": (TowerPrompts(extra={0: ExtraKV([zeros(1, T)])}), r"block 0: option 0 has shape \(1, 64\)"),
}


def plan_of(clip, position="end", slots=N):
    template = "X X X X {}." if slots else "a photo of a {}."
    return TextPlan(token_lists(clip.tokenizer, NAMES, template, slots, position))


def refused(call, words):
    with pytest.raises(ValueError, match=words) as raised:
        call()
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert "tower's" in sentence


@pytest.mark.parametrize("way", TEXT)
def test_text(small_clip, way):
    prompts, words = TEXT[way]
    refused(lambda: small_clip.encode_text(plan_of(small_clip), prompts), words)


@pytest.mark.parametrize("position", ["middle", "front"])
@pytest.mark.parametrize("count", [0, 2, 6])
def test_slots_that_no_prefix_holds_keep_their_number(small_clip, position, count):
    prompts = deep(Rows(zeros(count, T)))
    refused(
        lambda: small_clip.encode_text(plan_of(small_clip, position), prompts), f"block 1 are {count} rows, but the text has 4"
    )


def test_a_text_without_slots(small_clip):
    plan = plan_of(small_clip, slots=0)
    refused(lambda: small_clip.encode_text(plan, TowerPrompts(GOOD)), "at its input are 4 rows, but the text has 0 slots")
    by_class = TowerPrompts(rows={1: Rows(zeros(C, N, T), per="class")})
    refused(lambda: small_clip.encode_text(plan, by_class), "block 1 are 4 rows, but the text has 0 slots there")


@pytest.mark.parametrize("way", IMAGE)
def test_image(small_clip, way):
    prompts, words = IMAGE[way]
    refused(lambda: small_clip.encode_image(zeros(B, 3, 16, 16), prompts), words)


def test_the_check_takes_microseconds():
    """Against a step of milliseconds. 24 blocks of three streams and extra rows, far more than any method has."""
    rows = {i: Rows(*(zeros(N, T) for _ in "qkv"), residual=zeros(N, T)) for i in range(24)}
    prompts = TowerPrompts(GOOD, rows, {i: ExtraKV([zeros(2, T)] * 4, zeros(4)) for i in range(24)})
    best = 1.0
    for _ in range(20):
        start = time.perf_counter()
        check_prompts(prompts, "text", blocks=24, width=T, slots=N, classes=C)
        best = min(best, time.perf_counter() - start)
    assert best < 2e-3


def test_the_check_reads_no_number():
    """Tensors without content pass: a GPU is never waited for."""
    with torch.device("meta"):
        prompts = TowerPrompts(Rows(zeros(N, T)), {1: Rows(zeros(C, N, T), per="class")}, {0: ExtraKV([zeros(1, T)], zeros(1))})
    check_prompts(prompts, "text", blocks=2, width=T, slots=N, classes=C)
