"""Sampled classes and their correction; numbers in brackets: the test list of docs/pretraining.md."""

import math

import pytest
import torch
import torch.nn.functional as F

from prompts.parts.local_contrast import LocalContrast, class_sample, cross_entropy, draw

N, B = 12, 5
LABELS = torch.tensor([3, 0, 5, 1, 3])
SHARED = torch.zeros(B, dtype=torch.long)


def all_logits():
    return 2 * torch.randn(B, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def loss(contrast, logits, sample, total=N):
    """From logits over all classes, as a learner computes them over the classes in use."""
    return cross_entropy(contrast.corrected(logits[:, sample.ids], sample, total), sample, LABELS)


def by_hand(logits, sampled, log=math.log10):
    """[own, sampled...] row by row, as the released code lays them out."""
    rows = []
    for row, true_class in zip(logits, LABELS.tolist(), strict=True):
        others = [j for j in sampled if j != true_class]
        shift = log((N - 1) / len(others))
        rows.append(torch.stack([row[true_class], *(row[j] + shift for j in others)]).logsumexp(0) - row[true_class])
    return torch.stack(rows)


def test_11_negatives_are_distinct_uniform_and_a_function_of_seed_and_group():
    draws = [draw(N, 4, seed, 0) for seed in range(3000)]
    assert all(len(ids.unique()) == 4 and ids.min() >= 0 and ids.max() < N for ids in draws)
    counts = torch.cat(draws).bincount(minlength=N).double()
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 31  # 11 degrees of freedom: one in a thousand
    assert torch.equal(draw(N, 4, 7, 1), draw(N, 4, 7, 1))
    different = {tuple(draw(N, 4, seed, group).tolist()) for seed in range(4) for group in range(4)}
    assert len(different) == 16  # no (seed, group) repeats another's, such as (seed + 1, group - 1)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_11_a_step_is_the_same_however_many_ranks_share_it(groups):
    contrast, batch_index, logits = LocalContrast(5, negative_groups=groups), torch.arange(B), all_logits()

    def part(rows):
        sample = contrast.sample(LABELS[rows], batch_index[rows], N, seed=3)
        corrected = contrast.corrected(logits[rows][:, sample.ids], sample, N)
        return cross_entropy(corrected, sample, LABELS[rows]), sample

    whole, sample = part(torch.arange(B))
    parts = torch.empty_like(whole)
    for rank in range(2):
        rows = torch.arange(rank, B, 2)
        parts[rows] = part(rows)[0]
    torch.testing.assert_close(parts, whole)
    foreign = ~torch.isin(sample.ids, LABELS)  # sampled, and no image's own
    sets = {tuple(sample.ids[row & foreign].tolist()) for row in sample.allowed}
    assert (len(sets) > 1) == (groups > 1)
    assert all(3 <= n - 1 <= 4 for n in sample.allowed.sum(1).tolist())  # K-1 sampled, one less after a collision


def test_12_a_sampled_class_that_is_the_own_one_is_no_negative():
    sampled = torch.tensor([[3, 5, 7, 8]])
    sample, logits = class_sample(LABELS, sampled, SHARED), all_logits().requires_grad_()
    assert sample.ids[sample.targets].tolist() == LABELS.tolist()
    assert sample.allowed.sum(1).tolist() == [4, 5, 4, 5, 4]  # rows 0, 2 and 4 collide
    contrast = LocalContrast(5)
    torch.testing.assert_close(loss(contrast, logits, sample), by_hand(logits, sampled[0].tolist()))
    corrected = contrast.corrected(logits[:, sample.ids], sample, N)
    corrected.softmax(1)[0, sample.allowed[0]].prod().backward()
    assert not logits.grad[0, 0]  # class 0 is another image's own, and no negative of image 0
    assert logits.grad[0, [3, 5, 7, 8]].all()
    assert corrected[0, sample.targets[0]] == logits[0, 3]  # the own class stays uncorrected


def test_13_all_classes_sampled_is_the_full_softmax():
    sample, logits = class_sample(LABELS, torch.randperm(N)[None], SHARED), all_logits()
    full = F.cross_entropy(logits, LABELS, reduction="none")
    for correction in (True, False):
        torch.testing.assert_close(loss(LocalContrast(N, correction), logits, sample), full)
    assert LocalContrast(N).sample(LABELS, SHARED, N, seed=1) is None
    assert LocalContrast(None).sample(LABELS, SHARED, N, seed=1) is None
    assert LocalContrast(N - 1).sample(LABELS, SHARED, N, seed=1) is not None


@pytest.mark.parametrize(("base", "shift"), [(10, 1.0195), ("e", 2.3475)])
def test_14_the_correction_of_the_published_recipe(base, shift):
    labels = torch.tensor([10_000])
    sample = class_sample(labels, torch.arange(999)[None], torch.zeros(1, dtype=torch.long))
    correction = LocalContrast(1000, log_base=base).shift(sample, 10_450)
    assert correction[0, :999].tolist() == pytest.approx([shift] * 999, abs=1e-4)
    assert correction[0, 999] == 0


def test_14_base_e_is_unbiased_and_base_10_is_not():
    logits = all_logits()[:1, :]
    label, group = torch.tensor([3]), torch.zeros(1, dtype=torch.long)
    full = logits[0, torch.arange(N) != 3].exp().sum()
    for base in (10, "e"):
        contrast, sums = LocalContrast(5, log_base=base), []
        for seed in range(4000):
            sample = contrast.sample(label, group, N, seed)
            corrected = contrast.corrected(logits[:, sample.ids], sample, N)
            sums.append(corrected.exp().sum() - logits[0, 3].exp())
        sums = torch.stack(sums)
        far = ((sums.mean() - full) / (sums.std() / len(sums) ** 0.5)).abs()
        assert far < 4 if base == "e" else far > 20


def test_15_a_constant_changes_nothing_and_the_correction_raises_the_loss():
    sample, logits = class_sample(LABELS, torch.tensor([[2, 4, 9]]), SHARED), all_logits()
    plain, corrected = (loss(LocalContrast(4, on), logits, sample) for on in (False, True))
    torch.testing.assert_close(loss(LocalContrast(4), logits + 7, sample), corrected)
    assert (corrected > plain).all()


def test_17_views_of_an_image_in_any_order():
    contrast = LocalContrast(5)
    labels, batch_index = LABELS.repeat(2), torch.arange(B).repeat(2)
    sample = contrast.sample(labels, batch_index, N, seed=2)
    logits = all_logits().repeat(2, 1) + torch.arange(2 * B)[:, None] % 3
    assert sample.ids[sample.targets].tolist() == labels.tolist()
    order = torch.tensor([5, 6, 7, 8, 9, 0, 1, 2, 3, 4])
    swapped = contrast.sample(labels[order], batch_index[order], N, seed=2)
    a = cross_entropy(contrast.corrected(logits[:, sample.ids], sample, N), sample, labels)
    b = cross_entropy(contrast.corrected(logits[order][:, swapped.ids], swapped, N), swapped, labels[order])
    torch.testing.assert_close(b, a[order])
    single = contrast.sample(LABELS, torch.arange(B), N, seed=2)
    torch.testing.assert_close(a[:B], cross_entropy(contrast.corrected(logits[:B][:, single.ids], single, N), single, LABELS))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_sampled_classes": 1}, "num_sampled_classes=1"),
        ({"log_base": 2}, "local_contrast.log_base=2 is none of 10, e"),
        ({"negative_groups": 0}, "negative_groups=0"),
    ],
)
def test_a_wrong_setting_is_one_sentence(settings, message):
    with pytest.raises(ValueError, match=message):
        LocalContrast(**settings)
