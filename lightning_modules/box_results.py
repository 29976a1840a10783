"""What is found in images in the form of COCO's results, which its evaluation servers and pycocotools' `loadRes` read.

    [{"image_id": 397133, "category_id": 44, "category": "bottle", "bbox": [217.6, 240.5, 39.0, 57.8], "score": 0.87,
      "segmentation": {"size": [427, 640], "counts": "..."}}, ...]

A `bbox` is (left, top, width, height) in pixels of the image as opened; `counts` are COCO's compressed run lengths.
`category_id` and `segmentation` stand where they are known, `category` is the name of the class.

Shapes: n boxes found in an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_modules.box_metrics import entries_of


def result_rows(
    image_id: int | str | None,
    entry: Mapping[str, Any],
    classnames: Sequence[str],
    category_ids: Sequence[int | str] | None = None,
) -> list[dict[str, Any]]:
    """The rows of one image, in the order in which they were found.

    Args:
        entry: what `lightning_modules.box_metrics.entries_of` keeps of the image.
        classnames, category_ids: by the label of a box; without ids, and without the image's, the rows have none.
    """
    boxes, labels, scores = (entry[f"detection_{key}"].tolist() for key in ("box", "labels", "scores"))
    codes = entry.get("detection_mask", [None] * len(labels))
    rows = []
    for box, label, score, code in zip(boxes, labels, scores, codes, strict=True):
        row: dict[str, Any] = {} if image_id is None else {"image_id": image_id}
        if category_ids is not None:
            row["category_id"] = category_ids[label]
        row |= {"category": classnames[label], "bbox": box, "score": score}
        if code is not None:
            (height, width), counts = code
            row["segmentation"] = {"size": [height, width], "counts": counts.decode("ascii")}
        rows.append(row)
    return rows


def rows_found(
    image_id: int | str | None,
    found: Mapping[str, Tensor],
    classnames: Sequence[str],
    category_ids: Sequence[int | str] | None = None,
) -> list[dict[str, Any]]:
    """`result_rows` of an image without known objects: `found` as `entries_of` takes it, with masks where it has some."""
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    if masks := "masks" in found:
        nothing["masks"] = found["masks"][:0]
    return result_rows(image_id, entries_of(found, nothing, masks), classnames, category_ids)
