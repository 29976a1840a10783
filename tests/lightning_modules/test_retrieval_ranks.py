"""Blockwise ranks against sorting the whole matrix, against clip-benchmark's figures, and by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lightning_modules.retrieval_ranks import Gallery, Ranks, exact_ranks, retrieved, summary

GOLDEN = Path(__file__).parents[1] / "golden" / "retrieval.json"  # says how it was made


def ranks_of(scores, gallery, rows=4, **options):
    """Of scores (N,U)."""
    return exact_ranks(lambda start, end: scores[start:end], len(scores), gallery, rows, **options)


def sorted_ranks(scores, owner):
    """The same from the whole matrix (N,M), sorted by Python."""
    scores = scores.tolist()
    images, captions = [], []
    for i, row in enumerate(scores):
        order = sorted(range(len(row)), key=lambda c: (-row[c], c))
        images.append(1 + next(place for place, c in enumerate(order) if owner[c] == i))
    for c, image in enumerate(owner):
        order = sorted(range(len(scores)), key=lambda i: (-scores[i][c], i))
        captions.append(1 + order.index(image))
    return images, captions


def captions_of(counts):
    return [[f"caption {j} of image {i}" for j in range(count)] for i, count in enumerate(counts)]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_of_any_size_on_any_number_of_ranks_are_the_sorted_matrix(seed, ties):
    rng = np.random.default_rng(seed)
    captions = captions_of(rng.integers(1, 6, 17))
    captions[3][0] = captions[8][0] = captions[8][-1] = "the same"  # of different images, and twice of one
    gallery = Gallery.of(captions)
    scores = torch.from_numpy(rng.standard_normal((17, len(gallery.texts)))).float()
    scores = (2 * scores).round() if ties else scores
    expected = sorted_ranks(scores[:, gallery.which], gallery.owner.tolist())
    for rows in (1, 4, 16, 17, 100):
        for world in (1, 2, 5):
            found = ranks_on(world, scores, gallery, rows)
            assert (found.images.tolist(), found.captions.tolist()) == expected
            numbers = summary(found)
            for side, ranks in zip(("image_to_text", "text_to_image"), expected, strict=True):
                recall = [numbers[f"{side}_r{k}"] for k in (1, 5, 10)]
                assert recall == sorted(recall)
                assert recall == pytest.approx([100 * np.mean([rank <= k for rank in ranks]) for k in (1, 5, 10)])
                assert numbers[f"{side}_median_rank"] == sorted(ranks)[len(ranks) // 2] or not len(ranks) % 2
            assert not found.not_finite.any()


def ranks_on(world, scores, gallery, rows):
    """The ranks of `world` processes, which run here one after the other: a first round collects what they add up."""
    if world == 1:
        return ranks_of(scores, gallery, rows)
    parts = [[] for _ in range(world)]

    def round_of(rank, sums):
        def total(tensor):
            parts[rank].append(tensor)
            return sums[len(parts[rank]) - 1] if len(parts[rank]) <= len(sums) else tensor

        parts[rank] = []
        return ranks_of(scores, gallery, rows, share=(rank, world), total=total)

    sums = []
    for _ in range(4):  # the scores that captions have with their own images come first; later sums need them
        found = [round_of(rank, sums) for rank in range(world)]
        sums = [sum(tensors) for tensors in zip(*parts, strict=True)]
    for other in found[1:]:
        assert other.images.tolist() == found[0].images.tolist()
        assert other.captions.tolist() == found[0].captions.tolist()
    return found[0]


def test_by_hand():
    """Two images; the first has captions 0 and 1, the second caption 2."""
    gallery = Gallery.of([["a", "b"], ["c"]])
    scores = torch.tensor([[0.1, 0.5, 0.9], [0.1, 0.6, 0.9]])
    found = ranks_of(scores, gallery)
    assert found.images.tolist() == [2, 1]  # any of an image's captions is a hit: b is second behind c
    assert found.captions.tolist() == [
        1,
        2,
        2,
    ]  # a and c: of equal scores the first image goes first
    numbers = summary(found)
    assert (numbers["image_to_text_r1"], numbers["image_to_text_r5"], numbers["image_to_text_median_rank"]) == (
        50.0,
        100.0,
        1.5,
    )
    of_captions = [numbers[f"text_to_image_{key}"] for key in ("r1", "r5", "median_rank")]
    assert of_captions == [pytest.approx(100 / 3), 100.0, 2.0]
    assert (numbers["images"], numbers["captions"]) == (2, 3)
    assert retrieved(gallery, scores[0], 0) == [["c", 0.9, False], ["b", 0.5, True], ["a", 0.1, True]]


def test_perfect_and_constant_embeddings():
    gallery = Gallery.of(captions_of([5] * 12))
    own = F.one_hot(gallery.owner).T.float()
    perfect, constant = summary(ranks_of(own, gallery)), summary(ranks_of(0 * own, gallery))
    assert [perfect[f"{side}_r1"] for side in ("image_to_text", "text_to_image")] == [100.0, 100.0]
    assert [perfect[f"{side}_median_rank"] for side in ("image_to_text", "text_to_image")] == [1.0, 1.0]
    assert constant["image_to_text_r1"] == constant["text_to_image_r1"] == pytest.approx(100 / 12)  # the first image alone
    assert constant["image_to_text_r10"] == pytest.approx(200 / 12)


def test_equal_captions_are_separate_candidates():
    gallery = Gallery.of([["x"], ["x"]])
    assert gallery.texts == ["x"]
    found = ranks_of(torch.tensor([[1.0], [1.0]]), gallery)
    assert found.images.tolist() == found.captions.tolist() == [1, 2]


def test_scores_that_are_not_finite_are_told():
    gallery = Gallery.of(captions_of([2, 2, 2]))
    scores = torch.zeros(3, 6)
    scores[1, 4] = float("nan")
    assert ranks_of(scores, gallery, rows=2).not_finite.tolist() == [False, True, False]


def test_parts_of_the_images():
    ranks = Ranks(np.array([1, 3, 1]), np.array([1, 1, 7, 2]), np.zeros(3, bool))
    part = summary(ranks, np.array([True, True, False]), np.array([0, 1, 1, 2]))
    assert (part["image_to_text_r1"], part["image_to_text_r5"]) == (50.0, 100.0)
    assert part["text_to_image_r1"] == pytest.approx(200 / 3)
    assert (part["images"], part["captions"]) == (2, 3)


def embeddings(seed, images, most, fewest, width, noise):
    rng = np.random.RandomState(seed)
    counts = rng.randint(fewest, most + 1, images)
    image = rng.standard_normal((images, width))
    text = image.repeat(counts, 0) + noise * rng.standard_normal((counts.sum(), width))
    return torch.from_numpy(image).float(), torch.from_numpy(text).float(), counts


@pytest.mark.parametrize("number", range(3))
def test_clip_benchmarks_figures(number):
    case = json.loads(GOLDEN.read_text())["cases"][number]
    figures = case.pop("figures")
    image, text, counts = embeddings(**case)
    gallery = Gallery.of(captions_of(counts))
    numbers = summary(ranks_of(F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T, gallery, rows=7))
    assert 0 < figures["text_retrieval_recall@5"] < 1
    for theirs, ours in (("text", "image_to_text"), ("image", "text_to_image")):
        for k in (1, 5, 10):
            assert numbers[f"{ours}_r{k}"] == pytest.approx(100 * figures[f"{theirs}_retrieval_recall@{k}"], abs=1e-4)
