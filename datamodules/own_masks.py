"""A user's own images with label maps. Nothing is written there."""

from __future__ import annotations

from pathlib import Path

from datamodules import disk
from datamodules.label_maps import check_classes, plain_table
from datamodules.segmented_disk import Lists, SegmentedDisk, pairs_of_folders
from datamodules.segmented_items import SegmentedImage
from files.untrusted import text_of


class OwnMasks(SegmentedDisk):
    """`FOLDER/{train,val,test}/images/NAME.jpg` with `FOLDER/{train,val,test}/masks/NAME.png`, and `FOLDER/classes.txt`.

    A pixel of a mask has the number of its class, which is the line of classes.txt less one; 255 is left out.

    Args:
        root: the folder where `folder` is null.
        folder: the folder.
        train, val, test: the folder of each split; train and val may be null, and the folder of val may be missing.
        images, masks: the folders in each of them.
        classes: the file of class names in `folder`, one a line.
        reduce_zero_label: 0 is ignored, and the first class has the number 1.
        held_out: as in `SegmentedDisk`.
    """

    def __init__(
        self,
        root: str,
        folder: str | None = None,
        train: str | None = "train",
        val: str | None = "val",
        test: str = "test",
        images: str = "images",
        masks: str = "masks",
        classes: str = "classes.txt",
        reduce_zero_label: bool = False,
        held_out: int = 0,
    ) -> None:
        super().__init__(str(Path(folder or root).expanduser()), "", held_out=held_out)
        self.split_folders = {"train": train, "val": val, "test": test}
        self.parts, self.classes, self.reduce_zero_label = (images, masks), classes, reduce_zero_label
        self.needs = {classes: "the list of classes"} | {
            f"{name}/{part}": f"the folder of the {split} {what}"
            for split, name in self._given().items()
            for part, what in ((images, "images"), (masks, "label maps"))
        }

    def _given(self) -> dict[str, str]:
        there = {split: name for split, name in self.split_folders.items() if name}
        if "val" in there and not (self.folder / there["val"]).is_dir():
            del there["val"]
        return there

    def listed(self) -> Lists:
        """The items in the folders. Sets the classes. ValueError for a malformed list of classes or folder."""
        path = self.folder / self.classes
        names = [text_of(name, f"{path}: a class name", 200) for name in disk.read_text(path, "the list of classes")]
        self.classnames = check_classes(names, str(path))
        self.table = plain_table(len(names), self.reduce_zero_label)
        return {split: self._items(split, name) for split, name in self._given().items()}

    def _items(self, split: str, name: str) -> list[SegmentedImage]:
        images, masks = (f"{name}/{part}" for part in self.parts)
        pairs = pairs_of_folders(self.folder / images, self.folder / masks, "")
        if not pairs:
            raise ValueError(f"{self.folder / images} holds no image: put the {split} images there, or set {split} to null.")
        return [SegmentedImage(f"{images}/{item.path}", f"{masks}/{item.mask}") for item in pairs]
