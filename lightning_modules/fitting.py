"""Training, by gradients or on the frozen features of the training and validation images."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from datamodules.known_features import FEATURES, IMAGE
from lightning_modules.assembly import Assembly
from lightning_modules.features import ONLINE, ImageFeatures
from lightning_modules.run_folder import RunFolder
from prompts.learner import GradientFree
from prompts.prompted_clip import PromptedCLIP


@torch.no_grad()
def encode(model: PromptedCLIP, batches: Iterable[dict[str, Tensor]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Image features (N,d) float32 and labels (N,) of all images that can be read, on the CPU. ValueError where a feature is
    not finite.

    Args:
        batches: with pixels, or with features that are known.
    """
    features, labels = [torch.empty(0, model.clip.embed_dim)], [torch.empty(0, dtype=torch.long)]
    for batch in batches:
        readable = batch["weight"] > 0
        known = batch.get(FEATURES)
        encoded = model.clip.encode_image(batch[IMAGE][readable].to(device)) if known is None else known[readable]
        features.append(encoded.float().cpu())
        labels.append(batch["label"][readable])
    all_features = torch.cat(features)
    if not all_features.isfinite().all():
        raise ValueError("the frozen CLIP gives image features that are not finite (NaN or infinite): check clip.weights.")
    return all_features, torch.cat(labels)


def fit(run: Assembly, trainer: Trainer, folder: RunFolder) -> None:
    """Trains the run's learner: by gradients, resuming an interrupted run if there is one, or on frozen features. Does nothing
    with fit=false."""
    if not run.cfg.fit:
        return
    if run.learner.uses_gradients:
        trainer.fit(run.module, ckpt_path=folder.checkpoint(run.module, trainer), weights_only=True)
    else:
        run.model.to(trainer.strategy.root_device)
        run.module.prepare_learner()
        fit_on_features(run.model, run.data, trainer, run.cfg.seed, run.features)


def fit_on_features(model: PromptedCLIP, data: Any, trainer: Trainer, seed: int, stored: ImageFeatures = ONLINE) -> None:
    """Fits a learner without gradients on frozen features. Every rank does the whole computation: the images are few, and all
    ranks get the same tensors without communication.

    Raises:
        ValueError: the learner has trainable tensors and nothing to fit them with, or chooses and there are no validation
            images; features or fitted tensors are not finite.
    """
    if not isinstance(model.learner, GradientFree) or type(model.learner).fit is GradientFree.fit:
        if left := ", ".join(name for name, p in model.learner.named_parameters() if p.requires_grad):
            raise ValueError(
                f"{type(model.learner).__name__} would never train {left}: it has uses_gradients=False and no fit of its own; "
                "set uses_gradients=True, or their requires_grad to False."
            )
        return
    if model.learner.chooses:
        data.evaluation("val", "val", data.subset)
    device = trainer.strategy.root_device
    model.to(device)
    loaders = {split: data.eval_loader(split, data.subset) for split in ("train", "val")}
    if model.images_are_frozen:
        loaders = {split: stored.evaluation(loader, model.clip, nullcontext, split) for split, loader in loaders.items()}
    train, val = (encode(model, loader, device) for loader in loaders.values())
    model.learner.fit(model, train, val, seed)
    model.check_finite()
