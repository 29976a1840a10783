"""Arguments, checks, keys, masks and the loss of methods that score the regions of images.

Shapes: B images with one expression each, N_i proposals of image i.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prompts.engine.clip import FrozenCLIP


@dataclass(frozen=True)
class Regions:
    """Expressions, each with an image and its proposals.

    Args:
        images: (3,H,W) uint8 of each expression.
        boxes: (N_i,4) float32 of its proposals, in pixels of the image, with exclusive far edges.
        texts: the expressions.
        masks: (N_i,H,W) bool of its proposals, or None where no marker draws them.
        keys: one that identifies each image, or None: no encoded copy is kept. A single key may be None too.
    """

    images: Sequence[Tensor]
    boxes: Sequence[Tensor]
    texts: Sequence[str]
    masks: Sequence[Tensor | None]
    keys: Sequence[Hashable | None] | None

    def copies(self, device: torch.device, i: int, part: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        """Image i on a device, with the boxes and masks of some of its proposals, for a marker to draw."""
        masks = self.masks[i]
        return self.images[i].to(device), self.boxes[i][part], None if masks is None else masks[part]

    def copy_keys(self, what: Hashable) -> list[Hashable | None]:
        """For each image a key of its marked copies: `what` (the drawing), its key and its boxes. None without a key."""
        keys = self.keys or [None] * len(self.boxes)
        each = zip(keys, self.boxes, strict=True)
        return [None if key is None else (what, key, boxes.numpy(force=True).tobytes()) for key, boxes in each]


class RegionScorer:
    """A method that scores the proposals of images. A subclass computes them: `scores_of`."""

    offers: Sequence[str] = ("scores of regions",)
    needs_masks = False  # True: the method draws the masks of the proposals

    def region_scores(
        self,
        clip: FrozenCLIP,
        images: Sequence[Tensor],
        boxes: Sequence[Tensor],
        texts: Sequence[str],
        masks: Sequence[Tensor | None] | None = None,
        keys: Sequence[Hashable | None] | None = None,
    ) -> list[Tensor]:
        """The scores of the proposals of each expression.

        Args:
            images, boxes, texts, masks: of each expression, as in `Regions`.
            keys: one that identifies each image, None for one of which nothing is kept; copies of an image whose key came
                before are not encoded again.

        Returns:
            (N_i,) float32 for each expression.

        Raises:
            ValueError: the numbers of images, boxes, texts, masks or keys differ; an image has no proposal; a mask that a
                marker draws is missing.
        """
        check_regions(images, boxes, texts, masks, keys)
        boxes = [torch.as_tensor(of_image, dtype=torch.float32) for of_image in boxes]
        masks = masks_of(images, boxes, masks) if self.needs_masks else [None] * len(images)
        return self.scores_of(clip, Regions(images, boxes, texts, masks, keys))

    def scores_of(self, clip: FrozenCLIP, regions: Regions) -> list[Tensor]:
        """The scores (N_i,) float32 of the proposals of each expression."""
        raise NotImplementedError


def check_regions(images: Sequence[Tensor], boxes: Sequence[Tensor], texts: Sequence[str], *more: Sequence[Any] | None) -> None:
    """ValueError where there are not as many of each as there are images, or an image has no proposal."""
    counts = [len(images), len(boxes), len(texts), *(len(part) for part in more if part is not None)]
    if len(set(counts)) > 1:
        raise ValueError(f"{counts} images, lists of boxes, expressions and so on: give one of each for every image.")
    if empty := [i for i, of_image in enumerate(boxes) if not len(of_image)]:
        raise ValueError(
            f"the expression {texts[empty[0]]!r} has no proposals to choose among: give its image a box, such as all of it."
        )


def masks_of(images: Sequence[Tensor], boxes: Sequence[Tensor], masks: Sequence[Tensor | None] | None) -> list[Tensor | None]:
    """For each image the masks of its proposals. A single box that is the whole image has the whole image as its mask.
    ValueError where others have none."""
    found: list[Tensor | None] = [None] * len(images) if masks is None else list(masks)
    for i, (image, of_image) in enumerate(zip(images, boxes, strict=True)):
        if found[i] is None:
            height, width = image.shape[-2:]
            if of_image.tolist() != [[0.0, 0.0, float(width), float(height)]]:
                raise ValueError("the marker fill_mask draws the masks of proposals, and these have none: choose fill_box.")
            found[i] = torch.ones(1, height, width, dtype=torch.bool)
    return found


def region_losses(scores: Sequence[Tensor], targets: Sequence[int], none: Tensor | None = None) -> dict[str, Tensor]:
    """The cross-entropy of each expression's proposals.

    Args:
        scores: (N_i,) of each expression.
        targets: which proposal is meant, or -1: none of them.
        none: a scalar: "none of them" is scored by the mean of the proposals' scores plus this. Without it the loss of -1 is 0.

    Returns:
        {"ce": (B,)} nats
    """
    losses = []
    for of_image, target in zip(scores, targets, strict=True):
        if none is not None:
            of_image = torch.cat([of_image, (of_image.mean() + none)[None]])
        logs = of_image.log_softmax(0)
        losses.append(of_image.sum() * 0 if target < 0 and none is None else -logs[target])
    return {"ce": torch.stack(losses)}
