"""A finished run of detection as a finder of boxes in any images, in Python:

    from tools.box_finder import load
    finder = load("outputs/pixels/coco_boxes/rn50/denseclip_maskrcnn/shots-1-1a2b3c4d/seed1")
    finder.found(PIL.Image.open("street.jpg"))     # [{"category": "car", "bbox": [...], "score": 0.9, ...}, ...]

Shapes: K classes, n boxes found in an image, (H,W) an image as it is opened, (h,w) as the run sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from datamodules.box_transforms import Boxed, BoxTransform
from datamodules.coco_results import result_rows
from lightning_modules.assembly import Assembly
from lightning_modules.box_metrics import entries_of
from lightning_modules.detection import as_opened
from runs.stored import CATEGORY_IDS
from tools.classifier import device_for, opened


class BoxFinder:
    """A CLIP with a learner of boxes, in eval mode and without gradients. An image is seen as in the run's own test.

    Args:
        parts: of the run.
        device: where it runs; None: the GPU where there is one.

    Raises:
        ValueError: the method finds no boxes.
    """

    def __init__(self, parts: Assembly, device: str | torch.device | None = None) -> None:
        if "boxes" not in parts.learner.offers:
            raise ValueError(f"{type(parts.learner).__name__} finds no boxes: name a run of another method.")
        self.device = device_for(device)
        self.model = parts.model.eval().requires_grad_(False).to(self.device)
        data: Any = OmegaConf.to_container(parts.cfg.data, resolve=True)
        mode = parts.clip.image_spec.get("interpolation", "bilinear")
        self.transform = BoxTransform(data["shorter"], data["longer"], 0.0, mode)
        self.category_ids: list[int | str] | None = parts.saved.about.get(CATEGORY_IDS) if parts.saved else None

    @property
    def classnames(self) -> list[str]:
        """The classes by label: those of the training."""
        return list(self.model.classnames)

    def pixels(self, image: PIL.Image.Image) -> Tensor:
        """The image (3,h,w) uint8 as it is seen."""
        whole = pil_to_tensor(image if image.mode == "RGB" else image.convert("RGB"))
        return self.transform(Boxed(whole, torch.zeros(0, 4)), 0).image

    def found(self, image: PIL.Image.Image, image_id: int | str | None = None) -> list[dict[str, Any]]:
        """What is found in an image, as `found_in` gives it."""
        return self.found_in(self.pixels(image), (image.height, image.width), image_id)

    @torch.no_grad()
    def found_in(self, pixels: Tensor, size: Sequence[int] | Tensor, image_id: int | str | None = None) -> list[dict[str, Any]]:
        """What is found, by falling score, in an image (3,h,w) uint8 of its own size (H,W): rows of COCO's results
        (`datamodules.coco_results`), with the masks of a method that finds some.

        Raises:
            ValueError: what is computed of the image is not finite.
        """
        seen = torch.tensor([pixels.shape[-2:]])
        learner: Any = self.model.learner
        [found] = learner.detect(self.model.clip, pixels[None].to(self.device), seen)
        if not found.finite:
            raise ValueError(f"what is computed of the image {image_id or ''} is not finite (NaN or infinite).")
        masks = found.masks is not None
        boxes = as_opened(found, seen[0], [int(side) for side in size], masks)
        nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}  # is known of the image
        if masks:
            nothing["masks"] = boxes["masks"][:0]
        return result_rows(image_id, entries_of(boxes, nothing, masks), self.classnames, self.category_ids)


def load(
    run: str | Path,
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
    device: str | torch.device | None = None,
) -> BoxFinder:
    """The finder of a finished run, as `tools.classifier.opened` takes and refuses it."""
    return BoxFinder(opened(run, overrides, config_dir), device)
