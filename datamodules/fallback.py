"""Splits from the datasets' own files, used where the published split json is missing, and clean-ups of class names.

Each class reads one dataset's layout, as CoOp's loaders do. Listings are sorted (CoOp's follow the file system).
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules import disk
from datamodules.class_folders import class_items
from datamodules.items import Item, Splits, by_label
from datamodules.mat import load_mat
from files.untrusted import read_json


def split_503020(groups: Iterable[list[Item]], rng: random.Random) -> Splits:
    """Half of each class for training, a fifth for validation, the rest for testing. Shuffles the groups in place."""
    train, val, test = [], [], []
    for group in groups:
        rng.shuffle(group)
        n_train, n_val = round(len(group) * 0.5), round(len(group) * 0.2)
        train += group[:n_train]
        val += group[n_train : n_train + n_val]
        test += group[n_train + n_val :]
    return Splits(train, val, test)


def split_8020(trainval: list[Item], test: list[Item], rng: random.Random) -> Splits:
    """A fifth of each class's training images for validation."""
    train, val = [], []
    for group in by_label(trainval).values():
        n_val = round(len(group) * 0.2)
        rng.shuffle(group)
        val += group[:n_val]
        train += group[n_val:]
    return Splits(train, val, test)


def camel_to_underscores(name: str) -> str:
    """ApplyEyeMakeup -> Apply_Eye_Makeup."""
    return "_".join(re.findall("[A-Z][^A-Z]*", name))


def year_first(name: str) -> str:
    """Acura RL Sedan 2012 -> 2012 Acura RL Sedan."""
    *words, year = name.split(" ")
    return " ".join([year, *words])


def sun_name(category: str) -> str:
    """/b/bow_window/outdoor -> outdoor bow_window."""
    return " ".join(reversed(category.strip("/").split("/")[1:]))


def _integer(value: Any) -> int:
    """A label that MATLAB may have stored as a float."""
    if int(value) != value:
        raise ValueError(f"the label {value!r} is no integer")
    return int(value)


class _Lists:
    """A fallback that makes a split from the files in `needs` (see `datamodules.split_json.Fallback`).

    Called with the dataset's folder, the image folder and the generator for random splits. ValueError, in one sentence, for a
    file that is missing or that it cannot read.
    """

    needs: dict[str, str] = {}

    def __call__(self, folder: Path, images: Path, rng: random.Random) -> Splits:
        for path, what in self.needs.items():
            disk.require(folder / path, what)
        try:
            return self.read(folder, images, rng)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            if str(folder) in str(error):  # already a message of this project, which names the file
                raise
            lists = ", ".join(self.needs) or str(images)
            raise ValueError(
                f"the lists of {folder} ({lists}) are not in their usual form ({error!r}): download them again"
            ) from error

    def read(self, folder: Path, images: Path, rng: random.Random) -> Splits:
        """The split. May raise any error that parsing a damaged file causes."""
        raise NotImplementedError


class ClassFolders(_Lists):
    """One folder per class (Caltech101, Food101, DTD, EuroSAT), each split 50/20/30.

    Args:
        ignore: folders that are no classes.
        rename: {folder: class name}; the other classes are named like their folders.
    """

    def __init__(self, ignore: Sequence[str] = (), rename: Mapping[str, str] | None = None):
        self.ignore, self.rename = set(ignore), dict(rename or {})

    def read(self, folder: Path, images: Path, rng: random.Random) -> Splits:
        """The 50/20/30 split of the class folders in `images`."""
        folders = [folder for folder in disk.list_folders(images) if folder not in self.ignore]
        groups = [class_items(images, folder, label, self.rename.get(folder, folder)) for label, folder in enumerate(folders)]
        return split_503020(groups, rng)


class Pets(_Lists):
    """Official trainval / test lists with lines `Abyssinian_100 1 1 1`."""

    needs = {"annotations/trainval.txt": "the training list", "annotations/test.txt": "the test list"}

    def read(self, folder: Path, images: Path, rng: random.Random) -> Splits:
        """The official lists, a fifth of trainval for validation."""
        lists = []
        for path, what in self.needs.items():
            columns = [line.split() for line in disk.read_text(folder / path, what)]
            lists.append([Item(f"{c[0]}.jpg", int(c[1]) - 1, c[0].rpartition("_")[0].lower()) for c in columns])
        return split_8020(*lists, rng)  # type: ignore[arg-type, call-arg]


