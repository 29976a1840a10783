"""The learning rate of each epoch, as the published trainers set it (CoOp's recipe, on Dassl)."""

from __future__ import annotations

import math


def cosine_after_warmup(epoch: int, epochs: int, lr: float, warmup_epochs: int = 1, warmup_lr: float = 1e-5) -> float:
    """The rate of an epoch (0-based): constant in the warm-up, then a cosine over all `epochs` that starts after the
    warm-up and so never reaches 0."""
    if epoch < warmup_epochs:
        return warmup_lr
    return 0.5 * lr * (1 + math.cos(math.pi * (epoch - warmup_epochs) / epochs))
