"""The contrastive loss with all captions or their mean; T20 is of the test list in AAPE's spec, section 10."""

import torch
import torch.nn.functional as F

from prompts.parts import caption_pairing
from prompts.parts.caption_pairing import contrast, mean_caption

SCALE, B = torch.tensor(10.0), 5
INDEX = torch.arange(B)


def one_each(texts):
    return texts[:, None], torch.ones(len(texts), 1, dtype=torch.bool)


def test_t20_the_contrastive_loss():
    a, b = torch.randn(B, 8), torch.randn(B, 8)
    there, back = contrast(a, *one_each(b), INDEX, SCALE), contrast(b, *one_each(a), INDEX, SCALE)
    torch.testing.assert_close(there, back)
    logits = SCALE * F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
    by_hand = (F.cross_entropy(logits, INDEX, reduction="none") + F.cross_entropy(logits.T, INDEX, reduction="none")) / 2
    torch.testing.assert_close(there, by_hand)
    same = torch.ones(B, 8)
    torch.testing.assert_close(contrast(same, *one_each(same), INDEX, SCALE), torch.full((B,), float(B)).log())
    matched = torch.eye(B, 8)
    least = contrast(matched, *one_each(matched), INDEX, SCALE)
    assert all((contrast(matched, *one_each(matched.roll(i, 0)), INDEX, SCALE) > least).all() for i in range(1, B))


def test_several_captions_are_all_to_be_found():
    x, captions = torch.randn(B, 8), torch.randn(B, 3, 8)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1]]).bool()
    captions[~mask] = 1e3  # what is no caption is nothing
    losses = contrast(x, captions, mask, INDEX, SCALE)
    logits = SCALE * torch.einsum("bd,gnd->bgn", F.normalize(x, dim=-1), F.normalize(captions, dim=-1))
    for b in range(B):
        of_image = torch.stack([logits[b][mask].logsumexp(0) - logits[b, b, j] for j in range(3) if mask[b, j]])
        of_texts = torch.stack([logits[:, b, j].logsumexp(0) - logits[b, b, j] for j in range(3) if mask[b, j]])
        torch.testing.assert_close(losses[b], (of_image.mean() + of_texts.mean()) / 2)
    mean, there_is = mean_caption(captions, mask)
    torch.testing.assert_close(mean[2, 0], F.normalize(captions[2, :2], dim=-1).mean(0))
    assert there_is.shape == (B, 1)
    assert there_is.all()


def test_images_that_do_not_count_and_other_views_are_no_candidates():
    x, (captions, mask) = torch.randn(B, 8, requires_grad=True), one_each(torch.randn(B, 8))
    whole = contrast(x[:4], captions[:4], mask[:4], INDEX[:4], SCALE)
    mask[4] = False
    with_blank = contrast(x, captions, mask, INDEX, SCALE)
    torch.testing.assert_close(with_blank[:4], whole)
    assert with_blank[4] == 0
    views = torch.tensor([0, 1, 2, 3, 3])
    mask[4] = True
    two_views = contrast(x, captions, mask, views, SCALE)
    torch.testing.assert_close(two_views[3], whole[3])
    with torch.autograd.detect_anomaly():
        contrast(x[:1], captions[:1], torch.zeros(1, 1, dtype=torch.bool), INDEX[:1], SCALE).sum().backward()
    assert x.grad.isfinite().all()


def test_two_ranks_are_as_one(monkeypatch):
    """Each rank's losses are its part of those of the whole batch."""
    x, captions = torch.randn(4, 8), torch.randn(4, 2, 8)
    mask, index = torch.ones(4, 2, dtype=torch.bool), torch.arange(4)
    whole = contrast(x, captions, mask, index, SCALE)
    wholes = iter([SCALE * F.normalize(x, dim=-1), F.normalize(captions, dim=-1), mask.long(), index] * 2)
    monkeypatch.setattr(caption_pairing, "gather_rows", lambda part: next(wholes))
    monkeypatch.setattr(caption_pairing, "several_ranks", lambda: True)
    for rank, part in enumerate((slice(0, 2), slice(2, 4))):
        monkeypatch.setattr(caption_pairing.dist, "get_rank", lambda rank=rank: rank)
        torch.testing.assert_close(contrast(x[part], captions[part], mask[part], index[part], SCALE), whole[part])