class Cars(_Lists):
    """Official train / test annotations; the year goes to the front of a name."""

    needs = {
        "devkit/cars_train_annos.mat": "the training annotations",
        "cars_test_annos_withlabels.mat": "the test annotations with labels",
        "devkit/cars_meta.mat": "the class names",
    }

    def read(self, folder: Path, images: Path, rng: random.Random) -> Splits:
        """The official annotations, a fifth of train for validation."""
        train, test, meta = self.needs
        names = [year_first(str(name)) for name in load_mat(folder / meta, self.needs[meta], "class_names")]
        lists = []
        for path, where in ((train, "cars_train"), (test, "cars_test")):
            rows = load_mat(folder / path, self.needs[path], "annotations").ravel()
            labels = [_integer(row["class"]) - 1 for row in rows]
            lists.append([Item(f"{where}/{row['fname']}", y, names[y]) for row, y in zip(rows, labels, strict=True)])
        return split_8020(*lists, rng)  # type: ignore[arg-type, call-arg]


class Flowers(_Lists):
    """50/20/30 per class over all images; the official setid split is not used."""

    needs = {"imagelabels.mat": "the labels", "cat_to_name.json": "the class names"}

    def read(self, folder: Path, images: Path, rng: random.Random) -> Splits:
        """The 50/20/30 split of all images."""
        labels = [_integer(label) for label in load_mat(folder / "imagelabels.mat", "the file of labels", "labels").ravel()]
        names = read_json(folder / "cat_to_name.json", "the file of class names")
        items = [Item(f"image_{i:05d}.jpg", y - 1, names[str(y)]) for i, y in enumerate(labels, start=1)]
        return split_503020(by_label(items).values(), rng)


class Sun(_Lists):
    """Partition 01; a label is the category's line in ClassName.txt."""

    needs = {
        "ClassName.txt": "the class list",
        "Training_01.txt": "the training list",
        "Testing_01.txt": "the test list",
    }

    def read(self, folder: Path, images: Path, rng: random.Random) -> Splits:
        """The lists of partition 01, a fifth of train for validation."""
        labels = {name: i for i, name in enumerate(disk.read_text(folder / "ClassName.txt", "the class list"))}
        lists = []
        for path in ("Training_01.txt", "Testing_01.txt"):
            pairs = [(line, line.rpartition("/")[0]) for line in disk.read_text(folder / path, self.needs[path])]
            lists.append([Item(line.lstrip("/"), labels[c], sun_name(c)) for line, c in pairs])
        return split_8020(*lists, rng)  # type: ignore[arg-type, call-arg]


class Ucf(_Lists):
    """Split 01, the middle frame of each clip: `ApplyEyeMakeup/v_x.avi 1` is `Apply_Eye_Makeup/v_x.jpg`."""

    needs = {
        "ucfTrainTestlist/classInd.txt": "the class list",
        "ucfTrainTestlist/trainlist01.txt": "the training list",
        "ucfTrainTestlist/testlist01.txt": "the test list",
    }

    def read(self, folder: Path, images: Path, rng: random.Random) -> Splits:
        """The lists of split 01, a fifth of train for validation."""
        classes, *paths = self.needs
        columns = [line.split() for line in disk.read_text(folder / classes, self.needs[classes])]
        labels = {name: int(number) - 1 for number, name in columns}
        lists = []
        for path in paths:
            clips = [line.split()[0].split("/") for line in disk.read_text(folder / path, self.needs[path])]
            named = [(labels[action], camel_to_underscores(action), clip) for action, clip in clips]
            lists.append([Item(f"{name}/{clip.replace('.avi', '.jpg')}", y, name) for y, name, clip in named])
        return split_8020(*lists, rng)  # type: ignore[arg-type, call-arg]
