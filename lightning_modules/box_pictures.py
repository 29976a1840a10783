"""Pictures of an image with its objects' boxes, and with the boxes that were found, for the report."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw

SIDE = 128  # pixels of a picture's longer side
SURE = 0.5  # boxes of this score or more are drawn
MOST = 20  # boxes that are listed beside a picture


def colour_of(label: int) -> str:
    """The colour of a class: hues far apart for labels that follow each other."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.9, 0.9)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def boxes_on(image: Image.Image, entry: Mapping[str, Any], classnames: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """{"truth": picture, "objects": [[class, colour], ...]} and {"prediction": picture, "found": [[class, score, colour], ...]}
    of an image, from the metric's entries, boxes as (left, top, width, height) in its pixels; scores in percent."""
    scores, labels = entry["detection_scores"].tolist(), entry["detection_labels"].tolist()
    boxes = entry["detection_box"].reshape(-1, 4).tolist()
    sure = [(box, label, score) for box, label, score in zip(boxes, labels, scores, strict=True) if score >= SURE][:MOST]
    crowds = entry["groundtruth_crowds"].tolist()
    objects = zip(entry["groundtruth_box"].reshape(-1, 4).tolist(), entry["groundtruth_labels"].tolist(), crowds, strict=True)
    real = [(box, label) for box, label, crowd in objects if not crowd][:MOST]
    truth = {
        "truth": drawn(image, [(box, label) for box, label in real]),
        "objects": [[classnames[label], colour_of(label)] for _, label in real],
    }
    found = {
        "prediction": drawn(image, [(box, label) for box, label, _ in sure]),
        "found": [[classnames[label], 100 * score, colour_of(label)] for _, label, score in sure],
    }
    return truth, found


def drawn(image: Image.Image, boxes: Sequence[tuple[Sequence[float], int]]) -> Image.Image:
    """A picture of `SIDE` px with boxes (left, top, width, height) of the image's pixels, in the colours of their classes."""
    scale = SIDE / max(image.size)
    size = tuple(max(round(side * scale), 1) for side in image.size)
    picture = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)  # type: ignore[arg-type]
    pen = ImageDraw.Draw(picture)
    for (left, top, width, height), label in boxes:
        corners = (
            left * scale,
            top * scale,
            max((left + width) * scale - 1, left * scale),
            max((top + height) * scale - 1, top * scale),
        )
        pen.rectangle(corners, outline=colour_of(label), width=2)
    return picture
