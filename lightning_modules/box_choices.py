"""Scores the choice of a proposal for each expression: overlaps, metrics of an evaluation, output records and pictures.

An item is a `datamodules.grounding_items.Expression`. Boxes are those of `datamodules.boxes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
from torch import Tensor

from datamodules.boxes import ious
from datamodules.known_features import IMAGE

HIT = 0.5  # a box is right if its IoU with the gold box is greater than this
NO_TARGET = -1  # target of an expression for which no proposal is right: it has no loss
GOLD, RIGHT, WRONG = (0, 170, 0), (30, 90, 255), (230, 0, 40)  # colours of the boxes in a picture


def target_of(item: Any) -> int:
    """The proposal that overlaps the gold box most, the first of equal ones, if by more than `HIT`; else `NO_TARGET`."""
    found = ious(item.proposals, item.gold)
    return int(found.argmax()) if found.max() > HIT else NO_TARGET


def measured(items: Sequence[Any], chosen: Sequence[int]) -> dict[str, Any]:
    """The metrics of an evaluation.

    Args:
        chosen: for each expression the index of its chosen proposal.

    Returns:
        In percent: `accuracy`; `chance`, the expected accuracy of a random choice, which is the mean share of right proposals
        (1/N if one of N is right); `upper_bound`, the share of expressions with a right proposal. Also `proposals`, the mean
        number of proposals; `mean_iou` of the chosen boxes, from 0 to 1; `expressions`, their number.
    """
    found = [ious(item.proposals, item.gold) for item in items]
    right = np.array([overlaps[number] > HIT for overlaps, number in zip(found, chosen, strict=True)])
    return {
        "accuracy": _percent(right),
        "chance": _percent([np.mean(overlaps > HIT) for overlaps in found]),
        "upper_bound": _percent([overlaps.max() > HIT for overlaps in found]),
        "proposals": float(np.mean([len(overlaps) for overlaps in found])),
        "mean_iou": float(np.mean([overlaps[number] for overlaps, number in zip(found, chosen, strict=True)])),
        "expressions": len(items),
    }


def _percent(shares: Any) -> float:
    return 100 * float(np.mean(shares))


def line_of(item: Any, number: int, score: float) -> dict[str, Any]:
    """The entry of an expression in the file of chosen boxes."""
    return {
        "expression_id": item.expression_id,
        "image_id": item.image_id,
        "proposal": number,
        "box": list(item.proposals[number]),
        "score": score,
        "iou": float(ious([item.proposals[number]], item.gold)[0]),
    }


def sample_of(item: Any, line: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of an expression and its chosen box in samples.json."""
    return {
        "expression": item.text,
        "iou": line["iou"],
        "score": line["score"],
        "proposals": len(item.proposals),
        "box": line["box"],
        "gold": list(item.gold),
    }


def paint(image: PIL.Image.Image, sample: Mapping[str, Any], scale: float) -> PIL.Image.Image:
    """The picture with the gold box in green and the chosen one in blue where it is right, in red where it is not. The chosen
    one is drawn inside, so that both are seen where they are equal.

    Args:
        image: RGB, `scale` times the size of the image that the boxes belong to.
    """
    image = image.copy()
    draw = PIL.ImageDraw.Draw(image)
    chosen = RIGHT if sample["iou"] > HIT else WRONG
    for box, colour, inset in ((sample["gold"], GOLD, 0), (sample["box"], chosen, 2)):
        x1, y1, x2, y2 = (scale * side for side in box)
        x1, y1 = x1 + inset, y1 + inset
        x2, y2 = max(x2 - 1 - inset, x1), max(y2 - 1 - inset, y1)  # x2 and y2 are the first outside, and PIL's the last inside
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=2)
    return image


def images_of(batch: Mapping[str, Tensor]) -> list[Tensor]:
    """The images (3,H,W) uint8 of a batch, without the padding below and right of them."""
    return [image[:, :h, :w] for image, (h, w) in zip(batch[IMAGE], batch["size"].tolist(), strict=True)]
