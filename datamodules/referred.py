"""Referring expressions for objects in COCO's images: the base of the readers of their files.

Boxes in the files are (left, top, width, height); they are clamped to the image (`datamodules.boxes.clamp`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import PIL.Image

from datamodules import identity
from datamodules.annotation_files import MAX_TEXTS, AnnotatedImages, id_of, sentence_of
from datamodules.boxes import Box, clamp, from_xywh
from datamodules.coco_instances import drawn
from datamodules.detected_items import Region
from datamodules.disk import require
from datamodules.grounding_items import Expression, GroundingSplits, Proposals
from files.untrusted import read_json, shown

# Detections of RefCOCO's 19,994 images: a few hundred thousand boxes. A value takes up to 120 bytes while a file is read.
MAX_BYTES, MAX_VALUES = 512 * 2**20, 40_000_000
MAX_BOXES = 2000  # proposals of an image
MAX_EXPRESSIONS = 2_000_000  # of a file; RefCOCO has 142,210
MAX_NUMBER = 1e9  # of a box
Without = Literal["whole_image", "refuse"]
Said = Literal["sent", "raw"]


class ProposedImage(NamedTuple):
    """An image and its proposals."""

    path: str
    image_id: int | str
    size: tuple[int, int] | None  # width, height
    proposals: tuple[Box, ...]
    regions: tuple[Region | None, ...]
    detected: bool  # as `Expression` has it


class ReferredImages(AnnotatedImages):
    """Expressions for objects of the images in `root/coco`, with files in `root/folder`. A subclass defines `listed`.

    Args:
        proposals: "gold", the boxes that people drew, or "detected", those of the file `detections`.
        detections: a file of detected boxes (`read_detections`).
        without: how an image without a detected box is handled: "whole_image" gives it one box around all of it, as in ReCLIP;
            "refuse" is an error.
        text: which of an expression's two texts is used: "sent" (lower case, without punctuation) or "raw"; the other one where
            it is empty.
    """

    def __init__(
        self, root: str, folder: str, coco: str, proposals: Proposals, detections: str | None, without: Without, text: Said
    ) -> None:
        super().__init__(root, folder)
        self.images = Path(root).expanduser() / coco
        for key, value, choices in (("proposals", proposals, Proposals), ("without", without, Without), ("text", text, Said)):
            if value not in get_args(choices):
                raise ValueError(f"{key}={value!r}: choose one of {', '.join(get_args(choices))}.")
        if proposals == "detected" and not detections:
            raise ValueError("proposals=detected needs a file of detections: give detections=FILE, or proposals=gold.")
        self.proposals, self.detections, self.without, self.text = proposals, detections, without, text
        self.lists: dict[str, str] = {}  # by split, the name of its list in the files, or that of its file
        self.detections_file = self.folder / (detections or "")

    def splits(self, seed: int) -> GroundingSplits:
        """The full lists, the same for every seed. ValueError where a file or an image is missing or malformed."""
        return super().splits(seed)

    def open(self, item: Expression) -> PIL.Image.Image:
        """The image in RGB. ValueError, which names the file, where it cannot be decoded or has another size than its boxes
        are for."""
        image = super().open(item)
        if item.size and image.size != tuple(item.size):
            raise ValueError(
                f"image {self.images / item.path} has {image.width} x {image.height} pixels, and its boxes are for one of "
                f"{item.size[0]} x {item.size[1]}: download it again."
            )
        return image

    def region_mask(self, item: Expression, number: int) -> np.ndarray | None:
        """The mask of a proposal, (H, W) bool; None where its box has none."""
        region: Any = item.regions[number] if item.regions else None
        return None if region is None else drawn(region, item.size[1], item.size[0])

    def digest_of(self, splits: GroundingSplits) -> str:
        """A digest of those lists, of the boxes and masks of each image, and of the sizes of some images."""
        lists = (splits.train, splits.val, splits.test)
        images = {item.path: item for items in lists for item in items}
        masks = hashlib.sha256()
        for item in images.values():
            region: Any
            for region in item.regions:
                masks.update(
                    repr(region and (region.kind, len(region.parts))).encode() + b"".join(region.parts if region else ())
                )
        rows = [[(item.path, item.image_id, item.expression_id, item.text, item.gold) for item in items] for items in lists]
        boxes = [(item.path, item.proposals) for item in images.values()]
        return identity.digest_of(*rows, boxes, self.proposals, masks.hexdigest(), identity.file_sizes(self.images, images))

    def proposed(
        self,
        path: str,
        image_id: int | str,
        size: tuple[int, int] | None,
        gold: Iterable[tuple[str, Box, Region | None]],
        found: Mapping[int | str, list[Box]] | None,
    ) -> ProposedImage:
        """An image with its proposals: `gold` (the name of each in a message, its box, its mask), or those `found` by a
        detector, by image.

        Raises:
            ValueError: a box that is outside the image; no box where none is refused.
        """
        if found is None:
            named, regions = [(what, box) for what, box, _ in gold], tuple(region for _, _, region in gold)
        else:
            what = f"{self.detections_file}: a box of image {image_id}"
            named, regions = [(what, box) for box in found.get(image_id, ())], ()
        if not named and self.without == "refuse":
            raise ValueError(f"image {image_id} has no box in {self.detections_file}: give without=whole_image.")
        detected = bool(named)
        if not detected:
            named = [("the whole image", (0.0, 0.0, *(size or (1, 1))))]
        if len(named) > MAX_BOXES:
            raise ValueError(f"image {image_id} of {self.folder} has {len(named):,} boxes, more than {MAX_BOXES:,}.")
        boxes = tuple(clamp(box, size, what) if size else box for what, box in named)
        return ProposedImage(path, image_id, size, boxes, regions if any(regions) else (), detected)

    def expressions(self, image: ProposedImage, gold: Box, sentences: Any, own: int | str, what: str) -> list[Expression]:
        """The expressions of the list `sentences` for the thing in the box `gold`. Where they have no ids, `own` and their
        position stand for them. ValueError that begins with `what`."""
        if (
            not isinstance(sentences, list)
            or not 0 < len(sentences) <= MAX_TEXTS
            or not all(isinstance(s, dict) for s in sentences)
        ):
            raise ValueError(f"{what}: sentences is no list of 1 to {MAX_TEXTS:,} objects with a 'sent' or a 'raw' text each.")
        if image.size:
            gold = clamp(gold, image.size, f"{what}: the box of its thing")
        items = []
        for position, row in enumerate(sentences):
            here = f"{what}: sentence {position}"
            number = id_of(row["sent_id"], f"{here}: sent_id") if "sent_id" in row else f"{own}-{position}"
            text = self._text(row, here)
            items.append(
                Expression(
                    image.path,
                    image.image_id,
                    number,
                    text,
                    gold,
                    image.proposals,
                    image.regions,
                    detected=image.detected,
                    size=image.size,
                )  # fmt: skip
            )
        return items

    def _text(self, sentence: Mapping[str, Any], what: str) -> str:
        given = sentence.get(self.text)
        if given is None or (isinstance(given, str) and not given.strip()):
            given = sentence.get("raw" if self.text == "sent" else "sent")
        return sentence_of(given, f"{what}: the text")


def by_image(items: Iterable[Expression]) -> list[Expression]:
    """The expressions grouped by image, images in order of first appearance, so that a model can reuse the features of an
    image."""
    groups: dict[str, list[Expression]] = {}
    for item in items:
        groups.setdefault(item.path, []).append(item)
    return [item for group in groups.values() for item in group]


def leave_out_shared(lists: GroundingSplits) -> GroundingSplits:
    """The lists train, val and test, without the expressions whose image is also in a later one of these lists."""
    tested = {item.path for item in lists.test}
    val = [item for item in lists.val if item.path not in tested]
    chosen = tested | {item.path for item in val}
    return replace(lists, train=[item for item in lists.train if item.path not in chosen], val=val)


def box_of(value: Any, what: str) -> Box:
    """The value [left, top, width, height] as a box. ValueError that begins with `what`."""
    is_box = (
        isinstance(value, list) and len(value) == 4 and all(type(n) in (int, float) and abs(n) <= MAX_NUMBER for n in value)
    )
    if not is_box or value[2] < 0 or value[3] < 0:
        raise ValueError(f"{what} is {value if is_box else shown(value)}: it is [left, top, width, height] in pixels.")
    return from_xywh(value)


def read_detections(path: Path) -> dict[int | str, list[Box]]:
    """The detected boxes of each image, by its id, in the order of the file.

    The file is a list of objects with `image_id` and `box` [left, top, width, height], as MAttNet's `dets.json`; an object with
    such a list under `dets`, as the API of RefCOCO's authors; or an object of lists of boxes by image id, as ReCLIP's
    `refcoco_dets_dict.json`. Categories and scores are not read.

    Raises:
        ValueError: the file is another one, or too large; a box is none.
    """
    what = "the file of detections"
    content, where = read_json(require(path, what), what, MAX_BYTES, MAX_VALUES), f"{what} {path}"
    found: dict[int | str, list[Box]] = {}
    if isinstance(content, dict) and isinstance(content.get("dets"), list):
        content = content["dets"]
    if isinstance(content, dict):
        for name, boxes in content.items():
            image_id = int(name) if name.isascii() and name.isdecimal() and len(name) < 19 else name
            if not isinstance(boxes, list):
                raise ValueError(f"{where}: image {shown(image_id)} has no list of boxes.")
            found[image_id] = [box_of(box, f"{where}: image {shown(image_id)}: box {i}") for i, box in enumerate(boxes)]
        return found
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ValueError(f"{where} holds neither a list of detections nor an object of boxes by image: it is another file.")
    for i, row in enumerate(content):
        image_id = id_of(row.get("image_id"), f"{where}: detection {i}: image_id")
        found.setdefault(image_id, []).append(box_of(row.get("box"), f"{where}: detection {i}: box"))
    return found
