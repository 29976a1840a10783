"""The contrastive loss with all captions or their mean; T20 is of the test list in AAPE's spec, section 10."""

import multiprocessing

import torch
import torch.distributed as dist
import torch.nn.functional as F

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


def gradient(layer, x, captions, mask, index):
    """Of the mean over the whole batch, on this rank's part of it."""
    layer.zero_grad()
    contrast(layer(x), captions, mask, index, SCALE).mean().backward()
    return layer.weight.grad


def rank_of_two(rank, folder, layer, parts, results):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = gradient(layer, *(part.chunk(2)[rank] for part in parts))
    dist.all_reduce(found)
    results.put((rank, (found / 2).tolist()))
    dist.destroy_process_group()


def test_two_ranks_are_as_one(tmp_path):
    """Gradients, averaged over the ranks as DDP does, are those of one process."""
    layer, mask = torch.nn.Linear(8, 8, bias=False), torch.tensor([[1, 1], [1, 0], [0, 0], [1, 1]]).bool()
    parts = torch.randn(4, 8), torch.randn(4, 2, 8), mask, torch.tensor([5, 0, 2, 9])
    whole = gradient(layer, *parts).clone()
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    ranks = [context.Process(target=rank_of_two, args=(rank, tmp_path, layer, parts, results)) for rank in range(2)]
    for process in ranks:
        process.start()
    found = dict(results.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    torch.testing.assert_close(torch.tensor([found[0], found[1]]), whole.expand(2, -1, -1))
