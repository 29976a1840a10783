"""Attention shares, compared with the plain computation and the attention weights that torch reports."""

import plain
import pytest
import torch
from test_towers import NAMES, B, N, ways

from prompts.engine.attention import image_shares, text_shares
from prompts.engine.rows import NO_PROMPTS, ExtraKV, Rows, TowerPrompts
from prompts.engine.text_plan import TextPlan, token_lists


@pytest.fixture
def watched(monkeypatch):
    """Per block of a plain run: what every row puts on every key, mean over heads and options; how many keys are extra."""
    blocks = []

    def attention(block, q, k, v, extra, mask):
        options = [(1.0, q[0, :0])] if extra is None else list(zip(_weights(extra), extra.options, strict=True))
        most, total = max(len(rows) for _, rows in options), 0
        for weight, rows in options:
            more = block.ln_1(rows).expand(len(q), -1, -1)
            keys = torch.cat([more, block.ln_1(k)], 1)
            seen = None if mask is None else torch.nn.functional.pad(mask, (len(rows), 0), value=0.0)
            _, shares = block.attn(block.ln_1(q), keys, keys, need_weights=True, attn_mask=seen)
            shares = torch.cat([shares.new_zeros(*shares.shape[:2], most - len(rows)), shares], -1)
            total = total + float(weight) * shares
        blocks.append((total.detach(), most))
        return original(block, q, k, v, extra, mask)

    original = plain.attention
    monkeypatch.setattr(plain, "attention", attention)
    return blocks


def _weights(extra):
    return [1.0] * len(extra.options) if extra.weights is None else extra.weights


def on_prompts(shares, extra, slots):
    """Shares (S,N,m+N) of each row -> (S,N) of them on the first `extra` keys and on those at `slots`"""
    return shares[..., [*range(extra), *(extra + slot for slot in slots)]].sum(-1)


@pytest.mark.parametrize("way", [name for name in ways(64, text=True) if name != "no prompts"])
@pytest.mark.parametrize("position", ["end", "middle"])
def test_text(small_clip, watched, way, position):
    torch.manual_seed(0)
    prompts = ways(64, text=True)[way]
    slots = N if prompts.all_rows else 0
    template = "X X X X {}." if slots else "a photo of a {}."
    lists = token_lists(small_clip.tokenizer, NAMES, template, slots, position)
    plan = TextPlan(lists, class_slots=way == "per class")
    chosen = [0, 2, 7]
    shares = text_shares(small_clip, plan, prompts, chosen)
    with torch.no_grad():
        plain.encode_text(small_clip, lists, prompts, images=prompts.images or 1)
    for i, (share, (weights, extra)) in enumerate(zip(shares, watched, strict=True)):
        read, everywhere = [], []
        for c in chosen:
            of_class = weights.unflatten(0, (-1, len(NAMES)))[:, c]
            slots_of_class = [position for position, token in enumerate(lists[c]) if token < 0]
            rows = on_prompts(of_class, extra, slots_of_class)[:, : len(lists[c])]
            read.append(rows[:, -1].mean().item()), everywhere.append(rows.mean().item())
        assert share.read_out == pytest.approx(sum(read) / 3, abs=1e-5)
        if i < 2:
            assert share.all_rows == pytest.approx(sum(everywhere) / 3, abs=1e-5)
        else:
            assert share.all_rows is None


@pytest.mark.parametrize("way", [name for name in ways(96, text=False) if name != "no prompts"])
def test_images(small_clip, watched, way):
    torch.manual_seed(0)
    prompts, images = ways(96, text=False)[way], torch.randn(B, 3, 16, 16)
    shares = image_shares(small_clip, images, prompts)
    with torch.no_grad():
        plain.encode_image(small_clip, images, prompts)
    for i, (share, (weights, extra)) in enumerate(zip(shares, watched, strict=True)):
        rows = on_prompts(weights, extra, range(5, weights.shape[1]))  # behind CLS and 4 patches
        assert share.read_out == pytest.approx(rows[:, 0].mean().item(), abs=1e-5)
        assert share.all_rows == (pytest.approx(rows.mean().item(), abs=1e-5) if i < 2 else None)


def test_slots_that_change_their_number_are_followed(small_clip):
    """With 4, 1, 0 and 2 slots in four blocks, the number of prompt rows and their even share are right in each."""
    lists = token_lists(small_clip.tokenizer, ["rose"], "X X X X {}.", 4, "end")
    rest = len(lists[0]) - 4
    rows = {i: Rows(torch.randn(n, 64)) for i, n in ((1, 0), (2, 2))}
    shares = text_shares(small_clip, TextPlan(lists), TowerPrompts(Rows(torch.randn(4, 64)), rows), [0])
    assert [share.prompts for share in shares] == [4, 0, 2]
    assert [share.even for share in shares] == pytest.approx([4 / (4 + rest), 0, 2 / (2 + rest)])
    assert shares[1].read_out == shares[1].all_rows == 0


def test_options_count_by_their_weights(small_clip):
    extra = {1: ExtraKV([torch.randn(0, 96), torch.randn(4, 96)], torch.tensor([0.75, 0.25]))}
    shares = image_shares(small_clip, torch.randn(2, 3, 16, 16), TowerPrompts(extra=extra))
    assert shares[1].prompts == 1
    assert shares[1].even == pytest.approx(0.25 * 4 / (4 + 5))
    assert 0 < shares[1].read_out < 0.25


def test_without_prompts_there_is_no_share(small_clip):
    assert {share.read_out for share in image_shares(small_clip, torch.randn(1, 3, 16, 16), NO_PROMPTS)} == {0.0}
