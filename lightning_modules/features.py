"""Fitting of learners that have no gradients: on the frozen features of the training and validation images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from prompts.learner import PromptedCLIP, PromptLearner


@torch.no_grad()
def encode(model: PromptedCLIP, batches: Iterable[dict[str, Tensor]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Features (N,d) float32 and labels (N,) of all images that can be read, on the CPU."""
    features, labels = [torch.empty(0, model.clip.embed_dim)], [torch.empty(0, dtype=torch.long)]
    for batch in batches:
        readable = batch["weight"] > 0
        features.append(model.clip.encode_image(batch["image"][readable].to(device)).float().cpu())
        labels.append(batch["label"][readable])
    return torch.cat(features), torch.cat(labels)


def fit_on_features(model: PromptedCLIP, data: Any, trainer: Trainer, seed: int) -> None:
    """Every rank does the whole of it: the images are few and ranks then agree without talking."""
    if type(model.learner).fit is PromptLearner.fit:
        return
    device = trainer.strategy.root_device
    model.to(device)
    train, val = (encode(model, data.eval_loader(split, data.subset), device) for split in ("train", "val"))
    model.learner.fit(model, train, val, seed)
