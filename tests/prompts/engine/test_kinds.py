"""Prompts in the towers of every kind: against references of another make, and where they must change nothing."""

import pytest
import torch
from small_models import small_clip
from test_every_architecture import clip_of
from test_towers import learned, same, ways
from torch import nn
from torch.nn import functional as F

from prompts.engine.attention import image_shares, text_is_shown, text_shares
from prompts.engine.rows import ExtraKV, Rows, TowerPrompts
from prompts.engine.text_plan import TextPlan, token_lists
from prompts.parts.context import context_plan, fixed_plan, initial_rows

NAMES = ["rose", "golden retriever", "cat", "sea or lake"]
WORDS = "a photo of a"
TEXTS = ["ViT-B-16", "ViT-L-14-worldwide", "ViT-B-16-SigLIP2", "MobileCLIP2-L-14", "ViT-bigG-14-CLIPA", "coca_ViT-B-32"]
IMAGES = ["ViT-B-16-SigLIP2", "EVA02-B-16", "EVA01-g-14", "EVA02-E-14", "PE-Core-B-16", "ViTamin-B", "MobileCLIP2-B"]


def draw(*shape):
    return nn.Parameter(0.5 * torch.randn(*shape))


@pytest.mark.parametrize("rows", [None, 60])
@pytest.mark.parametrize("name", [*TEXTS, "xlm-roberta-base-ViT-B-32", "nllb-clip-base", "mt5-base-ViT-B-32"])
def test_words_for_prompts_change_nothing(name, rows):
    """Slots that hold the embeddings of the words that they replace, zeros added to a block, and no extra rows."""
    clip = clip_of(name)
    n = min(3, len(clip.tokenizer.encode(WORDS)))
    inputs = Rows(initial_rows(clip, n, WORDS))
    deep = {1: Rows(torch.zeros(n, clip.text_width), add=True)} if clip.text_tower.blocks else {}
    extra = {0: ExtraKV([torch.zeros(0, clip.text_width)])} if deep else {}
    with torch.no_grad():
        plain = clip.encode_text(fixed_plan(clip, NAMES, WORDS + " {}."))
        encode = clip.text_tower.encode
        ours = encode(context_plan(clip, NAMES, n, WORDS), TowerPrompts(inputs, deep, extra), max_rows=rows)
        by_image = TowerPrompts(Rows(inputs.q.expand(2, -1, -1), per="image"), deep, extra)
        images = encode(context_plan(clip, NAMES, n, WORDS), by_image, max_rows=rows)
        few = encode(context_plan(clip, NAMES, n, WORDS), by_image, torch.tensor([3, 1]), max_rows=rows)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(images, plain.expand(2, -1, -1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(few, plain[[3, 1]].expand(2, -1, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "position"), [("ViT-B-16", "middle"), ("ViT-L-14-worldwide", "end")])
@pytest.mark.parametrize("way", ways(8, text=True))
def test_padded_towers_are_the_packed_one(way, name, position):
    """The packed tower's model, every position computed."""
    from prompts.engine.padded_text import PaddedTextTower

    torch.manual_seed(0)
    clip, prompts = small_clip(name), ways(64, text=True)[way]
    packed, names = clip.text_tower, [*NAMES, "dog", "tulip", "lake", "rose or sea"]
    pool = {"pool": "eos", "eos": clip.tokenizer.end[0], "causal": True, "length": clip.tokenizer.context_length}
    parts = packed.blocks, packed.embed, packed.positions, packed.project
    padded = PaddedTextTower(packed.start, clip.tokenizer.pad_id, *parts, **pool)
    slots = 4 if prompts.inputs else 0
    plan = TextPlan(token_lists(clip.tokenizer, names, "x {}.", slots, position, 0))
    ours = padded.encode(plan, prompts, max_rows=60, recompute=True)
    same(ours, packed.encode(plan, prompts), learned(prompts))


def test_other_numbers_of_slots_in_a_padded_tower():
    """Before a block with more, fewer or no slots, the old slots are removed and the new ones are inserted."""
    from prompts.engine.padded_text import PaddedTextTower

    clip = small_clip("ViT-L-14-worldwide")
    packed, length = clip.text_tower, clip.tokenizer.context_length
    pool = {"pool": "eos", "eos": clip.tokenizer.end[0], "causal": True, "length": length}
    padded = PaddedTextTower(0, 0, packed.blocks, packed.embed, packed.positions, packed.project, **pool)
    for counts in ({1: 1, 2: 6}, {1: 6, 2: 0}, {1: 0, 2: 1}):
        for first in (4, 0):
            prompts = TowerPrompts(Rows(draw(4, 64)) if first else None, {i: Rows(draw(n, 64)) for i, n in counts.items()})
            plan = TextPlan(token_lists(clip.tokenizer, NAMES, "{}.", first, "end", 0))
            same(padded.encode(plan, prompts), packed.encode(plan, prompts), learned(prompts))


@pytest.mark.parametrize("way", ["input", "deep", "added", "per image", "everything"])
@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP2", "coca_ViT-B-32"])
def test_prompts_reach_padded_towers(name, way):
    """Every prompt has a gradient, and sequences do not mix."""
    torch.manual_seed(0)
    clip = small_clip(name)
    prompts = ways(clip.text_width, text=True)[way]
    plan = context_plan(clip, NAMES, 4, None)
    features = clip.encode_text(plan, prompts)
    one = clip.encode_text(plan, prompts, torch.tensor([2]))
    torch.testing.assert_close(one, features[..., [2], :], rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad(features.square().sum(), learned(prompts))
    assert all(g.isfinite().all() for g in gradients)
    assert sum(bool(g.abs().max() > 0) for g in gradients) >= len(gradients) - 2  # queries that a later block replaces


def reference_image(clip, images, prompts):
    """timm's own blocks over patches and slots, the slots being rotated by nothing."""
    visual = clip.model.visual
    trunk = visual.trunk
    x = trunk._pos_embed(trunk.patch_embed(images))
    x, rope = x if isinstance(x, tuple) else (x, None)
    own, last = x.shape[1], len(trunk.blocks)

    def behind(x, rows):
        return torch.cat([x[:, :own], rows.q if rows.per == "image" else rows.q.expand(len(x), -1, -1)], 1)

    x = x if prompts.inputs is None else behind(x, prompts.inputs)
    x = trunk.norm_pre(x)
    for i in range(last):
        x = behind(x, prompts.rows[i]) if i in prompts.rows else x
        turn = {}
        if rope is not None:
            slots = x.shape[1] - own
            still = torch.cat([torch.zeros(slots, rope.shape[1] // 2), torch.ones(slots, rope.shape[1] // 2)], 1)
            turn = {"rope": torch.cat([rope, still])}
        x = trunk.blocks[i](x, **turn)
    return visual.head(trunk.forward_head(trunk.norm(x[:, :own])))


@pytest.mark.parametrize("way", ["no prompts", "input", "deep", "per image"])
@pytest.mark.parametrize("name", IMAGES)
def test_visual_prompts_in_timms_transformers(name, way):
    torch.manual_seed(0)
    clip = small_clip(name)
    prompts = ways(clip.image_width, text=False)[way]
    images = torch.randn(3, 3, clip.image_spec["size"], clip.image_spec["size"])
    ours = clip.image_tower.encode(images, prompts, recompute=way == "deep")
    same(ours, reference_image(clip, images, prompts), learned(prompts))


@pytest.mark.parametrize("name", ["EVA02-B-16", "ViT-B-16-SigLIP2", "ViT-bigG-14-CLIPA", "coca_ViT-B-32"])
def test_extra_rows_of_images_are_keys_and_values(name):
    """A slot whose query nothing reads, in the last block, is an extra row."""
    torch.manual_seed(0)
    clip = small_clip(name)
    images, rows = torch.randn(2, 3, clip.image_spec["size"], clip.image_spec["size"]), draw(2, clip.image_width)
    last = clip.image_blocks - 1
    ours = clip.encode_image(images, TowerPrompts(extra={last: ExtraKV([rows])}))
    same(ours, clip.encode_image(images, TowerPrompts(rows={last: Rows(rows)})), [rows])
    assert not torch.allclose(ours, clip.encode_image(images), atol=1e-3)


@pytest.mark.parametrize("name", [*TEXTS, "EVA02-E-14", "ViTamin-B", "PE-Core-B-16", "MobileCLIP2-B", "convnext_base"])
def test_stored_in_bf16_every_kind_stays_close(name):
    from small_models import build_small, small_config, small_tokenizer

    from prompts.engine.clip import FrozenCLIP

    config, kind, clean = small_config(name)
    exact = small_clip(name)
    rounded = FrozenCLIP(
        build_small(config), tokenizer=small_tokenizer(kind, config["text_cfg"]["context_length"], clean), recompute=True
    )
    assert rounded.identity == exact.identity
    rounded.store_bf16()
    images = torch.randn(2, 3, exact.image_spec["size"], exact.image_spec["size"])
    visual = TowerPrompts(Rows(draw(2, exact.image_width))) if exact.is_vit else TowerPrompts()
    text = TowerPrompts(Rows(draw(2, exact.text_width)))
    for clip in (exact, rounded):
        clip.found = clip.encode_image(images, visual), clip.encode_text(context_plan(clip, NAMES, 2, None), text)
    for a, b in zip(exact.found, rounded.found, strict=True):
        assert b.dtype == torch.float32
        assert F.cosine_similarity(a, b, dim=-1).min() > 0.99


def test_prompts_behind_the_input_of_a_hugging_face_tower():
    clip = clip_of("xlm-roberta-base-ViT-B-32")
    plan, rows = context_plan(clip, NAMES, 2, None), Rows(draw(2, clip.text_width))
    for prompts in (TowerPrompts(rows, {0: rows}), TowerPrompts(rows, extra={0: ExtraKV([draw(1, clip.text_width)])})):
        with pytest.raises(ValueError, match="XLMRobertaModel, which takes prompts at its input alone"):
            clip.encode_text(plan, prompts)


@pytest.mark.parametrize("name", ["EVA02-B-16", "ViT-B-16-SigLIP2"])
def test_attention_of_images_is_what_timm_computes(name):
    torch.manual_seed(0)
    clip, seen = small_clip(name), []
    prompts = ways(clip.image_width, text=False)["deep"]
    images = torch.randn(2, 3, clip.image_spec["size"], clip.image_spec["size"])
    shares = image_shares(clip, images, prompts)
    blocks = clip.model.visual.trunk.blocks
    hooks = [block.attn.attn_drop.register_forward_hook(lambda _, given, __: seen.append(given[0])) for block in blocks]
    for block in blocks:
        block.attn.fused_attn = False
    with torch.no_grad():
        reference_image(clip, images, prompts)
    for block, hook in zip(blocks, hooks, strict=True):
        block.attn.fused_attn = True
        hook.remove()
    own = clip.image_tower.embed(images).shape[1]
    read = slice(0, own) if clip.image_tower.reads_all else 0
    for share, weights in zip(shares, seen, strict=True):  # (B,H,N,N)
        on_slots = weights[..., own:].sum(-1)
        assert share.read_out == pytest.approx(on_slots[..., read].mean().item(), abs=1e-5)
        assert share.all_rows is None or share.all_rows == pytest.approx(on_slots.mean().item(), abs=1e-5)
        assert share.prompts == 4


def test_attention_of_texts_that_are_not_causal():
    clip = small_clip("ViT-B-16-SigLIP2")
    plan = context_plan(clip, NAMES, 4, None)
    shares = text_shares(clip, plan, TowerPrompts(Rows(draw(4, clip.text_width))), [0, 3])
    assert [share.even for share in shares] == [pytest.approx(4 / 24)] * clip.text_blocks
    assert all(0 < share.read_out < 1 for share in shares)
    assert shares[-1].all_rows is None
    assert text_is_shown(clip)
    assert not text_is_shown(small_clip("coca_ViT-B-32"))
