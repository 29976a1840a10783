"""The summary of an image's own captions; what the aggregator itself does is in test_aape_aggregator.py."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from prompts.parts.aape_aggregator import PromptAggregator, clip_reward
from prompts.parts.caption_summary import CaptionSummary

D, B = 16, 5


def images():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(B, D, generator=generator)
    captions = x[:, None] + torch.randn(B, 4, D, generator=generator)
    mask = torch.arange(4) < torch.tensor([4, 1, 3, 2, 4])[:, None]
    return x, captions, mask


def of(**options):
    return partial(PromptAggregator, heads=2, **{"query": "shared"} | options)


def test_an_image_has_its_own_captions_alone():
    x, captions, mask = images()
    torch.manual_seed(0)
    summary = CaptionSummary(D, B, of(init="default"))
    whole = summary(x, captions, mask)
    single = torch.cat([summary(x[i : i + 1], captions[i : i + 1], mask[i : i + 1]) for i in range(B)])
    torch.testing.assert_close(whole, single)
    captions[~mask] = 1e3  # what is no caption is nothing
    torch.testing.assert_close(summary(3 * x, captions, mask), whole)
    start = CaptionSummary(D, B)(x, captions, mask)
    unit = F.normalize(captions, dim=-1) * mask[..., None]
    torch.testing.assert_close(start, unit.sum(1) / mask.sum(1, keepdim=True))
    raw = CaptionSummary(D, B, unit_captions=False)(x, captions, mask)
    torch.testing.assert_close(raw[1], captions[1, 0])


def test_the_losses():
    x, captions, mask = images()
    h = torch.randn(B, D, requires_grad=True)
    summary = CaptionSummary(D, B, reward_scale=2.0)
    losses, target = summary.losses(x, h, captions, mask), summary(x, captions, mask)
    torch.testing.assert_close(losses["reward"], -clip_reward(x, target, 2.0))
    torch.testing.assert_close(losses["distill"], 2 - 2 * F.cosine_similarity(h, target))
    losses["distill"].sum().backward()
    assert h.grad.any()
    assert all(p.grad is None for p in summary.parameters())
    losses["reward"].sum().backward()
    assert summary.aggregator.delta.grad is not None
    CaptionSummary(D, B, detach=False).losses(x, h, captions, mask)["distill"].sum().backward()
    raw = CaptionSummary(D, B, distill_space="raw").losses(x, h, captions, mask)["distill"]
    torch.testing.assert_close(raw, (h - target).square().sum(-1))
    assert set(CaptionSummary(D, B, of(kind="mean")).losses(x, h, captions, mask)) == {"distill"}


def test_queries_of_single_images_and_random_captions():
    x, captions, mask = images()
    own = CaptionSummary(D, 9, of(query="per_image"))
    torch.nn.init.normal_(own.aggregator.delta)
    shifted = own(x, captions, mask, index=torch.arange(B) + 4)
    assert not torch.allclose(own(x, captions, mask, index=torch.arange(B)), shifted)
    with pytest.raises(ValueError, match="query=per_image needs to know which training image"):
        own(x, captions, mask)
    drawn = CaptionSummary(D, 9, of(kind="random"))
    unit, index = F.normalize(captions, dim=-1), torch.tensor([8, 0, 4, 2, 6])
    torch.manual_seed(5)
    rows = (torch.rand(9)[index] * mask.sum(1)).long()
    torch.manual_seed(5)
    picked = drawn(x, captions, mask, index)
    torch.testing.assert_close(picked, unit[torch.arange(B), rows])
    torch.manual_seed(5)  # as a rank that has the last two alone
    torch.testing.assert_close(drawn(x[3:], captions[3:], mask[3:], index[3:]), picked[3:])
    assert drawn(x, captions, mask).shape == (B, D)


def test_what_it_refuses():
    x, captions, mask = images()
    mask[2] = False
    with pytest.raises(ValueError, match=r"images \[2\] of this batch have no caption"):
        CaptionSummary(D, B)(x, captions, mask)
    with pytest.raises(ValueError, match="query=per_class: images with captions of their own have no classes"):
        CaptionSummary(D, B, of(query="per_class"))
    with pytest.raises(ValueError, match="method.distill_space='far' is none of unit, raw"):
        CaptionSummary(D, B, distill_space="far")
    with pytest.raises(ValueError, match="method.reward_scale=-1"):
        CaptionSummary(D, B, reward_scale=-1)
