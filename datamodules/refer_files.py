"""RefCOCO, RefCOCO+ (Yu et al., ECCV 2016) and RefCOCOg (Mao et al., CVPR 2016) in the files of their authors.

    refs(unc).p, refs(umd).p, refs(google).p     pickles, of Python 2
        [{"ref_id": 0, "ann_id": 1719310, "image_id": 581857, "split": "train", "category_id": 1, "sent_ids": [0, 1, 2],
          "file_name": "COCO_train2014_000000581857_16.jpg",
          "sentences": [{"sent_id": 0, "sent": "the lady with the blue shirt", "raw": "THE LADY WITH THE BLUE SHIRT",
                         "tokens": ["the", ...]}, ...]}, ...]
    instances.json                               objects in COCO's form (`datamodules.coco_instances`)

UNC's split has val, testA (people) and testB (other objects); UMD's has val and test. Google's divides objects and not images,
so an image may be in two lists: `shared` says how that is handled.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal, get_args

from datamodules.annotation_files import by_id, id_of, image_path, records
from datamodules.boxes import Box
from datamodules.coco_instances import AnnotatedImage, read_instances
from datamodules.grounding_items import Expression, GroundingSplits, Proposals
from datamodules.pickles import read_plain
from datamodules.referred import (
    MAX_EXPRESSIONS,
    ProposedImage,
    ReferredImages,
    Said,
    Without,
    by_image,
    leave_out_shared,
    read_detections,
)
from files.untrusted import read_bytes, shown, text_of, visible

MAX_BYTES = 256 * 2**20  # of the pickle; the largest has about 40 MB
Shared = Literal["refuse", "leave_out"]


class ReferFiles(ReferredImages):
    """Reads such files.

    Args:
        root, folder: the files are in `root/folder`.
        refs, instances: their names.
        coco: the folder of COCO below `root`, and `images` that of the images in it.
        train, val, test: the split of the file that each list is, or None.
        shared: how an image in two lists is handled: "refuse" is an error; "leave_out" removes its expressions from training,
            and from validation where it is tested.
        masks: whether the masks of the gold boxes are read, for markers that draw them.
        proposals, detections, without, text: as in `ReferredImages`.
    """

    def __init__(
        self,
        root: str,
        folder: str,
        refs: str,
        instances: str = "instances.json",
        coco: str = "coco",
        images: str = "train2014",
        train: str | None = "train",
        val: str | None = "val",
        test: str | None = "test",
        proposals: Proposals = "detected",
        detections: str | None = "dets.json",
        without: Without = "whole_image",
        text: Said = "sent",
        shared: Shared = "refuse",
        masks: bool = True,
    ) -> None:
        super().__init__(root, folder, coco, proposals, detections, without, text)
        if shared not in get_args(Shared):
            raise ValueError(f"shared={shared!r}: choose one of {', '.join(get_args(Shared))}.")
        self.lists = {split: name for split, name in {"train": train, "val": val, "test": test}.items() if name}
        if len(set(self.lists.values())) < len(self.lists):
            raise ValueError(f"train, val and test are {', '.join(self.lists.values())}: two lists cannot be the same split.")
        self.refs, self.instances, self.below, self.shared, self.masks = refs, instances, images, shared, masks
        self.needs = {refs: "the file of expressions", instances: "the file of objects"}
        if proposals == "detected":
            self.needs[detections] = "the file of detections"

    def listed(self) -> GroundingSplits:
        """The lists of the files. ValueError that names the id of a malformed entry."""
        where = f"the file of expressions {self.folder / self.refs}"
        rows = by_id(read_refs(self.folder / self.refs), "ref_id", where)
        self._check_splits(rows.values(), where)
        images, _ = read_instances(self.folder / self.instances, self.masks)
        of_image = {image.image_id: image for image in images}
        boxes = {image.image_id: {one.annotation_id: one.box for one in image.annotations} for image in images}
        found = read_detections(self.detections_file) if self.proposals == "detected" else None
        known: dict[int | str, ProposedImage] = {}
        lists: dict[str, list[Expression]] = {name: [] for name in self.lists.values()}
        total = 0
        for ref_id, row in rows.items():
            if row["split"] not in lists:
                continue
            what = f"{where}: ref_id {ref_id}"
            image_id = id_of(row.get("image_id"), f"{what}: image_id")
            if image_id not in of_image:
                raise ValueError(f"{what} is of image {image_id}, which {self.instances} lacks: download both again.")
            if image_id not in known:
                known[image_id] = self._proposed(of_image[image_id], found)
            gold = self._gold(boxes[image_id], row, image_id, what)
            items = self.expressions(known[image_id], gold, row.get("sentences"), ref_id, what)
            lists[row["split"]] += items
            if (total := total + len(items)) > MAX_EXPRESSIONS:
                raise ValueError(f"{where} has more than {MAX_EXPRESSIONS:,} expressions, which no such file has.")
        made = GroundingSplits(*(by_image(lists.get(self.lists.get(s), [])) for s in ("train", "val", "test")))
        return self._apart(made)

    def _check_splits(self, rows: Any, where: str) -> None:
        there = {text_of(row.get("split"), f"{where}: a split", 40): None for row in rows}
        for split, name in self.lists.items():
            if name not in there:
                raise ValueError(
                    f"{split}={name}: {where} has the splits {', '.join(sorted(there)[:10])}; choose one of these."
                )

    def _proposed(self, image: AnnotatedImage, found: dict[int | str, list[Box]] | None) -> ProposedImage:
        what = f"{self.folder / self.instances}: image {image.image_id}"
        path = image_path(self.below, image.row.get("file_name"), f"{what}: file_name")
        gold = [
            (f"{self.folder / self.instances}: annotation {one.annotation_id}: bbox", one.box, one.region)
            for one in image.annotations
        ]
        return self.proposed(path, image.image_id, (image.width, image.height), gold, found)

    def _gold(self, boxes: dict[int | str, Box], row: dict[str, Any], image_id: int | str, what: str) -> Box:
        thing = id_of(row.get("ann_id"), f"{what}: ann_id")
        if thing not in boxes:
            raise ValueError(
                f"{what} is for annotation {thing} of image {image_id}, which {self.instances} lacks: download both again."
            )
        return boxes[thing]

    def _apart(self, lists: GroundingSplits) -> GroundingSplits:
        if self.shared == "leave_out":
            return leave_out_shared(lists)
        apart = leave_out_shared(lists)
        count = len(lists.train) + len(lists.val) - len(apart.train) - len(apart.val)
        if count:
            raise ValueError(
                f"{self.folder / self.refs} has {count:,} expressions in train or val for things in images that are also in "
                "val or test, as in Google's split, which divides things: give shared=leave_out to leave them out."
            )
        return lists


def read_refs(path: Path) -> list[dict[str, Any]]:
    """The entries of such a pickle, read without running anything in it. ValueError, in one sentence, for any other file."""
    content = read_bytes(path, "the file of expressions", MAX_BYTES)
    try:
        rows = read_plain(io.BytesIO(content))
        return records({"expressions": rows}, "expressions", "its pickle")
    except Exception as error:  # a hostile or truncated pickle can raise any error
        reason = visible(str(error)).rstrip(".")[:300] or type(error).__name__
        raise ValueError(
            f"{path} is refused ({reason}): it should be a list of referring expressions, as refs(unc).p of RefCOCO; download "
            f"it again ({shown(len(content))} bytes were read)"
        ) from error
