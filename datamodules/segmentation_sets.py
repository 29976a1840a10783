"""ADE20K, Pascal VOC, Pascal Context, Cityscapes and COCO-Stuff as they are downloaded and unpacked.

Papers report their public validation images, so these are the test list; validation images are held out of training.
"""

from __future__ import annotations

import os

from datamodules import disk
from datamodules.label_maps import known_classes, plain_table, table_of
from datamodules.segmented_disk import Lists, SegmentedDisk, pairs_of_folders, pairs_of_list
from datamodules.segmented_items import IGNORE, SegmentedImage

# Cityscapes: the 19 of 34 label ids that are trained and tested, in the order of their train ids, and their colours
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_COLOURS = [
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
    (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70),
    (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
]  # fmt: skip


def palette(count: int) -> list[tuple[int, int, int]]:
    """Pascal VOC's colours by id: the bits of the id, spread over red, green and blue from the highest bit down."""

    def channel(label: int, first: int) -> int:
        return sum((label >> (3 * bit + first) & 1) << (7 - bit) for bit in range(3))

    return [(channel(label, 0), channel(label, 1), channel(label, 2)) for label in range(count)]


class ADE20K(SegmentedDisk):
    """`ADEChallengeData2016/{images,annotations}/{training,validation}`: the 150 classes of the scene parsing challenge.

    In the files 0 means no class and is ignored; 1 to 150 are the classes.
    """

    def __init__(self, root: str, folder: str = "ADEChallengeData2016", held_out: int = 0) -> None:
        super().__init__(root, folder, "images", "annotations", held_out)
        self.classnames = list(known_classes("ade20k"))
        self.table = plain_table(len(self.classnames), reduce_zero_label=True)
        self.needs = {
            f"{part}/{split}": f"the folder of {split} {what}"
            for part, what in (("images", "images"), ("annotations", "label maps"))
            for split in ("training", "validation")
        }

    def listed(self) -> Lists:
        """The items in the folders; an image without its label map, or the reverse, is then missing."""
        return {
            split: pairs_of_folders(self.images, self.masks, below, ".jpg")
            for split, below in (("train", "training"), ("test", "validation"))
        }


class VOC2012(SegmentedDisk):
    """`VOCdevkit/VOC2012`: 20 classes and background; 255 is the border of objects, and ignored.

    Args:
        train, test: a list in ImageSets/Segmentation, without .txt: train and val as published, or trainaug.
        masks: folders of label maps; of each image the first that has it. SegmentationClassAug has those of trainaug.
    """

    def __init__(
        self,
        root: str,
        folder: str = "VOCdevkit/VOC2012",
        train: str = "train",
        test: str = "val",
        masks: tuple[str, ...] | list[str] = ("SegmentationClass", "SegmentationClassAug"),
        held_out: int = 0,
    ) -> None:
        super().__init__(root, folder, "JPEGImages", "", held_out)
        self.lists, self.mask_folders = {"train": train, "test": test}, list(masks)
        if not self.mask_folders:
            raise ValueError("masks names no folder of label maps: give data.source.disk.masks=[SegmentationClass].")
        self.classnames, self.colours = list(known_classes("voc2012")), palette(21)
        self.table = plain_table(len(self.classnames))
        self.needs = {self.mask_folders[0]: "the folder of label maps"} | {
            f"ImageSets/Segmentation/{name}.txt": f"the list of the {split} images" for split, name in self.lists.items()
        }

    def listed(self) -> Lists:
        """The items of the lists."""
        there = {name: set(_names(self.folder / name)) for name in self.mask_folders}
        lists = {}
        for split, name in self.lists.items():
            path = self.folder / f"ImageSets/Segmentation/{name}.txt"
            items = pairs_of_list(path, f"the list of the {split} images", "{}.jpg", "{}.png")
            lists[split] = [SegmentedImage(item.path, f"{self._folder_of(item.mask, there)}/{item.mask}") for item in items]
        return lists

    def _folder_of(self, mask: str, there: dict[str, set[str]]) -> str:
        return next((name for name, files in there.items() if mask in files), self.mask_folders[0])


def _names(folder: os.PathLike) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


class PascalContext(SegmentedDisk):
    """`VOCdevkit/VOC2010` with `SegmentationClassContext` and `ImageSets/SegmentationContext`, as mmsegmentation's converter
    makes them of the annotations: numbers 0 to 59 in alphabetical order, 0 is background.

    Args:
        background: true: 60 classes; false: 59, and background is left out.
    """

    def __init__(self, root: str, folder: str = "VOCdevkit/VOC2010", background: bool = False, held_out: int = 0) -> None:
        super().__init__(root, folder, "JPEGImages", "SegmentationClassContext", held_out)
        names = list(known_classes("pascal_context"))
        self.classnames = names if background else names[1:]
        self.colours = palette(60)[0 if background else 1 :]
        self.table = plain_table(len(self.classnames), reduce_zero_label=not background)
        self.needs = {"SegmentationClassContext": "the folder of label maps"} | {
            f"ImageSets/SegmentationContext/{name}.txt": f"the list of the {split} images"
            for split, name in (("train", "train"), ("test", "val"))
        }

    def listed(self) -> Lists:
        """The items of the lists."""
        folder = self.folder / "ImageSets/SegmentationContext"
        return {
            split: pairs_of_list(folder / f"{name}.txt", f"the list of the {split} images", "{}.jpg", "{}.png")
            for split, name in (("train", "train"), ("test", "val"))
        }


class Cityscapes(SegmentedDisk):
    """`leftImg8bit/{train,val}/CITY/*_leftImg8bit.png` and `gtFine/{train,val}/CITY/*_gtFine_labelIds.png`: 19 of the 34 label
    ids are classes, the others are left out."""

    IMAGE, MASK = "_leftImg8bit.png", "_gtFine_labelIds.png"

    def __init__(self, root: str, folder: str = "cityscapes", held_out: int = 0) -> None:
        super().__init__(root, folder, "leftImg8bit", "gtFine", held_out)
        self.classnames, self.colours = list(known_classes("cityscapes")), CITYSCAPES_COLOURS
        ids = {number: train_id for train_id, number in enumerate(CITYSCAPES_IDS)}
        self.table = table_of({number: ids.get(number, IGNORE) for number in range(34)})
        self.needs = {
            f"{part}/{split}": f"the folder of {split} {what}"
            for part, what in (("leftImg8bit", "images"), ("gtFine", "label maps"))
            for split in ("train", "val")
        }

    def listed(self) -> Lists:
        """The images of all cities, and those of label maps whose image is missing."""
        return {split: self._items(below) for split, below in (("train", "train"), ("test", "val"))}

    def _items(self, below: str) -> list[SegmentedImage]:
        stems = set()
        for root, suffix in ((self.images, self.IMAGE), (self.masks, self.MASK)):
            folder = disk.require(root / below, f"the folder of {below} files")
            for city in disk.list_folders(folder):
                names = (name for name in disk.list_files(folder / city) if name.endswith(suffix))
                stems |= {f"{below}/{city}/{name.removesuffix(suffix)}" for name in names}
        return [SegmentedImage(stem + self.IMAGE, stem + self.MASK) for stem in sorted(stems)]


class COCOStuff(SegmentedDisk):
    """COCO's images of 2017 with the maps of COCO-Stuff: 80 classes of things and 91 of stuff. Of the numbers 0 to 181, which
    are the category ids less one, 11 were never used."""

    UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)

    def __init__(self, root: str, folder: str = "coco", masks: str = "stuffthingmaps", held_out: int = 0) -> None:
        super().__init__(root, folder, "", masks, held_out)
        self.classnames = list(known_classes("coco_stuff"))
        used = (number for number in range(182) if number not in self.UNUSED)
        self.table = table_of({number: label for label, number in enumerate(used)})
        self.needs = {
            f"{part}{split}": f"the folder of {split} {what}"
            for part, what in (("", "images"), (f"{masks}/", "label maps"))
            for split in ("train2017", "val2017")
        }

    def listed(self) -> Lists:
        """The items in the folders."""
        return {
            split: pairs_of_folders(self.images, self.masks, below, ".jpg")
            for split, below in (("train", "train2017"), ("test", "val2017"))
        }
