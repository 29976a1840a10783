"""ImageNet and its test-only variants: one folder per class."""

import hashlib
import logging
from functools import cache
from pathlib import Path

from datamodules import disk, identity, pickles
from datamodules.class_folders import class_folders, class_items, require_class_folders
from datamodules.items import Item, Splits
from files.untrusted import read_bytes, text_of

log = logging.getLogger(__name__)


def open_clip_names() -> list[str]:
    """The 1,000 class names that ship with open_clip, by label."""
    from prompts.engine.imagenet_names import IMAGENET_CLASSNAMES

    return list(IMAGENET_CLASSNAMES)


@cache
def names_by_wnid() -> dict[str, str]:
    """open_clip's names by WordNet id, in order of label (the ids ship with timm, which open_clip needs)."""
    from timm.data import ImageNetInfo

    wnids = ImageNetInfo("imagenet-1k").label_names()
    return dict(zip(wnids, open_clip_names(), strict=True))


def class_names(folder: Path) -> dict[str, str]:
    """Names by WordNet id from the folder's classnames.txt (`n01440764 tench`), else open_clip's.

    Different classes can share a name (crane); only their ids and labels differ.
    """
    path = folder / "classnames.txt"
    if not path.exists():
        log.info("%s does not exist: open_clip's ImageNet class names are used", path)
        return names_by_wnid()
    names = {}
    for number, line in enumerate(disk.read_text(path, "the file of class names"), start=1):
        wnid, _, name = line.partition(" ")
        if not name:
            raise ValueError(f"{path}, line {number}: '{line}' is not `<id> <class name>`")
        names[wnid] = text_of(name, f"{path}, line {number}: the class name")
    return names


def _wnid_folders(images: Path, names: dict[str, str], source: Path) -> list[str]:
    """The class folders in `images`, each of which must be a key of `names`, which `source` holds."""
    named_by = "its class's WordNet id (n01440764/...); for ImageNet's flat validation archive, valprep.sh moves them"
    wnids = class_folders(images, named_by)
    unknown = [wnid for wnid in wnids if wnid not in names]
    if unknown:
        raise ValueError(
            f"{len(unknown)} folder(s) in {images} are no class of {source}, the first is {unknown[0]}: move them away"
        )
    return wnids


def _folders_digest(source: disk.Disk, images: dict[str, Path]) -> str:
    """A digest of the class folders and files in each of `images`, of some files' sizes, and of classnames.txt.

    Without that file the names are open_clip's, which would take seconds to import and are the same everywhere.
    """
    disk.require(source.folder, "the dataset's folder")
    path = source.folder / "classnames.txt"
    names = disk.read_text(path, "the file of class names") if path.exists() else []
    listings: dict[str, dict[str, list[str]]] = {}
    for split, root in images.items():
        disk.require(root, "the image folder")
        listings[split] = {name: disk.list_files(root / name) for name in disk.list_folders(root)}
    sizes = [
        identity.file_sizes(root, [f"{name}/{file}" for name, files in listings[split].items() for file in files])
        for split, root in images.items()
    ]
    return identity.digest_of(names, listings, sizes)


class ImageNet(disk.Disk):
    """The published lists have no validation images of their own (val is test): a run that chooses holds out training images.

    Images of a class are in sorted order. CoOp's code takes them in the order of the file system, so only its pickles reproduce
    its few-shot sets.

    Args:
        legacy: take the lists from CoOp's pickles: from split_fewshot/shot_K-seed_S.pkl if it is there, else sampled from
            preprocessed.pkl.
        shots: K, for `legacy`.
    """

    needs = {"images/train": "the training images", "images/val": "the validation images"}

    def __init__(self, root: str, folder: str, images: str = "images", legacy: bool = False, shots: int = 0):
        super().__init__(root, folder, images)
        self.legacy, self.shots = legacy, shots

    def splits(self, seed: int) -> Splits:
        """Training and test images; the validation list is the test list."""
        disk.require(self.folder, "the dataset's folder")
        if self.legacy:
            return self._imported(seed)
        names = class_names(self.folder)
        wnids = _wnid_folders(self.images / "train", names, self.folder / "classnames.txt")
        train, val = (self._list(split, wnids, names) for split in ("train", "val"))
        return Splits(train, val, val, fixed=frozenset({"val"}))

    def digest(self, seed: int) -> str:
        """A digest of the class folders and, with `legacy`, of the pickles' bytes, as reading their lists takes half a
        minute."""
        folders = _folders_digest(self, {split: self.images / split for split in ("train", "val")})
        if not self.legacy:
            return folders
        preprocessed, few_shot = self._pickles(seed)
        of_all_seeds = few_shot.parent.glob(few_shot.name.replace(f"seed_{seed}.", "seed_*."))
        files = sorted(path for path in (preprocessed, *of_all_seeds) if path.exists())
        digests = [hashlib.sha256(read_bytes(path, "the list of images")).hexdigest() for path in files]
        return identity.digest_of(folders, digests)

    def _list(self, split: str, wnids: list[str], names: dict[str, str]) -> list[Item]:
        root = disk.require(self.images / split, "the image folder")
        require_class_folders(root, wnids, "the training images")
        lists = (class_items(self.images, f"{split}/{wnid}", label, names[wnid]) for label, wnid in enumerate(wnids))
        return [item for items in lists for item in items]

    def _pickles(self, seed: int) -> tuple[Path, Path]:
        return self.folder / "preprocessed.pkl", self.folder / "split_fewshot" / f"shot_{self.shots}-seed_{seed}.pkl"

    def _imported(self, seed: int) -> Splits:
        preprocessed, few_shot = self._pickles(seed)
        lists = pickles.read_item_lists(disk.require(preprocessed, "legacy=true, but the list of images"), self.images.name)
        fixed, pool = {"val"}, None
        if self.shots > 0 and few_shot.exists():
            pool = lists.get("train")  # validation images are held out of all of them
            lists["train"] = pickles.read_item_lists(few_shot, self.images.name).get("train", [])
            fixed.add("train")
        if not {"train", "test"} <= set(lists):
            raise ValueError(f"{self.folder / 'preprocessed.pkl'} holds {sorted(lists)} in place of train and test")
        disk.check_images(self.images, (*lists["train"], *lists["test"]), "CoOp's pickles")
        return Splits(lists["train"], lists["test"], lists["test"], fixed=frozenset(fixed), pool=pool)


class TestFolders(disk.Disk):
    """A test-only variant of ImageNet.

    Args:
        numbered: class folders are named by the class's number (V2), not by its WordNet id (Sketch, A, R).
    """

    __test__ = False  # pytest must not collect it

    def __init__(self, root: str, folder: str, images: str, numbered: bool = False):
        super().__init__(root, folder, images)
        self.numbered = numbered

    def splits(self, seed: int) -> Splits:
        """The test images alone, classes in the order of their ids or numbers."""
        disk.require(self.folder, "the dataset's folder")
        names = class_names(self.folder)
        if self.numbered:
            disk.require(self.images, "the image folder")
            classes = [(str(label), name) for label, name in enumerate(names.values())]
            require_class_folders(self.images, [number for number, _ in classes], "the class list")
        else:
            wnids = _wnid_folders(self.images, names, self.folder / "classnames.txt")
            classes = [(wnid, names[wnid]) for wnid in wnids]
        lists = (class_items(self.images, folder, label, name) for label, (folder, name) in enumerate(classes))
        return Splits([], [], [item for items in lists for item in items])

    def digest(self, seed: int) -> str:
        """A digest of the class folders and the files in them."""
        return _folders_digest(self, {"test": self.images})
