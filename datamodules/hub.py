"""The same datasets through Hugging Face's `datasets`. Their splits are those of the repository, not CoOp's."""

import io
import logging
import os
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image

from datamodules import disk, identity
from datamodules.fallback import split_8020, split_503020
from datamodules.items import Item, Splits, by_label
from files.untrusted import MAX_CLASSES, regular_file, text_of

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

log = logging.getLogger(__name__)
CARVE_SEED = 1  # fixed, as a test set must not depend on the run's seed


class HubSource:
    """A dataset that `datasets.load_dataset` reads.

    Args:
        repo: a repository id or a local folder; with `builder` the folder of its files.
        builder: the builder of local files (parquet, imagefolder, ...); None: the repository's own.
        config, revision: of the repository, as `load_dataset` takes them.
        train, val, test: names of the splits; val may be test, as for ImageNet. Without val a fifth of each class of train is
            held out for it; without test, too, each class is split 50/20/30. With test alone the dataset is for evaluation
            only.
        image, label: names of the columns.
        classnames: names by label, where the repository has none (or not CLIP's), or a function that gives them.
        rename: {stored name: class name} for some classes, or a function that gives it.
        clean: makes a class name of the other stored names (underscores are fine).
        ignore: stored names of classes that are dropped.
    """

    def __init__(
        self,
        repo: str | None,
        builder: str | None = None,
        config: str | None = None,
        revision: str | None = None,
        train: str | None = "train",
        val: str | None = None,
        test: str | None = None,
        image: str = "image",
        label: str = "label",
        classnames: Sequence[str] | Callable[[], Sequence[str]] | None = None,
        rename: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
        clean: Callable[[str], str] | None = None,
        ignore: Sequence[str] = (),
    ):
        self.repo, self.builder, self.config, self.revision = repo, builder, config, revision
        self.names = {"train": train, "val": val, "test": test}
        self.image, self.label = image, label
        self._classnames, self._rename, self.clean, self.ignore = classnames, rename or {}, clean or str, ignore

    @cached_property
    def classnames(self) -> Sequence[str] | None:
        """Names by label that replace the repository's."""
        return self._classnames() if callable(self._classnames) else self._classnames

    @cached_property
    def rename(self) -> Mapping[str, str]:
        """{stored name: class name} of some classes."""
        return self._rename() if callable(self._rename) else self._rename

    @cached_property
    def _data(self) -> "DatasetDict":
        if self.repo is None:
            raise ValueError(
                "no hub repository is known for this dataset: set data.source.hub.repo to a repository id or a local "
                "folder (and builder, split and column names beside it), or use source=disk"
            )
        import datasets

        try:
            if self.builder:
                loaded = datasets.load_dataset(self.builder, data_dir=self.repo)
            else:
                loaded = datasets.load_dataset(self.repo, self.config, revision=self.revision)
        except Exception as error:  # no network, no such repository, gated, no space, broken files: one message for all
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(
                f"the dataset {self.repo} cannot be loaded through `datasets` ({reason}): check the name and the "
                f"network, set data.source.hub.repo to a local copy, or use source=disk"
            ) from error
        for name in filter(None, self.names.values()):
            if name not in loaded:
                raise ValueError(
                    f"{self.repo} has no split {name}, only {', '.join(loaded)}: set train, val and test in data.source.hub"
                )
            for column in self.columns.values():
                if column not in loaded[name].column_names:
                    raise ValueError(
                        f"{self.repo} has no column {column}, only {', '.join(loaded[name].column_names)}: "
                        f"set {' and '.join(self.columns)} in data.source.hub"
                    )
        return loaded

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are read, by the argument that names them."""
        return {"image": self.image, "label": self.label}

    def splits(self, seed: int) -> Splits:
        """The repository's splits, or those made of them; the same for every seed. ValueError for labels without names."""
        used = {split: name for split, name in self.names.items() if name}
        stored = {name: self._labels(name) for name in used.values()}
        classes = self._classes(self._data[next(iter(used.values()))], stored)
        lists = {split: self._items(name, list(stored[name]), classes) for split, name in used.items()}
        if not (lists.get("train") or lists.get("test")):
            raise ValueError(f"{self.repo} has no images in {', '.join(stored)}")
        train, val, test = (lists.get(split, []) for split in ("train", "val", "test"))
        rng = random.Random(CARVE_SEED)
        if "train" in lists and "test" not in lists:
            log.warning("%s has no test split: each class is split 50/20/30, as nobody else does", self.repo)
            return split_503020(by_label(sorted([*train, *val])).values(), rng)
        if "train" in lists and "val" not in lists:
            log.warning("%s has no validation split: a fifth of each class's training images is held out", self.repo)
            return split_8020(train, test, rng)
        same = bool(val) and self.names["val"] == self.names["test"]  # as for ImageNet: nothing may be chosen on it
        return Splits(train, val, test, fixed=frozenset({"val"} if same else ()))

    def digest(self, seed: int) -> str:
        """A digest of the lists and the sizes of some images. The repository's name, which may be a folder, does not enter."""
        splits = self.splits(seed)
        paths = sorted({item.path for items in (splits.train, splits.val, splits.test) for item in items})
        sizes = [self.size(paths[i]) for i in identity.spread_positions(len(paths))]
        return identity.lists_digest(splits, sizes)

    def _labels(self, name: str) -> list[int] | list[str]:
        """The label column: numbers or text alone. ValueError for anything else."""
        labels = list(self._data[name][self.label])
        types = sorted({type(value).__name__ for value in labels})
        if len(types) > 1 or not {"int", "str"}.issuperset(types):
            raise ValueError(
                f"the labels of {name} in {self.repo} are of type {', '.join(types)}: they must be all integers or all text "
                "(data.source.hub.label names their column)"
            )
        return labels

    def _classes(self, data: "Dataset", stored: Mapping[str, Sequence]) -> dict[int | str, tuple[int, str]]:
        """{value in the label column: (label, class name)}; labels are renumbered where classes are ignored."""
        values = sorted({value for column in stored.values() for value in column})
        if len(values) > MAX_CLASSES:
            raise ValueError(f"{self.repo} has {len(values):,} classes, more than {MAX_CLASSES:,}")
        if values and isinstance(values[0], str):
            names = dict(zip(values, self.classnames or values, strict=False))
        else:
            known = self.classnames or getattr(data.features[self.label], "names", None)
            if known is None:
                raise ValueError(f"{self.repo} has labels without names: set data.source.hub.classnames to a list")
            names = dict(enumerate(known))
        if values and (unnamed := [value for value in values if value not in names]):
            raise ValueError(f"{self.repo} has a label {unnamed[0]}, but {len(names)} class names: correct classnames")
        kept = [(value, name) for value, name in names.items() if name not in self.ignore]
        renamed = ((value, self.rename.get(name) or self.clean(name)) for value, name in kept)
        return {value: (i, text_of(name, f"a class name of {self.repo}")) for i, (value, name) in enumerate(renamed)}

    def _items(self, name: str, column: list, classes: dict) -> list[Item]:
        return [Item(f"{name}/{i}", *classes[value]) for i, value in enumerate(column) if value in classes]

    @cached_property
    def _encoded(self) -> dict[str, "Dataset"]:
        """The same data with images as they are stored."""
        import datasets

        for name, split in self._data.items():
            if not isinstance(split.features[self.image], datasets.Image):
                raise ValueError(f"the column {self.image} in {name} of {self.repo} holds no images: set data.source.hub.image")
        return {name: split.cast_column(self.image, datasets.Image(decode=False)) for name, split in self._data.items()}

    def stored(self, path: str) -> dict[str, Any]:
        """{"bytes", "path"} of an image. ValueError for a path that leads out of the repository and the hub's caches."""
        import datasets
        from huggingface_hub import constants

        name, _, row = path.rpartition("/")
        value = self._encoded[name][int(row)][self.image]
        if value["bytes"] is None:
            folders = (self.repo, datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH)
            homes = [os.path.abspath(home) for home in (*folders, constants.HF_HUB_CACHE)]
            if not any(Path(os.path.abspath(value["path"] or "")).is_relative_to(home) for home in homes):
                raise ValueError(f"it names the file {value['path']!r}, which is not the dataset's own")
            regular_file(value["path"], "the image")
        return value

    def open(self, item: Item) -> PIL.Image.Image:
        """The image in RGB. ValueError, which names it, where it cannot be decoded."""
        try:
            stored = self.stored(item.path)
            disk.known_format(stored["path"] if stored["bytes"] is None else io.BytesIO(stored["bytes"]))
            features = self._data[item.path.rpartition("/")[0]].features
            return features[self.image].decode_example(stored).convert("RGB")
        except Exception as error:  # decoders raise many kinds
            raise ValueError(f"image {item.path} of {self.repo} cannot be decoded ({error}): fetch it again") from error

    def size(self, path: str) -> int:
        """Bytes of an image as it is stored; -1 where its file is not there."""
        stored = self.stored(path)
        return identity.file_size(Path(stored["path"])) if stored["bytes"] is None else len(stored["bytes"])
