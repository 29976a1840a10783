"""Checks, keys, masks and the loss of methods that score the regions of images.

Shapes: B images with one expression each, N_i proposals of image i.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor


def check_regions(images: Sequence[Tensor], boxes: Sequence[Tensor], texts: Sequence[str], *more: Sequence[Any] | None) -> None:
    """ValueError where there are not as many of each as there are images, or an image has no proposal."""
    counts = [len(images), len(boxes), len(texts), *(len(part) for part in more if part is not None)]
    if len(set(counts)) > 1:
        raise ValueError(f"{counts} images, lists of boxes, expressions and so on: give one of each for every image.")
    if empty := [i for i, of_image in enumerate(boxes) if not len(of_image)]:
        raise ValueError(
            f"the expression {texts[empty[0]]!r} has no proposals to choose among: give its image a box, such as all of it."
        )


def masks_of(
    needed: bool, images: Sequence[Tensor], boxes: Sequence[Tensor], masks: Sequence[Tensor | None] | None
) -> list[Tensor | None]:
    """For each image the masks of its proposals, or None where no marker draws them. A single box that is the whole image has
    the whole image as its mask. ValueError where others have none."""
    if not needed:
        return [None] * len(images)
    found: list[Tensor | None] = [None] * len(images) if masks is None else list(masks)
    for i, (image, of_image) in enumerate(zip(images, boxes, strict=True)):
        if found[i] is None:
            height, width = image.shape[-2:]
            if of_image.tolist() != [[0.0, 0.0, float(width), float(height)]]:
                raise ValueError("the marker fill_mask draws the masks of proposals, and these have none: choose fill_box.")
            found[i] = torch.ones(1, height, width, dtype=torch.bool)
    return found


def region_keys(keys: Sequence[Hashable] | None, boxes: Sequence[Tensor], what: Hashable) -> list[Hashable | None]:
    """For each image a key of its marked copies: the image's own key, its boxes and what is drawn; None without keys."""
    if keys is None:
        return [None] * len(boxes)
    return [(what, key, of_image.numpy(force=True).tobytes()) for key, of_image in zip(keys, boxes, strict=True)]


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
