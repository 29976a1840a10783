"""Images on disk with a file of objects in COCO's form (`datamodules.coco_instances`): `data=coco_boxes`.

An object's box is cut at the image's edges; one without width or height inside is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image

from datamodules import disk, identity
from datamodules.annotation_files import check_apart, hold_out, image_path
from datamodules.coco_instances import AnnotatedImage, drawn, read_instances
from datamodules.detected_items import DetectedImage, DetectedObject, DetectedSplits, has_area, inside

_READ: dict[str, DetectedSplits] = {}  # the lists read last: a run asks for them twice, and files are large


class CocoBoxes(disk.Disk):
    """Reads such files.

    Args:
        root, folder: the dataset's folder is `root/folder`.
        train, val, test: the file of each split in the dataset's folder, or None.
        train_images, val_images, test_images: the folder of each split's images, in the dataset's folder.
        held_out: this many images of `train` are held out for validation; only without `val`.
        masks: objects come with their masks.
        keep_empty: training images without objects stay in the list.
    """

    def __init__(
        self,
        root: str,
        folder: str,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        train_images: str = "",
        val_images: str = "",
        test_images: str = "",
        held_out: int = 0,
        masks: bool = True,
        keep_empty: bool = True,
    ) -> None:
        super().__init__(root, folder)
        self.files = {split: file for split, file in (("train", train), ("val", val), ("test", test)) if file}
        if not (train or test):
            raise ValueError("neither train nor test names a file of objects: give data.source.disk.train or test.")
        if held_out < 0 or (held_out and (val or not train)):
            raise ValueError(f"held_out={held_out}: images of train are held out for validation only where val is null.")
        self.folders = {"train": train_images, "val": val_images, "test": test_images}
        self.held_out, self.has_masks, self.keep_empty = held_out, masks, keep_empty
        self.needs = {file: f"the file of the {split} objects" for split, file in self.files.items()}

    def splits(self, seed: int) -> DetectedSplits:
        """The full lists, the same for every seed. ValueError where a file or an image is missing or malformed."""
        disk.require(self.folder, "the dataset's folder")
        key = f"{vars(self)} {identity.files_digest(self.folder, self.needs)}"
        if key not in _READ:
            splits = self._listed()
            _READ.clear()
            _READ[key] = splits
        splits = replace(_READ[key], **{split: list(getattr(_READ[key], split)) for split in ("train", "val", "test")})
        disk.check_images(self.images, (*splits.train, *splits.val, *splits.test), " and ".join(self.needs))
        return splits

    def _listed(self) -> DetectedSplits:
        lists: dict[str, list[DetectedImage]] = {"train": [], "val": [], "test": []}
        names: dict[Any, str] = {}
        for split, file in self.files.items():
            path = self.folder / file
            images, here = read_instances(path, self.has_masks)
            if names and here != names:
                raise ValueError(
                    f"{path} has other categories than {next(iter(self.files.values()))}: give files of one dataset."
                )
            names, labels = here, {category: label for label, category in enumerate(here)}
            lists[split] = [self._item(image, labels, split, str(path)) for image in images]
        if not self.keep_empty:
            lists["train"] = [item for item in lists["train"] if any(not thing.crowd for thing in item.objects)]
        if self.held_out:
            lists["train"], lists["val"] = hold_out(lists["train"], self.held_out, "held_out")
        check_apart(lists, self.folder)
        return DetectedSplits(**lists, classnames=list(names.values()), category_ids=list(names))

    def _item(self, image: AnnotatedImage, labels: dict[Any, int], split: str, where: str) -> DetectedImage:
        what, objects = f"{where}: image {image.image_id}", []
        for thing in image.annotations:
            box = inside(thing.box, image.height, image.width)
            if not has_area(box):
                continue
            if self.has_masks and thing.region is None and not thing.crowd:
                raise ValueError(
                    f"{where}: annotation {thing.annotation_id} has no segmentation: give data.source.disk.masks=false for "
                    "boxes alone."
                )
            objects.append(DetectedObject(box, labels[thing.category_id], thing.region, thing.crowd, thing.area))
        name = image_path(self.folders[split], image.row.get("file_name"), f"{what}: file_name")
        return DetectedImage(name, image.image_id, tuple(objects), size=(image.height, image.width))

    def digest_of(self, splits: DetectedSplits) -> str:
        """A digest of the lists and of the sizes of some of their images."""
        lists, masks = (splits.train, splits.val, splits.test), hashlib.sha256()
        for thing in (thing for items in lists for item in items for thing in item.objects):
            for part in thing.mask.parts if thing.mask else (b"",):
                masks.update(part)
        sizes = identity.file_sizes(self.images, (item.path for items in lists for item in items))
        rows = (
            [(item.path, [(thing.box, thing.label, thing.crowd, thing.area) for thing in item.objects]) for item in items]
            for items in lists
        )
        return identity.digest_of(*rows, masks.hexdigest(), splits.classnames, sizes)

    def content_digest(self, items: Iterable[DetectedImage]) -> str:
        """A digest of the images: of every file's path, size and time of change."""
        return identity.files_digest(self.images, (item.path for item in items))

    def open(self, item: DetectedImage) -> PIL.Image.Image:
        """The image in RGB. ValueError, which names the file, where it cannot be decoded or has another size than its boxes'
        file says."""
        image = disk.open_rgb(self.images / item.path)
        if item.size and image.size[::-1] != item.size:
            raise ValueError(
                f"image {self.images / item.path} has {image.width} x {image.height} pixels, and its file of objects says "
                f"{item.size[1]} x {item.size[0]}: boxes of another image mean nothing, so download it again."
            )
        return image

    def object_masks(self, item: DetectedImage) -> np.ndarray:
        """The masks of an image's objects, (N,H,W) bool."""
        height, width = item.size
        masks = [drawn(thing.mask, height, width) for thing in item.objects]
        return np.stack(masks) if masks else np.zeros((0, height, width), bool)
