"""COCO's files of objects: `instances_train2017.json`, `instances_val2017.json`, and other files of that form.

    {"images": [{"id": 397133, "file_name": "000000397133.jpg", "height": 427, "width": 640, ...}, ...],
     "annotations": [{"id": 82445, "image_id": 397133, "category_id": 44, "bbox": [217.62, 240.54, 38.99, 57.75], "iscrowd": 0,
                      "area": 1481.38, "segmentation": [[224.24, 297.18, 228.29, 297.18, ...]]}, ...],
     "categories": [{"id": 1, "name": "person", "supercategory": "person"}, ...]}

A `bbox` is (left, top, width, height) in pixels; a box here is (x1, y1, x2, y2) with x2 - x1 the width. A `segmentation` is a
list of polygons [x1, y1, x2, y2, ...] that together are the mask, or a run-length code of its columns: `{"size": [height,
width], "counts": [6, 1, 40, ...]}`, pixels outside and inside in turns, or `counts` as COCO's compressed text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_masks

from datamodules.annotation_files import by_id, id_of, records
from datamodules.detected_items import Box, Region
from datamodules.disk import require
from files.untrusted import read_json, shown, text_of

# instances_train2017.json has 450 MB, about 60 million values. A value takes up to 40 bytes while it is read: most are numbers.
MAX_BYTES, MAX_VALUES = 768 * 2**20, 120_000_000
MAX_SIDE = 100_000  # pixels of an image's side
MAX_PIXELS = 2**28  # of an image, whose masks are drawn
MAX_POINTS = 100_000  # numbers of all polygons of one object; COCO has up to 6,000
MAX_CLASSES = 100_000


class Annotation(NamedTuple):
    """An object as the file has it, checked."""

    annotation_id: int | str
    category_id: int | str
    box: Box
    area: float  # px^2 of its mask
    crowd: bool  # it stands for several objects that nobody separated
    region: Region | None  # its mask


class AnnotatedImage(NamedTuple):
    """An image of the file and its objects."""

    image_id: int | str
    row: Mapping[str, Any]  # its entry, whose other values are not checked
    height: int
    width: int
    annotations: list[Annotation]


def read_instances(path: Path, masks: bool = True) -> tuple[list[AnnotatedImage], dict[int | str, str]]:
    """The images of such a file with their objects, in its order, and {category id: name} in the order of the ids.

    Args:
        masks: the masks are read too.

    Raises:
        ValueError: the file is another one; an id stands there twice; an object is of no image or category; a number is none.
    """
    what, where = "the file of objects", str(path)
    content = read_json(require(path, what), what, MAX_BYTES, MAX_VALUES)
    if not isinstance(content, dict):
        raise ValueError(f"{what} {path} holds a {type(content).__name__}, not an object with lists: download it again.")
    names = _categories(content, where)
    images: dict[int | str, AnnotatedImage] = {}
    for image_id, row in by_id(records(content, "images", where), "id", f"{where}: images").items():
        height, width = (_side(row.get(key), f"{where}: image {image_id}: {key}") for key in ("height", "width"))
        images[image_id] = AnnotatedImage(image_id, row, height, width, [])
        if images[image_id].height * images[image_id].width > MAX_PIXELS:
            raise ValueError(f"{where}: image {image_id} has more than {MAX_PIXELS:,} pixels, which no such image has.")
    for number, row in by_id(records(content, "annotations", where), "id", f"{where}: annotations").items():
        what = f"{where}: annotation {number}"
        image = images.get(id_of(row.get("image_id"), f"{what}: image_id"))
        if image is None:
            raise ValueError(f"{what} is of image {shown(row['image_id'])}, which is not in its list of images.")
        category = id_of(row.get("category_id"), f"{what}: category_id")
        if category not in names:
            raise ValueError(f"{what} is of category {category}, which is not in its list of categories.")
        image.annotations.append(_annotation(number, category, row, image, masks, what))
    return list(images.values()), names


def mask_of(annotation: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    """The mask (H,W) bool of an entry of `annotations`, drawn as COCO does; without a `segmentation` it is empty.

    Raises:
        ValueError: the segmentation is none, or of an image of another size.
    """
    region = region_of(annotation.get("segmentation"), f"annotation {shown(annotation.get('id'))}", height, width)
    return drawn(region, height, width)


def drawn(region: Region | None, height: int, width: int) -> np.ndarray:
    """The mask (H,W) bool of a region; of None it is empty."""
    if region is None:
        return np.zeros((height, width), bool)
    if region.kind == "rle":
        runs: Any = np.frombuffer(region.parts[0], "<u4")
    else:
        polygons = [np.frombuffer(part, "<f8").tolist() for part in region.parts]
        code = coco_masks.merge(coco_masks.frPyObjects(polygons, height, width))
        runs = _decompressed(code["counts"].decode(), "a polygon")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape((width, height)).T


def region_of(value: Any, what: str, height: int, width: int) -> Region | None:
    """A `segmentation` of an image of that size, packed; None where there is none (absent, or an empty list).

    Polygons may leave the image by as much as its sides. ValueError that begins with `what`.
    """
    if value is None or value == []:
        return None
    if isinstance(value, dict):
        return Region("rle", (_runs(value, what, height, width).tobytes(),))
    if not isinstance(value, list) or not all(isinstance(part, list) for part in value):
        raise ValueError(f"{what}: segmentation is {shown(value)}: it is a list of polygons, or a run-length code.")
    if sum(map(len, value)) > MAX_POINTS:
        raise ValueError(f"{what}: segmentation has more than {MAX_POINTS:,} numbers, which no such object has.")
    parts = []
    for polygon in value:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"{what}: segmentation has a polygon of {len(polygon)} numbers: it takes x and y of 3 points.")
        points = [_number(number, f"{what}: segmentation") for number in polygon]
        if not all(-side <= n <= 2 * side for axis, side in ((0, width), (1, height)) for n in points[axis::2]):
            raise ValueError(f"{what}: segmentation lies far outside the image of {width} x {height} pixels.")
        parts.append(np.array(points, "<f8").tobytes())
    return Region("polygons", tuple(parts))


def _runs(value: Mapping[str, Any], what: str, height: int, width: int) -> np.ndarray:
    """The run lengths of a code, uint32, which add up to all pixels."""
    if value.get("size") != [height, width]:
        raise ValueError(f"{what}: segmentation is a code for another size than the image's {width} x {height} pixels.")
    counts = value.get("counts")
    if isinstance(counts, str) and len(counts) <= MAX_POINTS * 7:
        counts = _decompressed(counts, what)
    if not isinstance(counts, list) or not all(type(n) is int and 0 <= n <= MAX_PIXELS for n in counts):
        raise ValueError(
            f"{what}: segmentation has no counts: they are a list of numbers of pixels, or COCO's compressed text."
        )
    if sum(counts) != height * width:
        raise ValueError(f"{what}: the counts of its segmentation add up to {sum(counts):,} pixels, not to {height * width:,}.")
    return np.array(counts, "<u4")


def _decompressed(text: str, what: str) -> list[int]:
    """COCO's compressed counts: numbers of six-bit digits, the lowest five bits first, the sixth if more follow; from the
    fourth number on differences to the last but one."""
    counts, number, shift = [], 0, 0
    for letter in text:
        digit = ord(letter) - 48
        if not 0 <= digit < 64 or shift > 30:
            raise ValueError(f"{what}: the compressed counts of its segmentation are damaged: download the file again.")
        number |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        number -= (1 << shift) if digit & 16 else 0
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    return counts if not shift else []


def _categories(content: Mapping[str, Any], where: str) -> dict[int | str, str]:
    rows = by_id(records(content, "categories", where), "id", f"{where}: categories")
    if not 0 < len(rows) <= MAX_CLASSES:
        raise ValueError(f"{where} has {len(rows):,} categories: there are 1 to {MAX_CLASSES:,}.")
    names = {key: text_of(row.get("name"), f"{where}: category {key}: name", 200) for key, row in rows.items()}
    if len(set(names.values())) < len(names):
        raise ValueError(f"{where}: two categories have the same name: rename one of the two.")
    return dict(sorted(names.items(), key=lambda pair: (isinstance(pair[0], str), pair[0])))


def _annotation(
    number: int | str, category: int | str, row: Mapping[str, Any], image: AnnotatedImage, masks: bool, what: str
) -> Annotation:
    box = row.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"{what}: bbox is {shown(box)}: it is [left, top, width, height] in pixels.")
    left, top, width, height = (_number(part, f"{what}: bbox") for part in box)
    if width < 0 or height < 0:
        raise ValueError(f"{what}: bbox has a width of {width:g} and a height of {height:g}: neither is below 0.")
    if (crowd := row.get("iscrowd", 0)) not in (0, 1):
        raise ValueError(f"{what}: iscrowd is {shown(crowd)}: it is 0 or 1.")
    area = _number(row.get("area", width * height), f"{what}: area")
    region = region_of(row.get("segmentation"), what, image.height, image.width) if masks else None
    return Annotation(number, category, (left, top, left + width, top + height), area, bool(crowd), region)


def _side(value: Any, what: str) -> int:
    if type(value) is not int or not 0 < value <= MAX_SIDE:
        raise ValueError(f"{what} is {shown(value)}: it is a number of pixels, 1 to {MAX_SIDE:,}.")
    return value


def _number(value: Any, what: str) -> float:
    """The value, if it is a number that a picture can have."""
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > MAX_SIDE**2:
        raise ValueError(f"{what} has {shown(value)}, which is no number of pixels.")
    return float(value)
