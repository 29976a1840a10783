"""A user's own captioned images: files as COCO's, or a table of paths and captions. Nothing is written there."""

from __future__ import annotations

import random
from pathlib import Path

from datamodules.annotation_files import AnnotatedImages, image_path, sentence_of
from datamodules.caption_lists import read_captions
from datamodules.captioned_items import CaptionedImage, CaptionSplits
from datamodules.own_images import read_table
from files.untrusted import path_within

TABLE = "captions.csv"
COLUMNS = ("path", "caption")  # of a table, which may also have `split`
SPLITS = ("train", "val", "test")
LEAST = 4  # images that are divided: 2 for training, 1 for validation, 1 for testing


class OwnCaptions(AnnotatedImages):
    """Captioned images of one's own, in one of two layouts:

    - `FOLDER/train.json`, `FOLDER/val.json` (which may be missing) and `FOLDER/test.json` in the form of COCO's captions
      (`images` with id and file_name, `annotations` with id, image_id and caption), their images in `FOLDER/images`;
    - `FOLDER/captions.csv` with the columns path (below `FOLDER/images`), caption, and perhaps split (train, val or test), a
      line for each caption. Without a split half of the images are for training, a fifth for validation, the rest for testing,
      drawn with `split_seed`, so that runs of all seeds are tested on the same images.

    Args:
        root: the folder where `folder` is null.
        folder: the folder.
        images: the folder of the images in it; "" for itself.
        split_seed: the seed of the split that is drawn.
    """

    def __init__(self, root: str, folder: str | None = None, images: str = "images", split_seed: int = 1) -> None:
        super().__init__(str(Path(folder or root).expanduser()), "", images)
        self.split_seed = split_seed
        if (self.folder / TABLE).exists():
            self.needs = {TABLE: "the table of captions"}
        else:
            files = {f"{split}.json": f"the file of the {split} captions" for split in SPLITS}
            self.needs = {name: what for name, what in files.items() if name != "val.json" or (self.folder / name).exists()}

    def listed(self) -> CaptionSplits:
        """The lists of the files. ValueError, in one sentence, for a file that is not as it should be."""
        if TABLE in self.needs:
            return self._from_table(self.folder / TABLE)
        return CaptionSplits(**{split: self._from_json(f"{split}.json") for split in SPLITS})

    def _from_json(self, name: str) -> list[CaptionedImage]:
        if name not in self.needs:
            return []
        path = self.folder / name
        return [
            CaptionedImage(image_path("", row.get("file_name"), f"{path}: image {image_id}: file_name"), image_id, captions)
            for image_id, row, captions in read_captions(path)
        ]

    def _from_table(self, table: Path) -> CaptionSplits:
        captions: dict[str, list[str]] = {}
        split_of: dict[str, str] = {}
        for at, row in enumerate(read_table(table, COLUMNS), 2):
            path = path_within(row["path"], f"{table}, line {at}: the path")
            captions.setdefault(path, []).append(sentence_of(row["caption"], f"{table}, line {at}: the caption"))
            split = row.get("split", "")
            if "split" in row and split not in SPLITS:
                raise ValueError(f"{table}, line {at}: the split is {split!r:.40}: give one of {', '.join(SPLITS)}")
            if split_of.setdefault(path, split) != split:
                raise ValueError(f"{table}, line {at}: {path} is in {split_of[path]} and in {split}: give it one split")
        items = [CaptionedImage(path, number, tuple(texts)) for number, (path, texts) in enumerate(captions.items())]
        if any(split_of.values()):
            lists = {split: [item for item in items if split_of[item.path] == split] for split in SPLITS}
            return CaptionSplits(**lists)
        return self._divided(items)

    def _divided(self, items: list[CaptionedImage]) -> CaptionSplits:
        if len(items) < LEAST:
            raise ValueError(
                f"{self.folder / TABLE} has {len(items)} images, and {LEAST} are needed to divide them into training, "
                "validation and test images: add some, or a column `split`"
            )
        order = sorted(items, key=lambda item: item.path)
        random.Random(self.split_seed).shuffle(order)
        train, val = len(order) // 2, max(1, len(order) // 5)
        return CaptionSplits(order[:train], order[train : train + val], order[train + val :])
