"""Images with label maps on disk: the base of their readers, and the three ways in which published datasets list them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from datamodules import disk, identity
from datamodules.annotation_files import hold_out
from datamodules.label_maps import SUFFIX, read_label_map
from datamodules.segmented_items import SegmentedImage, SegmentedSplits
from files.untrusted import visible

SPLITS = ("train", "val", "test")
Lists = dict[str, list[SegmentedImage]]


class SegmentedDisk(disk.Disk):
    """Images and label maps below `root/folder`. A subclass defines `listed`, and sets `classnames` and `table`.

    Args:
        root, folder: the dataset's folder is `root/folder`.
        images, masks: the folders of the images and of the label maps in it; "" for itself.
        held_out: this many training images, always the same, are held out for validation; only where there are no others.
    """

    classnames: list[str]
    table: np.ndarray  # from the numbers in a file to ids (`datamodules.label_maps.table_of`)
    colours: list[tuple[int, int, int]] | None = None

    def __init__(self, root: str, folder: str, images: str = "", masks: str = "", held_out: int = 0) -> None:
        super().__init__(root, folder, images)
        if not isinstance(held_out, int) or held_out < 0:
            raise ValueError(f"held_out={held_out}: give a number of training images for validation, 0 or more.")
        self.masks, self.held_out = self.folder / masks, held_out

    def listed(self) -> Lists:
        """The items of train, val and test, whether their files exist or not. ValueError for a list that cannot be read."""
        raise NotImplementedError

    def splits(self, seed: int) -> SegmentedSplits:
        """The full lists, the same for every seed.

        Raises:
            ValueError: a list, an image or a label map is missing, a list is empty, or an image is in two lists.
        """
        disk.require(self.folder, "the dataset's folder")
        lists = {split: [] for split in SPLITS} | self.listed()
        self._check(lists)
        if self.held_out:
            if lists["val"]:
                raise ValueError(
                    f"held_out={self.held_out}: {self.folder} has {len(lists['val']):,} validation images of its own; give 0."
                )
            lists["train"], lists["val"] = hold_out(lists["train"], self.held_out, "held_out")
        return SegmentedSplits(**lists, classnames=list(self.classnames), colours=self.colours)

    def _check(self, lists: Lists) -> None:
        items = [item for split in SPLITS for item in lists[split]]
        if not items:
            raise ValueError(f"{self.folder} has no image with a label map: check that it is the dataset's folder.")
        seen: dict[str, str] = {}
        for split in SPLITS:
            for item in lists[split]:
                if other := seen.get(item.path):
                    twice = f"twice in {split}" if other == split else f"in {other} and in {split}"
                    raise ValueError(f"image {item.path} of {self.folder} is {twice}: leave one of the two.")
                seen[item.path] = split
        disk.check_images(self.images, items, "a list or a label map")
        if absent := disk.missing_files(self.masks, (item.mask for item in items)):
            raise disk.MissingFilesError(absent, self.masks, "the images", "label map(s)")

    def digest_of(self, splits: SegmentedSplits) -> str:
        """A digest of those lists and classes, and of the sizes of some of their images and label maps."""
        lists = (splits.train, splits.val, splits.test)
        images = identity.file_sizes(self.images, (item.path for items in lists for item in items))
        masks = identity.file_sizes(self.masks, (item.mask for items in lists for item in items))
        return identity.digest_of(*lists, splits.classnames, self.table.tolist(), images, masks)

    def size(self, item: SegmentedImage) -> tuple[int, int] | None:
        """Width and height of the image, from the file's header alone; None where it cannot be read."""
        return disk.size_of(self.images / item.path)

    def open_mask(self, item: SegmentedImage) -> np.ndarray:
        """The label map (H, W) uint8. ValueError where it cannot be read, or has a number that is no class."""
        return read_label_map(self.masks / item.mask, self.table)


def stems(folder: Path, what: str, suffixes: Iterable[str] = disk.SUFFIXES) -> dict[str, str]:
    """{name without suffix: name} of the files of a folder with one of those suffixes.

    Raises:
        ValueError: the folder is missing, or two files differ in their suffix alone.
    """
    names: dict[str, str] = {}
    for name in disk.list_files(disk.require(folder, what)):
        if not name.lower().endswith(tuple(suffixes)):
            continue
        stem = name.rpartition(".")[0]
        if stem in names:
            raise ValueError(
                f"{folder} has {visible(names[stem])} and {visible(name)}, which would share a label map: rename one."
            )
        names[stem] = name
    return names


def pairs_of_folders(images: Path, masks: Path, below: str, suffix: str | None = None) -> list[SegmentedImage]:
    """The images in `images/below`, each with the label map of its name in `masks/below`.

    Args:
        suffix: the suffix by which the image of a label map without one is reported as missing; None: a label map without image
            is another error.
    """
    pictures = stems(images / below, "the folder of images")
    maps = stems(masks / below, "the folder of label maps", [SUFFIX])
    for stem in (stem for stem in maps if stem not in pictures):
        if suffix is None:
            raise ValueError(f"the label map {masks / below / visible(maps[stem])} has no image in {images / below}: add it.")
        pictures[stem] = stem + suffix
    prefix = f"{below}/" if below else ""
    return [SegmentedImage(prefix + pictures[stem], prefix + stem + SUFFIX) for stem in sorted(pictures)]


def pairs_of_list(path: Path, what: str, image: str, mask: str) -> list[SegmentedImage]:
    """The images that a text file names, one a line without folder and suffix; `image` and `mask` are patterns with {}.

    Raises:
        ValueError: the file is missing, empty, or has a line that is no name.
    """
    lines = disk.read_text(path, what)
    if not lines:
        raise ValueError(f"{what} {path} names no image: download it again.")
    for number, line in enumerate(lines, 1):
        if not line.replace("_", "").replace("-", "").isalnum() or not line.isascii():
            raise ValueError(
                f"{what} {path}, entry {number}: {visible(line)[:60]!r} is no name of an image without folder and suffix, "
                "such as 2007_000032."
            )
    return [SegmentedImage(image.format(line), mask.format(line)) for line in lines]
