"""A finished run of segmentation as a segmenter of any images, in Python:

    from tools.segmenter import load
    segmenter = load("outputs/pixels/ade20k/rn50/denseclip/shots-1-1a2b3c4d/seed1")
    ids = segmenter.classes(PIL.Image.open("street.jpg"))     # (H,W) uint8, of segmenter.classnames

Shapes: K classes, (H,W) an image as it is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from omegaconf import OmegaConf
from torch import Tensor

from datamodules.joint_transforms import FitScale
from lightning_modules.assembly import Assembly
from lightning_modules.sliding_window import TestMode
from tools.classifier import SEEN, device_for, opened


class Segmenter:
    """A CLIP with a segmentation learner, in eval mode and without gradients. Images are transformed as in the run's own test.

    Args:
        parts: of the run.
        device: where it runs; None: the GPU where there is one.

    Raises:
        ValueError: the method gives no pixel logits.
    """

    def __init__(self, parts: Assembly, device: str | torch.device | None = None) -> None:
        if "pixel logits" not in parts.learner.offers:
            raise ValueError(f"{type(parts.learner).__name__} gives no pixel logits: name a run of another method.")
        self.device = device_for(device)
        self.model = parts.model.eval().requires_grad_(False).to(self.device)
        config: Any = OmegaConf.to_container(parts.cfg, resolve=True)
        module = config["task"]["module"]
        self.mode = TestMode(**{key: module[key] for key in SEEN if key in module})
        self.transform = FitScale(config["data"].get("scale"))

    @property
    def classnames(self) -> list[str]:
        """The classes by id: at first those of the training."""
        return list(self.model.classnames)

    def pixels(self, image: PIL.Image.Image) -> Tensor:
        """The transformed image (3,h,w) uint8."""
        return self.transform(image.convert("RGB"))

    def classes(self, image: PIL.Image.Image) -> np.ndarray:
        """The class id (H,W) uint8 of every pixel of an image."""
        return self.classes_of(self.pixels(image), (image.height, image.width))

    @torch.no_grad()
    def classes_of(self, pixels: Tensor, size: Sequence[int] | Tensor) -> np.ndarray:
        """The class id (H,W) uint8 of every pixel, of an image (3,h,w) uint8 and its own size (H,W)."""

        learner: Any = self.model.learner

        def segment(part: Tensor) -> Tensor:
            return learner.segment(self.model.clip, part).logits

        found = self.mode.classes(segment, pixels[None].to(self.device), (int(size[0]), int(size[1])), lambda logits: None)
        return found[0].cpu().numpy()


def load(
    run: str | Path,
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
    device: str | torch.device | None = None,
) -> Segmenter:
    """The segmenter of a finished run, as `tools.classifier.opened` takes and refuses it."""
    return Segmenter(opened(run, overrides, config_dir), device)
