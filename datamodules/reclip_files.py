"""RefCOCO, RefCOCO+ and RefCOCOg as ReCLIP's code reads them (Subramanian et al., ACL 2022): `refcoco_val.jsonl`.

    {"image_id": 581857, "file_name": "COCO_train2014_000000581857_16.jpg", "ann_id": 1719310, "sentences": [{"raw": "THE LADY
     WITH THE BLUE SHIRT", ...}, ...], "anns": [{"id": 1719310, "bbox": [103.93, 299.99, 134.22, 177.42], ...}, ...]}

One line for each object: its expressions, all annotated boxes of its image as [left, top, width, height], and the id of its own
box. Detections are in `refcoco_dets_dict.json`. Other entries of a line are not read. The form follows the published code; the
files themselves were not available to us.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.annotation_files import id_of, image_path
from datamodules.boxes import Box
from datamodules.disk import require, size_of
from datamodules.grounding_items import Expression, GroundingSplits, Proposals
from datamodules.referred import (
    MAX_BYTES,
    MAX_EXPRESSIONS,
    ProposedImage,
    ReferredImages,
    Said,
    Without,
    box_of,
    by_image,
    read_detections,
)
from files.untrusted import parse_json, read_bytes, shown, text_of

MAX_LINE_VALUES = 200_000  # of a line; it has the boxes of one image


class ReclipFiles(ReferredImages):
    """Reads such files.

    Args:
        root, folder: the files are in `root/folder`.
        train, val, test: the file of each list, or None.
        coco: the folder of COCO below `root`, and `images` that of the images in it.
        proposals, detections, without, text: as in `ReferredImages`.
    """

    def __init__(
        self,
        root: str,
        folder: str,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        coco: str = "coco",
        images: str = "train2014",
        proposals: Proposals = "detected",
        detections: str | None = None,
        without: Without = "whole_image",
        text: Said = "raw",
    ) -> None:
        super().__init__(root, folder, coco, proposals, detections, without, text)
        files = {"train": train, "val": val, "test": test}
        self.lists, self.below = {split: file for split, file in files.items() if file}, images
        self.needs = {file: f"the file of the {split} expressions" for split, file in self.lists.items()}
        if proposals == "detected":
            self.needs[detections] = "the file of detections"

    def listed(self) -> GroundingSplits:
        """The lists of the files. ValueError that names the number of a malformed line, or where there is nothing to read."""
        if not (self.lists.get("train") or self.lists.get("test")):  # only here: every source of a dataset is made
            raise ValueError("neither train nor test names a file of expressions: give data.source.reclip.train or test.")
        found = read_detections(self.detections_file) if self.proposals == "detected" else None
        lists = {split: self._items(split, found) if split in self.lists else [] for split in ("train", "val", "test")}
        return GroundingSplits(**lists)

    def _items(self, split: str, found: Mapping[int | str, list[Box]] | None) -> list[Expression]:
        path, items = self.folder / self.lists[split], []
        known: dict[tuple, ProposedImage] = {}  # equal images share their boxes
        for number, row in enumerate(read_lines(path)):
            what = f"{path}: line {number + 1}"
            image_id = id_of(row.get("image_id"), f"{what}: image_id")
            name = image_path(self.below, image_name(row.get("file_name"), f"{what}: file_name"), f"{what}: file_name")
            boxes = _annotated(row.get("anns"), what)
            key = (name, image_id, tuple(boxes.items()))
            if key not in known:
                named = [(f"{what}: the bbox of annotation {one}", box, None) for one, box in boxes.items()]
                known[key] = self.proposed(name, image_id, size_of(self.images / name), named, found)
            gold = _meant(row.get("ann_id"), boxes, what)
            items += self.expressions(known[key], gold, row.get("sentences"), number + 1, what)
            if len(items) > MAX_EXPRESSIONS:
                raise ValueError(f"{path} has more than {MAX_EXPRESSIONS:,} expressions, which no such file has.")
        return by_image(items)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one on each line; empty lines are left out. ValueError for a malformed line."""
    content = read_bytes(require(path, "the file of expressions"), "the file of expressions", MAX_BYTES)
    rows = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        row = parse_json(line, f"{path}: line {number}", MAX_LINE_VALUES)
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number} is no object: the file is another one, or damaged.")
        rows.append(row)
    return rows


def image_name(value: Any, what: str) -> str:
    """The name of COCO's image, without the number that the authors of RefCOCO added at its end. ValueError that begins with
    `what`."""
    name = text_of(value, what, 1000)
    stem, underline, _ = name.rpartition("_")
    return f"{stem}.jpg" if "coco" in name.lower() and underline else name


def _annotated(anns: Any, what: str) -> dict[int | str, Box]:
    """The box of each annotation, by its id."""
    if not isinstance(anns, list) or not anns or not all(isinstance(one, dict) for one in anns):
        raise ValueError(f"{what}: anns is no list of objects with an id and a bbox each.")
    boxes = {}
    for position, one in enumerate(anns):
        own = id_of(one.get("id"), f"{what}: annotation {position}: id")
        if own in boxes:
            raise ValueError(f"{what}: the annotation {own} occurs twice: remove one of the two.")
        boxes[own] = box_of(one.get("bbox"), f"{what}: the bbox of annotation {own}")
    return boxes


def _meant(value: Any, boxes: Mapping[int | str, Box], what: str) -> Box:
    """The box of the object that is meant: `ann_id` is its id, or a list with this id alone."""
    if isinstance(value, list):
        if len(value) != 1:
            raise ValueError(f"{what}: ann_id names {len(value)} annotations: an expression for one thing is wanted.")
        value = value[0]
    thing = id_of(value, f"{what}: ann_id")
    if thing not in boxes:
        raise ValueError(f"{what}: ann_id is {shown(thing)}, which is not among its anns: download the file again.")
    return boxes[thing]
