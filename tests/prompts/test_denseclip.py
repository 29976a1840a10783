"""DenseCLIP's maps and losses, by the numbered list of the specification (2.9); training is in test_denseclip_training.py."""

import pytest
import torch
import torch.nn.functional as F
from dense_models import NAMES, K, label_maps, model_of, pictures, step

from prompts.denseclip import DenseCLIP, DenseOutputs
from prompts.engine.dense import dense_features
from prompts.engine.rows import NO_PROMPTS
from prompts.parts.pyramid_neck import default_blocks, doublings, scores


@pytest.fixture(params=["vit", "resnet"])
def clip(request, small_clip, resnet_clip):
    return small_clip if request.param == "vit" else resnet_clip


def guided(clip, **settings):
    return model_of(clip, **settings).learner.guided


@torch.no_grad()
def test_2_9_01_scores_are_cosines_at_the_size_of_their_level(clip):
    maps = guided(clip)
    found = maps(clip, pictures(height=64, width=96))
    level = found.levels[maps.score_level]
    assert found.score_map.shape == (2, K, *level.shape[-2:])
    assert torch.equal(level[:, -K:], found.score_map)  # raw, without the temperature
    assert [x.shape[1] for x in found.levels] == maps.channels
    assert [64 // x.shape[-2] for x in found.levels] == [4, 8, 16, 32]
    assert found.score_map.abs().max() <= 1 + 1e-5
    dense, texts = torch.randn(2, 8, 3, 4), torch.randn(5, 8)
    plain = torch.einsum("bdhw,kd->bkhw", dense / dense.norm(dim=1, keepdim=True), texts / texts.norm(dim=1, keepdim=True))
    for scaled in (scores(3 * dense, texts), scores(dense, 0.1 * texts), scores(dense, texts.expand(2, -1, -1))):
        torch.testing.assert_close(scaled, plain)


@torch.no_grad()
def test_2_9_02_texts_hardly_move_at_first_and_not_at_all_without_gamma(clip):
    maps = guided(clip)
    plain = maps.class_texts(clip, torch.zeros(1, clip.embed_dim))
    found = maps(clip, pictures()).texts
    moved = (found - plain).norm(dim=-1) / plain.norm(dim=-1)
    assert 0 < moved.max() < 1e-2
    maps.gamma.zero_()
    for seen in (pictures(), 255 - pictures()):
        assert torch.equal(maps(clip, seen).texts, plain.expand(2, -1, -1))


@pytest.mark.parametrize("gamma", [0.0, 1e-4])
def test_2_9_03_gamma_gates_the_decoder_s_gradient(small_clip, gamma):
    maps = guided(small_clip)
    with torch.no_grad():
        maps.gamma.fill_(gamma)
    maps(small_clip, pictures()).score_map.square().sum().backward()
    assert maps.gamma.grad.abs().sum() > 0
    of_decoder = [p.grad.abs().sum().item() for p in maps.context_decoder.out_proj.parameters()]
    assert (max(of_decoder) > 0) == (gamma > 0)


@torch.no_grad()
@pytest.mark.parametrize("guidance", ["post", "pre"])
def test_2_9_04_images_do_not_mix_and_order_does_not_matter(clip, guidance):
    model = model_of(clip, guidance=guidance)
    maps = model.learner.guided
    if guidance == "post":
        maps.gamma.fill_(0.5)
    seen = pictures(3)
    together = maps(clip, seen).texts
    for i in range(3):
        torch.testing.assert_close(maps(clip, seen[i : i + 1]).texts[0], together[i], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-6)
    width = maps.context_decoder.text_proj[1].in_features
    memory, queries = torch.randn(2, 7, clip.embed_dim), torch.randn(2, 3, width)
    shuffled = maps.context_decoder(queries, memory[:, torch.randperm(7)])
    torch.testing.assert_close(shuffled, maps.context_decoder(queries, memory), rtol=1e-4, atol=1e-5)
    before = maps(clip, seen).score_map
    maps.bind(clip, NAMES[::-1])
    torch.testing.assert_close(maps(clip, seen).score_map, before.flip(1), rtol=1e-4, atol=1e-5)


def test_2_9_06_slots_stand_behind_the_first_token_and_before_the_raw_name(small_clip):
    tokens = small_clip.tokenizer
    plan = guided(small_clip).branch.plan
    rows = plan.padded(28, 0)
    for name, row, length in zip(NAMES, rows.tolist(), (plan.lengths + len(plan.prefix)).tolist(), strict=True):
        assert row[:length] == [*tokens.start, *range(-1, -9, -1), *tokens.encode(name), *tokens.end]
    with pytest.raises(ValueError, match="makes a prompt of 3[0-9] tokens, but this CLIP's text tower holds 28"):
        model_of(small_clip, [*NAMES, "a very very long name of a thing that nobody would ever call so " * 2])
    with torch.no_grad():
        plain = guided(small_clip, guidance="text", n_ctx=0)(small_clip, pictures()).texts
        expected = small_clip.model.encode_text(torch.stack([padded(tokens, name) for name in NAMES]))
    torch.testing.assert_close(plain, expected, rtol=1e-4, atol=1e-5)


def padded(tokens, name):
    ids = [*tokens.start, *tokens.encode(name), *tokens.end]
    return torch.tensor(ids + [0] * (28 - len(ids)))


@torch.no_grad()
def test_2_9_07_the_pooled_feature_is_clip_s_own(clip):
    size = clip.image_spec["size"]
    seen = pictures(height=size, width=size)
    found = guided(clip).features(clip, seen)
    torch.testing.assert_close(found.pooled, clip.encode_image(seen), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_2_9_07_the_released_slip_is_a_switch(small_clip, resnet_clip):
    """The class embedding enters its row twice, and so changes all that attends to it."""
    seen = small_clip.normalised(pictures())
    twice = dense_features(small_clip.image_tower, seen, [0, 1, 2], NO_PROMPTS, False, True)
    visual = small_clip.model.visual
    kept = visual.class_embedding.data.clone()
    visual.class_embedding.data += kept
    expected = small_clip.encode_dense(seen, [0, 1, 2])
    visual.class_embedding.data.copy_(kept)
    torch.testing.assert_close(twice.pooled, expected.pooled)
    torch.testing.assert_close(twice.maps, expected.maps)
    assert not torch.allclose(twice.pooled, small_clip.encode_dense(seen).pooled)
    assert torch.equal(guided(small_clip, class_embedding_twice=True).features(small_clip, seen).pooled, twice.pooled)
    with pytest.raises(ValueError, match="for CLIP's own vision transformers, and this image tower is none"):
        model_of(resnet_clip, class_embedding_twice=True)


@torch.no_grad()
@pytest.mark.parametrize("head", ["fpn", "upernet", "none"])
def test_2_9_08_images_of_any_size_are_padded_inside_and_cut_back(clip, head):
    """Positions at the native grid are unchanged: tests/prompts/engine/test_dense.py."""
    model = model_of(clip, head=head)
    odd = pictures(height=45, width=71)
    found = model.learner.segment(clip, odd)
    assert found.logits.shape == found.score_map.shape == (2, K, 45, 71)
    unit = model.learner.guided.unit
    padded = F.pad(clip.normalised(odd), (0, -71 % unit[1], 0, -45 % unit[0]))
    whole = model.learner.segment(clip, padded)
    resized = F.interpolate(whole.logits, padded.shape[-2:], mode="bilinear")[..., :45, :71]
    torch.testing.assert_close(found.logits, resized, rtol=1e-4, atol=1e-5)
    fitting = model.learner.segment(clip, pictures(height=64, width=96))
    assert fitting.logits.shape[-2:] == ((16, 24) if head != "none" else fitting.score_map.shape[-2:])


def test_2_9_09_losses_are_as_written():
    model = DenseCLIP()
    logits, cosines, mask = torch.randn(3, K, 8, 8), torch.rand(3, K, 4, 4), label_maps(3)
    mask[0, :7] = 255
    mask[1] = 255
    out = DenseOutputs(logits.requires_grad_(), cosines.requires_grad_())
    losses = model.dense_losses(out, mask)
    enlarged = F.interpolate(cosines / 0.07, (32, 32), mode="bilinear", align_corners=False)
    expected = F.cross_entropy(enlarged, mask.long(), ignore_index=255, reduction="none").flatten(1).sum(1) / 1024
    torch.testing.assert_close(losses["score_map"], 0.4 * expected)
    assert losses["ce"][1] == losses["score_map"][1] == 0
    sum(loss.sum() for loss in losses.values()).backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[1].any()
    other = model.dense_losses(DenseOutputs(logits.detach().clone().index_fill_(2, torch.tensor([0]), 9.0), cosines), mask)
    torch.testing.assert_close(other["ce"][0], losses["ce"][0])  # what is labelled 255 alone has changed
    assert set(DenseCLIP(score_weight=0).dense_losses(out, mask)) == {"ce"}


@torch.no_grad()
@pytest.mark.parametrize("guidance", ["post", "text"])
def test_2_9_15_cached_texts_are_the_uncached(small_clip, guidance):
    model = model_of(small_clip, guidance=guidance)
    maps = model.learner.guided
    before = maps.text_encodings
    first = model.learner.segment(small_clip, pictures()).logits
    assert maps.text_encodings == before + 1
    again = model.learner.segment(small_clip, pictures()).logits
    assert maps.text_encodings == before + 1  # K texts once, whatever the number of images
    assert torch.equal(first, again)
    maps.branch.contexts += 0.5
    changed = model.learner.segment(small_clip, pictures()).logits
    assert not torch.equal(changed, first)
    maps.kept_texts = None
    assert torch.equal(model.learner.segment(small_clip, pictures()).logits, changed)


@torch.no_grad()
def test_pre_model_prompting_encodes_the_classes_for_each_image(small_clip):
    model = model_of(small_clip, guidance="pre")
    model.learner.segment(small_clip, pictures(3))
    assert model.learner.guided.text_encodings == 3
    assert not hasattr(model.learner.guided, "gamma")


@torch.no_grad()
def test_the_baseline_has_no_texts(clip):
    model = model_of(clip, guidance="none")
    found = model.learner.segment(clip, pictures())
    assert found.score_map is None
    assert found.logits.shape[1] == K
    assert not [name for name in model.learner.state_dict() if not name.startswith(("head.", "guided.neck."))]
    assert set(model.learner.dense_losses(found, label_maps())) == {"ce"}


@torch.no_grad()
def test_the_score_map_alone_serves_any_classes(small_clip):
    model = model_of(small_clip, head="none")
    found = model.learner.segment(small_clip, pictures())
    torch.testing.assert_close(found.logits, found.score_map / 0.07)
    assert set(model.learner.dense_losses(found, label_maps())) == {"ce"}
    model.bind(["tulip", "golden_retriever"])
    assert model.learner.segment(small_clip, pictures()).logits.shape[1] == 2
    with pytest.raises(ValueError, match="learned tensors for each of its 3 classes"):
        model_of(small_clip).bind(["tulip", "golden_retriever"])


def test_levels_follow_the_published_ones_in_proportion():
    assert default_blocks(12) == [3, 5, 7, 11]
    assert default_blocks(24) == [7, 11, 15, 23]
    assert default_blocks(4) == [0, 1, 2, 3]
    assert default_blocks(1) == [0, 0, 0, 0]
    assert [doublings(patch) for patch in (16, 14, 32, 8, 4)] == [
        [2, 1, 0, -1],
        [2, 1, 0, -1],
        [3, 2, 1, 0],
        [1, 0, -1, -2],
        [0, -1, -2, -3],
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance": "after"}, "method.guidance='after' is none of post, pre, text, none"),
        ({"guidance": "none", "head": "none"}, "leave nothing that says a class"),
        ({"decoder_heads": 3}, "method.decoder_width=32 cannot be divided among method.decoder_heads=3"),
        ({"tau": 0}, "method.tau=0: give a temperature above 0"),
        ({"dropout": 1.0}, "method.dropout=1.0: give a share from 0 to below 1"),
        ({"blocks": [0, 1]}, "a pyramid has four levels: give four blocks"),
        ({"blocks": [0, 1, 2, 9]}, "9 is none of the 3 blocks"),
        ({"guidance": "pre", "n_ctx": 0}, "method.guidance=pre makes contexts from the image"),
        ({"guidance": "pre", "text": {"name": "coop"}}, "makes its own or none: give post or text"),
    ],
)
def test_mistakes_are_one_sentence(small_clip, settings, message):
    with pytest.raises(ValueError, match=message):
        model_of(small_clip, **settings)


def test_a_tower_without_a_joint_map_has_the_baseline_alone():
    from small_models import small_clip as small

    clip = small("ViT-B-16-SigLIP2")
    with pytest.raises(ValueError, match="no map of its patches in the joint space.*or method.guidance=none"):
        model_of(clip)
    model = model_of(clip, guidance="none").train()
    assert model.learner.segment(clip, pictures(height=64, width=64), step(2)).logits.shape[1] == K
