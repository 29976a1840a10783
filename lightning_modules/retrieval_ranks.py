"""Exact ranks of images among captions and of captions among images, from blocks of scores.

An image's rank is the place of the first of its own captions when all captions are sorted by their score, and a caption's rank
that of its image; 1 is the best. Of equal scores the one that stands first in the list goes first. Equal captions of different
images are separate candidates.

Shapes: N images, M captions, U distinct captions, n images of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from prompts.prompted_clip import PromptedCLIP

TOP = (1, 5, 10)  # the K of recall at K
BLOCK = 2**24  # scores of a block
TEXT_NUMBERS = 2**26  # numbers of text features at once, where every image has its own: 256 MB
SHOWN = 5  # captions of a sample
Score = Callable[[int, int], Tensor]  # images start to end -> scores (n,U) with the distinct captions


@dataclass(frozen=True)
class Gallery:
    """The captions of N images."""

    texts: list[str]  # (U,) each distinct caption, encoded once: equal captions have equal scores
    which: Tensor  # (M,) which of them a caption is
    owner: Tensor  # (M,) the image that a caption belongs to, in ascending order

    @classmethod
    def of(cls, captions: Sequence[Sequence[str]]) -> Gallery:
        """The gallery of N images' captions."""
        every = [caption for of_image in captions for caption in of_image]
        number = {text: i for i, text in enumerate(dict.fromkeys(every))}
        owner = torch.arange(len(captions)).repeat_interleave(torch.tensor([len(of_image) for of_image in captions]))
        return cls(list(number), torch.tensor([number[caption] for caption in every]), owner)

    def to(self, device: torch.device) -> Gallery:
        """With its tensors on the device."""
        return Gallery(self.texts, self.which.to(device), self.owner.to(device))

    @property
    def images_at_once(self) -> int:
        """n, so that a block has at most `BLOCK` scores."""
        return max(1, BLOCK // len(self.owner))


@dataclass(frozen=True)
class Ranks:
    """The ranks, 1 or more, and which images have a score that is not finite."""

    images: np.ndarray  # (N,) of the first of an image's own captions
    captions: np.ndarray  # (M,) of a caption's image
    not_finite: np.ndarray  # (N,) bool


@torch.no_grad()
def exact_ranks(
    score: Score,
    images: int,
    gallery: Gallery,
    rows: int,
    share: tuple[int, int] = (0, 1),
    total: Callable[[Tensor], Tensor] = lambda tensor: tensor,
) -> Ranks:
    """The ranks of N images and M captions. Asks for every block of scores twice: the scores of captions with their own images
    must be known before others are compared with them.

    Args:
        score: of `rows` images at a time; a block has the same values each time.
        share: (rank, world): this process takes every world-th block.
        total: sums a tensor over the processes.
    """
    rank, world = share
    device, distinct = gallery.owner.device, len(gallery.texts) == len(gallery.owner)
    ends = torch.bincount(gallery.owner, minlength=images).cumsum(0).tolist()  # of each image's captions
    of_images, not_finite = torch.zeros(2, images, dtype=torch.long, device=device)
    of_captions = torch.zeros(len(gallery.owner), dtype=torch.long, device=device)
    own_scores = torch.zeros(len(gallery.owner), device=device)

    def blocks() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Indices of images (n,), their scores (n,M), and the captions of all of them (m,), which are neighbours."""
        for start in range(rank * rows, images, world * rows):
            end = min(start + rows, images)
            columns = torch.arange(ends[start - 1] if start else 0, ends[end - 1], device=device)
            scores = score(start, end)
            yield torch.arange(start, end, device=device), scores if distinct else scores[:, gallery.which], columns

    for index, scores_NM, columns in blocks():
        owner = gallery.owner[columns]
        own_scores[columns] = scores_NM[owner - index[0], columns]
        of_others = owner != index[:, None]
        best, first = scores_NM[:, columns].masked_fill(of_others, float("-inf")).max(1)
        of_images[index] = 1 + _before(scores_NM, best[:, None], first + columns[0], 1)
        not_finite[index] = (~(scores_NM.amax(1) - scores_NM.amin(1)).isfinite()).long()
    own_scores = total(own_scores)
    for index, scores_NM, columns in blocks():
        own_scores[columns] = scores_NM[gallery.owner[columns] - index[0], columns]
        of_captions += _before(scores_NM, own_scores, gallery.owner - index[0], 0)
    ranks, before, bad = (total(part).cpu().numpy() for part in (of_images, of_captions, not_finite))
    return Ranks(ranks, 1 + before, bad > 0)


def _before(scores: Tensor, own: Tensor, place: Tensor, dim: int) -> Tensor:
    """How many of the scores along `dim` stand before `own`, which is at `place` there or beyond: higher ones, and equal ones
    that are before it."""
    count, equal = _count(scores > own, dim), scores == own
    ties = _count(equal, dim) > (place < scores.shape[dim]).long()  # rare: `own`, where it is among them, is equal to itself
    if ties.any():
        some = equal[ties] if dim else equal[:, ties].T
        count[ties] += (some & (torch.arange(scores.shape[dim], device=scores.device) < place[ties][:, None])).sum(1)
    return count


def _count(mask: Tensor, dim: int) -> Tensor:
    """How often the mask is true; ten times as fast as the sum of booleans."""
    return mask.view(torch.uint8).sum(dim, dtype=torch.int32).long()


def summary(ranks: Ranks, images: np.ndarray | None = None, owner: np.ndarray | None = None) -> dict[str, Any]:
    """Recall at K in percent and median ranks, of image to text and text to image; the numbers of both.

    Args:
        images: (N,) bool, those that count, with `owner` (M,); None: all. Candidates are always all.
    """
    sides = {"image_to_text": ranks.images, "text_to_image": ranks.captions}
    if images is not None:
        sides = {"image_to_text": ranks.images[images], "text_to_image": ranks.captions[images[owner]]}
    numbers: dict[str, Any] = {}
    for name, values in sides.items():
        numbers |= {f"{name}_r{k}": float(100 * (values <= k).mean()) for k in TOP}
        numbers[f"{name}_median_rank"] = float(np.median(values))
    return numbers | {"images": len(sides["image_to_text"]), "captions": len(sides["text_to_image"])}


class ImageRows(Metric):
    """The features (N,d) of an evaluation's images, each from the rank that had it, and `seen` (N,), which images were
    encoded."""

    rows: Tensor
    seen: Tensor

    def __init__(self, images: int, width: int) -> None:
        super().__init__()
        self.add_state("rows", torch.zeros(images, width), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(images, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, index: Tensor, features: Tensor) -> None:
        """Stores a batch: index (B,), features (B,d). Over all ranks each image comes once."""
        self.rows[index], self.seen[index] = features.to(self.rows.dtype), 1

    def compute(self) -> tuple[Tensor, Tensor]:
        """(N,d), and (N,) bool."""
        return self.rows, self.seen > 0


class Scores:
    """The scores of an evaluation's images with the bound captions, in blocks, by the learner's own logits.

    Text that does not depend on the image is encoded once. Text that does is encoded for each image, which takes N times as
    long, and the scores are kept, N x U numbers, so that no block is computed twice.
    """

    def __init__(self, model: PromptedCLIP, images: Tensor) -> None:
        self.model, self.images = model, images
        self.by_image = model.text_depends_on() == "image"
        self.kept: dict[tuple[int, int], Tensor] = {}

    @property
    def images_at_once(self) -> int:
        """How many images may share a block."""
        by_image = max(1, TEXT_NUMBERS // (len(self.model.classnames) * self.images.shape[1]))
        return by_image if self.by_image else len(self.images)

    @torch.no_grad()
    def __call__(self, start: int, end: int) -> Tensor:
        """(n,U) float32"""
        if (start, end) in self.kept:
            return self.kept[start, end].to(self.images.device)
        part = self.images[start:end]
        logits = self.model.learner.logits(self.model.clip, part, self.model.text_features(part)).float()
        if self.by_image:
            self.kept[start, end] = logits.cpu()
        return logits

    def row(self, image: int, rows: int) -> Tensor:
        """(U,) the scores of one image, from the block of `rows` images that it was ranked in."""
        start = image - image % rows
        return self(start, min(start + rows, len(self.images)))[image - start].cpu()


def retrieved(gallery: Gallery, scores: Tensor, image: int) -> list[list[Any]]:
    """The first captions for an image, by its scores (U,): text, score, and whether it is the image's own."""
    scores = scores[gallery.which]
    first = torch.sort(scores, descending=True, stable=True).indices[:SHOWN].tolist()
    texts = [gallery.texts[gallery.which[i]] for i in first]
    return [[text, round(float(scores[i]), 4), int(gallery.owner[i]) == image] for text, i in zip(texts, first, strict=True)]
