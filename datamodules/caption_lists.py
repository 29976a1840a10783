"""COCO and NoCaps with files of captions: `captions_train2014.json`, `captions_val2017.json`, `nocaps_val_4500_captions.json`.

    {"info": ..., "licenses": ..., "images": [{"id": 391895, "file_name": "COCO_val2014_000000391895.jpg", ...}, ...],
     "annotations": [{"id": 770337, "image_id": 391895, "caption": "A man with a red helmet ..."}, ...]}

NoCaps' images have a `domain` (in-domain, near-domain, out-domain) and an `open_images_id` as well. The lists of test servers
(`image_info_test2014.json`, `nocaps_test_image_info.json`) have no annotations.
"""

from __future__ import annotations

from pathlib import Path

from datamodules.annotation_files import (
    AnnotatedImages,
    by_id,
    hold_out,
    id_of,
    image_path,
    read_annotations,
    records,
    sentence_of,
)
from datamodules.captioned_items import CaptionedImage, CaptionSplits
from files.untrusted import text_of


def read_captions(path: Path, without: bool = False) -> list[tuple[int | str, dict, tuple[str, ...]]]:
    """(id, entry, captions) of each image of such a file, in its order.

    Args:
        without: the images have no captions.

    Raises:
        ValueError: the file is another one; an id occurs twice; an image has no caption, or a caption no image.
    """
    content, where = read_annotations(path, "the file of captions"), str(path)
    images = by_id(records(content, "images", where), "id", f"{where}: images")
    if without:
        return [(image_id, row, ()) for image_id, row in images.items()]
    captions: dict[int | str, list[str]] = {image_id: [] for image_id in images}
    for caption_id, row in by_id(records(content, "annotations", where), "id", f"{where}: annotations").items():
        image_id = id_of(row.get("image_id"), f"{where}: annotation {caption_id}: image_id")
        if image_id not in captions:
            raise ValueError(f"{where}: annotation {caption_id} is of image {image_id}, which is not in its list of images.")
        captions[image_id].append(sentence_of(row.get("caption"), f"{where}: annotation {caption_id}: caption"))
    if bare := [image_id for image_id, texts in captions.items() if not texts]:
        raise ValueError(f"{where}: image {bare[0]} has no caption: each needs one, unless uncaptioned=true says otherwise.")
    return [(image_id, row, tuple(captions[image_id])) for image_id, row in images.items()]


class CaptionLists(AnnotatedImages):
    """Reads such files.

    Args:
        root, folder: the dataset's folder is `root/folder`.
        images: the folder of the images in it; "" for itself.
        train, val, test: the file of each split in the dataset's folder, or None.
        train_images, val_images, test_images: the folder of each split's images, below `images`; "" for that itself.
        held_out: this many images of `train` are held out for validation; only without `val`.
        for_training: so many images of `test` train and are not tested; only without `train`. NoCaps has no training captions
            of its own.
        uncaptioned: the images of `test` have no captions, as those of test servers.
        captions_each: at most so many captions of each image, the first ones; None: all.
    """

    def __init__(
        self,
        root: str,
        folder: str,
        images: str = "",
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        train_images: str = "",
        val_images: str = "",
        test_images: str = "",
        held_out: int = 0,
        for_training: int = 0,
        uncaptioned: bool = False,
        captions_each: int | None = None,
    ) -> None:
        super().__init__(root, folder, images)
        files = {"train": train, "val": val, "test": test}
        if not (train or test):
            raise ValueError("neither train nor test names a file of captions: give data.source.disk.train or test.")
        if held_out < 0 or (held_out and (val or not train)):
            raise ValueError(f"held_out={held_out}: images of train are held out for validation only where val is null.")
        if for_training < 0 or (for_training and (train or not test or uncaptioned)):
            raise ValueError(f"for_training={for_training}: captioned images of test train only where train is null.")
        if captions_each is not None and captions_each < 1:
            raise ValueError(f"captions_each={captions_each}: give a number of captions, 1 or more, or null for all.")
        self.files = {split: file for split, file in files.items() if file}
        self.folders = {"train": train_images, "val": val_images, "test": test_images}
        self.held_out, self.for_training = held_out, for_training
        self.uncaptioned, self.captions_each = uncaptioned, captions_each
        self.needs = {file: f"the file of the {split} captions" for split, file in self.files.items()}

    def listed(self) -> CaptionSplits:
        """The lists of the files. ValueError as from `read_captions`."""
        lists = {split: self._items(split) if split in self.files else [] for split in self.folders}
        if self.held_out:
            lists["train"], lists["val"] = hold_out(lists["train"], self.held_out, "held_out")
        if self.for_training:
            lists["test"], lists["train"] = hold_out(lists["test"], self.for_training, "for_training")
        return CaptionSplits(**lists)

    def _items(self, split: str) -> list[CaptionedImage]:
        path, items = self.folder / self.files[split], []
        for image_id, row, captions in read_captions(path, self.uncaptioned and split == "test"):
            what = f"{path}: image {image_id}"
            domain = text_of(row["domain"], f"{what}: domain", 100) if "domain" in row else ""
            name = image_path(self.folders[split], row.get("file_name"), f"{what}: file_name")
            items.append(CaptionedImage(name, image_id, captions[: self.captions_each], domain))
        return items
