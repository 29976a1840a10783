"""COCO's files of objects with a few images, exactly as the official ones are laid out."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
from pycocotools import mask as coco_masks

CATEGORIES = [
    {"supercategory": "animal", "id": 17, "name": "cat"},
    {"supercategory": "vehicle", "id": 3, "name": "car"},
    {"supercategory": "person", "id": 1, "name": "person"},
]
COLOURS = {17: (200, 40, 40), 3: (40, 200, 40), 1: (40, 40, 200)}


def rectangle(x: float, y: float, w: float, h: float) -> list[float]:
    """The polygon of a box."""
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def runs(mask: np.ndarray) -> list[int]:
    """The uncompressed counts of a mask (H,W)."""
    column = mask.T.reshape(-1).astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], column, [1 - column[-1]]])))
    return np.diff(np.concatenate([[0], edges])).tolist()


def compressed(mask: np.ndarray) -> str:
    """COCO's compressed counts, by its own code."""
    return coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def instances_content(first: int = 100, count: int = 4, height: int = 32, width: int = 48) -> dict:
    """The content of a file: each image has two objects, one as a polygon and one as a compressed code; the first has a crowd
    as well (uncompressed counts); the last has none."""
    images, annotations = [], []
    for i in range(count):
        number = first + i
        images.append(
            {"license": 3, "file_name": f"{number:012d}.jpg", "coco_url": "http://", "height": height, "width": width,
             "date_captured": "2013-11-14", "flickr_url": "http://", "id": number}
        )  # fmt: skip
        if i == count - 1:
            continue
        for k, category in enumerate((17, 3)):
            x, y, w, h = 4.0 + 22 * k, 5.0 + i, 16.0, 12.0
            mask = np.zeros((height, width), bool)
            mask[int(y) : int(y + h), int(x) : int(x + w)] = True
            code = {"size": [height, width], "counts": compressed(mask)}
            annotations.append(
                {"segmentation": code if k else [rectangle(x, y, w, h)], "area": w * h, "iscrowd": 0, "image_id": number,
                 "bbox": [x, y, w, h], "category_id": category, "id": 10 * number + k}
            )  # fmt: skip
    mask = np.zeros((height, width), bool)
    mask[25:30, 2:40] = True
    annotations.append(
        {"segmentation": {"size": [height, width], "counts": runs(mask)}, "area": 190, "iscrowd": 1, "image_id": first,
         "bbox": [2, 25, 38, 5], "category_id": 1, "id": 10 * first + 9}
    )  # fmt: skip
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": list(CATEGORIES),
    }


def put_pictures(folder: Path, content: dict) -> None:
    """The images of a file, with its objects as coloured boxes."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in content["images"]:
        pixels = np.full((row["height"], row["width"], 3), 230, np.uint8)
        for thing in content["annotations"]:
            if thing["image_id"] == row["id"]:
                x, y, w, h = map(int, thing["bbox"])
                pixels[y : y + h, x : x + w] = COLOURS[thing["category_id"]]
        PIL.Image.fromarray(pixels).save(folder / row["file_name"], "PNG")


def put_coco_instances(root: Path, train: int = 6, test: int = 4) -> Path:
    """$DATA/coco with the files of objects of 2017 and their images; the folder."""
    for split, first, count in (("train2017", 100, train), ("val2017", 500, test)):
        content = instances_content(first, count)
        put_pictures(root / "coco" / split, content)
        path = root / f"coco/annotations/instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return root / "coco"
