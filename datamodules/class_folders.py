"""Images in class folders, `FOLDER/CLASS/FILE`: functions for several sources, and a source for a user's dataset."""

from collections.abc import Mapping
from pathlib import Path

from datamodules import disk
from datamodules.items import Item, Splits, item_of
from files.untrusted import path_within, text_of, visible


def class_folders(folder: Path, named_by: str = "its class") -> list[str]:
    """Sorted names of the class folders in a folder; `named_by` says in the message what the folders are named by.

    Raises:
        ValueError: the folder does not exist, has no class folders, or one whose name leads out of it.
    """
    names = disk.list_folders(disk.require(folder, "the image folder"))
    if not names:
        raise ValueError(f"{folder} has no class folders: each image belongs in a folder named by {named_by}")
    return [path_within(name, f"a folder in {folder}") for name in names]


def class_items(images: Path, folder: str, label: int, classname: str) -> list[Item]:
    """Every visible file in `images/folder`, sorted by name, as an item of that class."""
    return [Item(f"{folder}/{file}", label, classname) for file in disk.list_files(images / folder)]


def require_class_folders(images: Path, names: list[str], named_by: str) -> None:
    """Raises `disk.MissingFilesError` unless `images` has a folder of each name."""
    absent = sorted(set(names) - set(disk.list_folders(images)))
    if absent:
        raise disk.MissingFilesError(absent, images, named_by, "class folder(s)")


def image_files(folder: Path) -> list[str]:
    """Sorted names of the images in a class folder. ValueError where it holds anything else."""
    if nested := disk.list_folders(folder):
        raise ValueError(
            f"{folder} holds the folder {visible(nested[0])}: images belong directly in their class folder, move them there"
        )
    names = disk.list_files(folder)
    if others := [name for name in names if not disk.is_image_name(name)]:
        raise ValueError(
            f"{folder / visible(others[0])} is not named like an image ({', '.join(disk.SUFFIXES)}): move it away, or rename it"
        )
    return names


class SplitFolders(disk.Disk):
    """A dataset whose splits are folders of class folders: `root/train/CLASS/FILE`, `root/val/...`, `root/test/...`.

    Labels are the positions in the sorted names of the class folders. Every split has the same class folders; those of
    validation and test images may be empty.

    Args:
        root: the dataset's folder.
        train: the folder of the training images; None: the dataset is for evaluation alone.
        val: the folder of the validation images; None, or where it does not exist: there are none.
        test: the folder of the test images.
        rename: {class folder: class name}; the other classes are named like their folders, with spaces for underscores.
    """

    def __init__(
        self,
        root: str,
        train: str | None = "train",
        val: str | None = "val",
        test: str = "test",
        rename: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(root, "")
        self.split_folders = {"train": train, "val": val, "test": test}
        given = [folder for folder in self.split_folders.values() if folder is not None]
        for folder in given:
            path_within(folder, "a split's folder (train, val and test of the source)")
        if len(set(given)) < len(given):
            raise ValueError(f"train={train}, val={val} and test={test} must be different folders: leave out val by val=null")
        self.rename = {str(folder): name for folder, name in (rename or {}).items()}  # yaml reads a folder 01 as a number

    @property
    def needs(self) -> dict[str, str]:  # type: ignore[override]
        """The folders that must be there: {folder: what it holds}."""
        needed = {self.split_folders["train"]: "the training images", self.split_folders["test"]: "the test images"}
        return {folder: what for folder, what in needed.items() if folder is not None}

    def splits(self, seed: int) -> Splits:
        """The lists, the same for every seed. ValueError, in one sentence, where the folders are not as described above."""
        folders = self._present()
        first = folders.get("train", folders["test"])
        names = self._classnames(first, class_folders(self.images / first))
        lists = {split: self._items(folder, names, first) for split, folder in folders.items()}
        return Splits(lists.get("train", []), lists.get("val", []), lists["test"])

    def _present(self) -> dict[str, str]:
        """{split: folder} of the splits that exist."""
        disk.require(self.folder, "the dataset's folder")
        here = disk.list_folders(self.folder)
        for split, folder in self.split_folders.items():
            if folder is None or (self.images / folder).is_dir():
                continue
            similar = [name for name in here if name.lower().startswith("val") and name not in self.split_folders.values()]
            if split != "val" or similar:
                others = visible(", ".join(here)) or "none"
                raise ValueError(
                    f"{self.folder} has no folder {folder} for the {split} images, only {others}: put them there as "
                    f"{folder}/CLASS/IMAGE, or say which folder it is by {split}=NAME of the source"
                )
        return {split: folder for split, folder in self.split_folders.items() if folder and (self.images / folder).is_dir()}

    def _classnames(self, first: str, folders: list[str]) -> dict[str, str]:
        """{class folder: class name}, by label."""
        if unknown := sorted(set(self.rename) - set(folders)):
            raise ValueError(f"rename names the class folder {unknown[0]!r}, which {self.images / first} lacks: correct it")
        names = {folder: self.rename.get(folder, " ".join(folder.replace("_", " ").split())) for folder in folders}
        folder_of: dict[str, str] = {}
        for folder, name in names.items():
            text_of(name, f"the name of the class folder {folder!r} in {self.images / first}")
            other = folder_of.setdefault(name, folder)
            if other != folder and not {folder, other} <= set(self.rename):  # two classes may share a name on purpose
                raise ValueError(
                    f"the class folders {other!r} and {folder!r} in {self.images / first} have the same class name {name!r}: "
                    "make them one, or give both their names by rename={FOLDER: NAME} of the source"
                )
        return names

    def _items(self, folder: str, names: dict[str, str], first: str) -> list[Item]:
        root = self.images / folder
        here = dict.fromkeys(class_folders(root))
        if unknown := [name for name in here if name not in names]:
            raise ValueError(
                f"{root} has the class folder {unknown[0]}, which {self.images / first} lacks ({len(unknown)} such): move it "
                "away, or add it there with images"
            )
        if absent := [name for name in names if name not in here]:
            raise ValueError(
                f"{root} has no class folder {absent[0]}, which {self.images / first} has ({len(absent)} such): add it, empty "
                "where there are no images of that class"
            )
        if stray := [name for name in disk.list_files(root) if disk.is_image_name(name)]:
            raise ValueError(
                f"{root / visible(stray[0])} is in no class folder ({len(stray)} such images): move it into its class's folder"
            )
        items = []
        for label, (name, classname) in enumerate(names.items()):
            files = image_files(root / name)
            if not files and folder == first:
                raise ValueError(f"the class folder {root / name} is empty: put images there, or remove it")
            paths = (f"{folder}/{name}/{file}" for file in files)
            items += [item_of((path, label, classname), f"{path!r} of {self.folder}") for path in paths]
        return items
