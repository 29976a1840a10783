"""How an image enters DenseCLIP's class texts, and the texts its pyramid, from the specification (2.1 to 2.4)."""

import pytest
import torch
from dense_models import NAMES, K, model_of, pictures, step

from prompts.engine.dense import dense_features


@pytest.fixture(params=["vit", "resnet"])
def clip(request, small_clip, resnet_clip):
    return small_clip if request.param == "vit" else resnet_clip


@torch.no_grad()
@pytest.mark.parametrize("guidance", ["post", "pre"])
def test_the_decoder_reads_the_pooled_feature_and_every_position(clip, guidance):
    """Its memory is [z_bar, z]; its queries are the class texts, or learned ones."""
    maps = model_of(clip, guidance=guidance).learner.guided
    seen = []
    maps.context_decoder.register_forward_hook(lambda _, given, out: seen.append((*given[:2], out)))
    if guidance == "post":
        maps.gamma.copy_(torch.linspace(-1, 1, len(maps.gamma)))
    found = maps(clip, pictures(height=64, width=32))
    dense = dense_features(clip.image_tower, clip.normalised(pictures(height=64, width=32)), [0])
    ((queries, memory, out),) = seen
    _, d, h, w = dense.projected.shape
    assert memory.shape == (2, 1 + h * w, d)
    torch.testing.assert_close(memory[:, 0], dense.pooled)
    for i in range(h):
        torch.testing.assert_close(memory[:, 1 + i * w : 1 + (i + 1) * w], dense.projected[:, :, i].transpose(1, 2))
    if guidance == "post":
        texts = maps.branch.texts(clip, dense.pooled)
        torch.testing.assert_close(queries, texts.expand(2, -1, -1))
        torch.testing.assert_close(found.texts, texts + maps.gamma * out)
    else:
        torch.testing.assert_close(queries, maps.queries.expand(2, -1, -1))
        torch.testing.assert_close(found.texts, maps.branch.texts(clip, dense.pooled, out))
    lengths = dense.projected.norm(dim=1)[:, None] * found.texts.norm(dim=-1)[..., None, None]
    cosines = (dense.projected[:, None] * found.texts[..., None, None]).sum(2) / lengths
    torch.testing.assert_close(found.score_map, cosines, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("guidance", ["post", "pre"])
def test_initial_values_are_the_released_ones(small_clip, guidance):
    """Contexts from a normal distribution of deviation 1, cut at 2 on both sides, whose own deviation is 0.88."""
    maps = model_of(small_clip, guidance=guidance).learner.guided
    rows = maps.queries if guidance == "pre" else maps.branch.contexts
    assert rows.shape == (8, small_clip.text_width)
    assert rows.std().item() == pytest.approx(0.88, abs=0.12)
    assert 1.5 < rows.abs().max() <= 2
    if guidance == "post":
        assert torch.equal(maps.gamma, torch.full((small_clip.embed_dim,), 1e-4))


def test_the_logits_teach_the_texts_through_the_pyramid(clip):
    """Not the score map's own loss alone."""
    model = model_of(clip, score_weight=0.0).train()
    model.learner.segment(clip, pictures(), step(2)).logits.square().sum().backward()
    assert model.learner.guided.gamma.grad.abs().sum() > 0
    assert model.learner.guided.branch.contexts.grad.abs().sum() > 0
    assert model.learner.head.classifier.conv_seg.weight.shape[0] == len(NAMES) == K
