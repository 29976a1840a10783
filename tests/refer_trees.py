"""RefCOCO's official files, and ReCLIP's, with a few images, exactly as they are laid out; pickles as Python 2 writes them."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
from caption_trees import coco_name, put_json

# by image: its split, and for each of its things the box (left, top, width, height) and the expressions
THINGS = {
    9: ("train", [((2, 3, 10, 8), ["the red box", "left thing"]), ((20, 3, 9, 9), ["the other one"])]),
    25: ("train", [((1, 1, 30, 20), ["all of it"]), ((4, 4, 5, 5), ["small one", "the corner"])]),
    30: ("val", [((5, 5, 10, 10), ["middle"]), ((20, 10, 9, 9), [])]),
    42: ("testA", [((0, 0, 12, 12), ["man on left", "person"]), ((15, 2, 12.5, 20), ["woman"])]),
    73: ("testB", [((3, 3, 20, 15), ["big dog"]), ((25, 3, 6, 15), ["cup", "mug"])]),
    74: ("testB", [((8, 2, 12, 12), ["white cat"])]),
}
SIZE = (32, 24)  # width, height of the images


def python2(value, protocol: int = 0) -> bytes:
    """The opcodes for plain data as Python 2 writes them: text that is ASCII as `str`, other text as `unicode`."""
    if isinstance(value, dict):
        return b"(d" + b"".join(python2(key, protocol) + python2(one, protocol) + b"s" for key, one in value.items())
    if isinstance(value, list):
        return b"(l" + b"".join(python2(one, protocol) + b"a" for one in value)
    if isinstance(value, int):
        return b"I%d\n" % value if protocol == 0 else b"J" + value.to_bytes(4, "little", signed=True)
    if not value.isascii():
        return b"V" + value.encode("raw-unicode-escape") + b"\n"
    return b"S" + repr(value).encode() + b"\n" if protocol == 0 else b"U" + bytes([len(value)]) + value.encode()


def pickled(rows: list, protocol: int = 0) -> bytes:
    """A pickle of Python 2."""
    return (b"" if protocol == 0 else b"\x80\x02") + python2(rows, protocol) + b"."


def refs(things=None) -> list[dict]:
    """The entries of refs(unc).p. The thing k of image i is annotation 10 * i + k."""
    rows, number = [], 0
    for image, (split, listed) in (things or THINGS).items():
        for k, (_, texts) in enumerate(listed):
            if not texts:
                continue  # an annotation that nobody refers to
            file = coco_name(image, "train2014")[:-4] + f"_{k}.jpg"
            sentences = [
                {"tokens": text.split(), "raw": f"{text.upper()}!", "sent_id": number + n, "sent": text}
                for n, text in enumerate(texts)
            ]
            rows.append(
                {"sent_ids": [one["sent_id"] for one in sentences], "file_name": file, "ann_id": 10 * image + k,
                 "ref_id": len(rows), "image_id": image, "split": split, "sentences": sentences, "category_id": 1}
            )  # fmt: skip
            number += len(texts)
    return rows


def instances(things=None) -> dict:
    """The content of instances.json; the mask of a thing is the left half of its box."""
    images, annotations = [], []
    for image, (_, listed) in (things or THINGS).items():
        images.append({"id": image, "file_name": coco_name(image, "train2014"), "width": SIZE[0], "height": SIZE[1]})
        for k, ((x, y, w, h), _) in enumerate(listed):
            half = [x, y, x + w / 2, y, x + w / 2, y + h, x, y + h]
            annotations.append(
                {"id": 10 * image + k, "image_id": image, "category_id": 1, "bbox": [x, y, w, h], "iscrowd": 0,
                 "area": w * h / 2, "segmentation": [half]}
            )  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing", "supercategory": "thing"}]}


def detections() -> list[dict]:
    """The content of dets.json: each thing, a little off, and a box around nothing; image 73 has none."""
    rows = []
    for image, (_, listed) in THINGS.items():
        boxes = [(x + 1, y, w, h) for (x, y, w, h), _ in listed] + [(-2, -1, 8, 8)]
        for box in boxes if image != 73 else ():
            rows.append(
                {"det_id": len(rows), "h5_id": 3, "box": list(box), "image_id": image, "category_id": 1,
                 "category_name": "thing", "score": 0.9}
            )  # fmt: skip
    return rows


def put_photos(root: Path, things=None) -> None:
    """The images, $DATA/coco/train2014."""
    for image in things or THINGS:
        path = root / "coco/train2014" / coco_name(image, "train2014")
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.full((SIZE[1], SIZE[0], 3), image, np.uint8)).save(path, "PNG")


def put_refcoco(root: Path, folder: str = "refcoco", file: str = "refs(unc).p", protocol: int = 0, things=None) -> Path:
    """$DATA/FOLDER with the official files, and the images; the folder."""
    put_photos(root, things)
    put_json(root / folder / "instances.json", instances(things))
    put_json(root / folder / "dets.json", detections())
    (root / folder / file).write_bytes(pickled(refs(things), protocol))
    return root / folder


def reclip_lines(*splits: str) -> list[dict]:
    """The lines of a file of ReCLIP's authors."""
    boxes = {image: [{"id": 10 * image + k, "bbox": list(box)} for k, (box, _) in enumerate(listed)]
             for image, (_, listed) in THINGS.items()}  # fmt: skip
    return [row | {"anns": boxes[row["image_id"]]} for row in refs() if row["split"] in splits]


def put_lines(path: Path, rows: list) -> Path:
    """The rows as a file of one object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def put_reclip(root: Path) -> Path:
    """$DATA/reclip_data with the files for RefCOCO, and the images; the folder."""
    put_photos(root)
    folder = root / "reclip_data"
    for file, split in (("train", "train"), ("val", "val"), ("testa", "testA"), ("testb", "testB")):
        put_lines(folder / f"refcoco_{file}.jsonl", reclip_lines(split))
    found: dict[str, list] = {str(image): [] for image in THINGS}
    for row in detections():
        found[str(row["image_id"])].append(row["box"])
    put_json(folder / "refcoco_dets_dict.json", found)
    return folder
