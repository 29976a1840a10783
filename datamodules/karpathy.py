"""COCO and Flickr30k with Karpathy's splits: `dataset_coco.json`, `dataset_flickr30k.json` (Karpathy and Fei-Fei, CVPR 2015).

    {"dataset": "coco", "images": [{"filepath": "val2014", "filename": "COCO_val2014_000000391895.jpg", "imgid": 0,
      "cocoid": 391895, "split": "test", "sentids": [770337, ...],
      "sentences": [{"raw": "A man with a red helmet ...", "tokens": [...], "imgid": 0, "sentid": 770337}, ...]}, ...]}

Flickr30k's has neither `filepath` nor `cocoid`.
"""

from __future__ import annotations

from typing import Any

from datamodules.annotation_files import AnnotatedImages, id_of, image_path, read_annotations, records, texts_of
from datamodules.captioned_items import CaptionedImage, CaptionSplits
from files.untrusted import path_within, shown

SPLITS = ("train", "restval", "val", "test")


class KarpathySplit(AnnotatedImages):
    """Reads such a file.

    Args:
        root, folder: the dataset's folder is `root/folder`.
        split: the file in it.
        images: the folder of the images in it; "" for itself.
        restval: whether the images of COCO's validation set that are neither in val nor in test train as well, as usual.
        captions_each: at most so many captions of each image, the first ones; None: all.
    """

    def __init__(
        self, root: str, folder: str, split: str, images: str = "", restval: bool = True, captions_each: int | None = None
    ) -> None:
        super().__init__(root, folder, images)
        if captions_each is not None and captions_each < 1:
            raise ValueError(f"captions_each={captions_each}: give a number of captions, 1 or more, or null for all.")
        self.split, self.restval, self.captions_each = split, restval, captions_each
        self.needs = {split: "Karpathy's split"}

    def listed(self) -> CaptionSplits:
        """The lists of the file. ValueError for an entry that is none, by its position."""
        path = self.folder / self.split
        rows = records(read_annotations(path, "Karpathy's split"), "images", path)
        lists: dict[str, list[CaptionedImage]] = {split: [] for split in SPLITS}
        seen: dict[object, int] = {}
        for i, row in enumerate(rows):
            split, item = self._item(row, f"{path}: image {i}")
            for key in (item.path, item.image_id):
                if seen.setdefault(key, i) != i:
                    raise ValueError(f"{path}: images {seen[key]} and {i} are both {key}: remove one of the two.")
            lists[split].append(item)
        train = lists["train"] + (lists["restval"] if self.restval else [])
        return CaptionSplits(train, lists["val"], lists["test"])

    def _item(self, row: dict[str, Any], what: str) -> tuple[str, CaptionedImage]:
        folder = path_within(row["filepath"], f"{what}: filepath") if row.get("filepath") else ""
        path = image_path(folder, row.get("filename"), f"{what}: filename")
        split = row.get("split")
        if split not in SPLITS:
            raise ValueError(f"{what} ({path}) has the split {shown(split)}: it should be one of {', '.join(SPLITS)}.")
        image_id = id_of(row.get("cocoid", row.get("imgid")), f"{what}: cocoid or imgid")
        captions = texts_of(row.get("sentences"), "raw", f"{what}: sentences")
        if not captions:
            raise ValueError(f"{what} ({path}) has no sentences: each image needs a caption, so complete or remove it.")
        return split, CaptionedImage(path, image_id, captions[: self.captions_each])
