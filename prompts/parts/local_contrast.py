"""Learning from a few of many classes: POMP's local contrast and local correction (Ren et al., NeurIPS 2023, section 3).

Shapes: B images, N training classes, K classes in use, G groups of images, M sampled classes of a group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.learner import ClassSample
from prompts.parts.settings import Settings


@dataclass(frozen=True)
class LocalContrast(Settings):
    """Which classes an image is classified against in a training step, and how their logits make up for those left out.

    Args:
        num_sampled_classes: classes per image, its own and the sampled ones; None (or N or more): all, without sampling.
        local_correction: whether a sampled class's logit gains log((N-1)/M).
        log_base: of that logarithm. POMP's repository has had 10 and e; with "e" exp(sampled logits) sums to the sum over
            all others in expectation.
        negative_groups: sets of sampled classes per step. 1: the whole batch shares one; 8: as on the release's eight GPUs,
            each with its own.

    Raises:
        ValueError: a value out of range.
    """

    node = "local_contrast"

    num_sampled_classes: int | None = None
    local_correction: bool = True
    log_base: Literal[10, "e"] = 10
    negative_groups: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_sampled_classes is not None and self.num_sampled_classes < 2:
            raise ValueError(
                f"method.{self.node}.num_sampled_classes={self.num_sampled_classes} leaves no class to classify against: "
                "choose 2 or more, or null."
            )
        if self.negative_groups < 1:
            raise ValueError(f"method.{self.node}.negative_groups={self.negative_groups}: choose 1 or more.")

    def sample(self, labels: Tensor, batch_index: Tensor, total: int, seed: int) -> ClassSample | None:
        """The step's classes out of `total`, a function of (seed, group) whatever the rank; None: all of them.

        Labels (B,); an image's group is its position in the global batch, `batch_index` (B,), modulo the number of groups.
        """
        if self.num_sampled_classes is None or self.num_sampled_classes >= total:
            return None
        groups, group = (batch_index % self.negative_groups).unique(return_inverse=True)
        sampled = torch.stack([draw(total, self.num_sampled_classes - 1, seed, number) for number in groups.tolist()])
        return class_sample(labels, sampled, group)

    def corrected(self, logits: Tensor, sample: ClassSample | None, total: int) -> Tensor:
        """Logits (B,K) with the local correction; -inf where an image is not classified against a class."""
        if sample is None:
            return logits
        if self.local_correction:
            logits = logits + self.shift(sample, total)
        return logits.masked_fill(~sample.allowed, float("-inf"))

    def shift(self, sample: ClassSample, total: int) -> Tensor:
        """(B,K): log((N-1)/M) at sampled classes, M of which differ from the image's own; 0 at its own."""
        others = (sample.allowed.sum(1) - 1).clamp_min(1)
        margin = ((total - 1) / others).log() / (1.0 if self.log_base == "e" else math.log(10))
        return margin[:, None].expand(sample.allowed.shape).scatter(1, sample.targets[:, None], 0.0)


def draw(total: int, count: int, seed: int, group: int) -> Tensor:
    """(count,) distinct ids out of `total`, all equally likely."""
    return torch.from_numpy(np.random.default_rng([seed, group]).choice(total, count, replace=False))


def class_sample(labels: Tensor, sampled: Tensor, group: Tensor) -> ClassSample:
    """Labels (B,), distinct ids `sampled` (G,M), the row of it that each image uses (B,), on the CPU -> the classes in use.

    A sampled class that is an image's own is its positive and not a negative, so that image has one negative fewer.
    Classes that occur more than once are encoded once.
    """
    ids = torch.cat([labels, sampled.flatten()]).unique()
    targets = torch.searchsorted(ids, labels)
    of_group = torch.zeros(len(sampled), len(ids), dtype=torch.bool).scatter_(1, torch.searchsorted(ids, sampled), True)
    return ClassSample(ids, of_group[group].scatter(1, targets[:, None], True), targets)


def cross_entropy(logits: Tensor, sample: ClassSample | None, labels: Tensor) -> Tensor:
    """(B,) cross-entropy of logits (B,K) with the images' own classes: `labels` (B,), or their columns in `sample`."""
    return F.cross_entropy(logits, labels if sample is None else sample.targets, reduction="none")
