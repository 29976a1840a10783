"""ImageNet-21K, the processed release, and data of its form: class folders, tar shards or parquet, on a disk or a hub."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from datamodules import disk, identity, index, pickles
from datamodules.items import Item, ItemTable, Splits
from datamodules.parquet import Parquet
from datamodules.readers import Folders
from datamodules.tar_shards import WNID, TarShards
from files.untrusted import read_bytes, read_json, text_of
from files.whole import write_json

READERS = {"folder": Folders, "webdataset": TarShards, "parquet": Parquet}
TREE, CLASSNAMES = "imagenet21k_miil_tree", "classnames.txt"
MAX_TREE_BYTES = 64 * 2**20  # the release's has 2 MiB


def tree_names(folder: Path, keep: bool = True) -> dict[str, str]:
    """The release's own class names from its tree file, read without running anything in it; `keep` leaves a json beside it."""
    json_copy, tree = folder / f"{TREE}.json", folder / f"{TREE}.pth"
    if json_copy.exists():
        return _names(read_json(json_copy, "the file of class names", MAX_TREE_BYTES), json_copy)
    content = io.BytesIO(read_bytes(tree, "the file of class names", MAX_TREE_BYTES))
    try:
        names = _saved(content)["class_description"]
    except Exception as error:  # a hostile or truncated file can raise any error
        raise ValueError(
            f"{tree} is not read ({str(error).partition(chr(10))[0]}): it should hold plain names by WordNet id; download it "
            f"again, or move it away to get WordNet's names"
        ) from error
    names = _names(names, tree)
    if keep and os.access(folder, os.W_OK):
        write_json(json_copy, names)
    return names


def _saved(content: io.BytesIO) -> Any:
    """The plain data that `torch.save` wrote, in its zip format or the one before: magic number, protocol and types' sizes,
    each a pickle, and then the data. `torch.load` can be made to hang or to fill the memory, `weights_only` or not."""
    if not zipfile.is_zipfile(content):
        content.seek(0)
        return [pickles.read_plain(content) for _ in range(4)][-1]
    with zipfile.ZipFile(content) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MAX_TREE_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_TREE_BYTES // 2**20} MiB")
        data = next((member for member in members if member.filename.endswith("/data.pkl")), None)
        if data is None or data.compress_type != zipfile.ZIP_STORED:
            raise ValueError("it is no file of PyTorch")
        return pickles.read_plain(io.BytesIO(archive.read(data)))


def _names(names: Any, path: Path) -> dict[str, str]:
    if not isinstance(names, dict):
        raise ValueError(f"{path} is not read: it should hold plain names by WordNet id; download it again, or move it away")
    return {
        text_of(key, f"a WordNet id in {path}"): text_of(name, f"the name of {key} in {path}") for key, name in names.items()
    }


def wordnet_names() -> dict[str, str]:
    """The first lemma of each of the 21,844 synsets that timm describes."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    names: Any = info.label_descriptions(as_dict=True)
    names |= ImageNetInfo("imagenet-21k-goog").label_descriptions(as_dict=True)
    return {wnid: name.partition(",")[0] for wnid, name in names.items()}


class ImageNet21K(disk.Disk):
    """Labels are positions in the sorted class ids of the training images, however many those are; val is the test list.

    Args:
        format: how the images lie in the folder: folder, webdataset or parquet (`READERS`).
        repo, revision: a hub repository instead of the folder; its shards are fetched one by one to the hub's cache.
        train, val: the folder of each split; for shards, a word in their names.
        image, label: the columns of parquet files; `label` also the entry of json files in tar shards.
        index: where to keep the index; None: with the data, or else in the user's cache.
    """

    def __init__(
        self,
        root: str,
        folder: str,
        format: str = "folder",
        repo: str | None = None,
        revision: str | None = None,
        train: str = "imagenet21k_train",
        val: str = "imagenet21k_val",
        image: str = "image",
        label: str = "label",
        index: str | None = None,
    ) -> None:
        super().__init__(root, folder)
        if format not in READERS:
            raise ValueError(f"format={format!r} is not known: use {', '.join(READERS)}")
        if repo and format == "folder":
            raise ValueError("a hub repository is read shard by shard: use format=webdataset or format=parquet")
        self.format, self.repo, self.revision, self.index_folder = format, repo, revision, index
        self.names_of_splits = {"train": train, "val": val}
        self.columns = {} if format == "folder" else {"image": image, "label": label}
        self.needs = {train: "the training images", val: "the validation images"} if format == "folder" else {}
        self.writes_files = True  # the index, and the class names of the tree as json
        self.broken: list[str] = []  # a sentence per shard that cannot be read to its end

    @property
    def cache(self) -> Path:
        """The user's cache folder for this project."""
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clip-prompt-suite"

    @cached_property
    def home(self) -> Path:
        """The folder that everything is in."""
        if self.repo is None:
            return disk.require(self.folder, "the dataset's folder")
        from huggingface_hub import snapshot_download

        patterns = [f"*{READERS[self.format].suffix}", CLASSNAMES, f"{TREE}.pth"]  # type: ignore[attr-defined]
        try:
            snapshot = snapshot_download(self.repo, repo_type="dataset", revision=self.revision, allow_patterns=patterns)
        except Exception as error:  # the network and the hub raise many types
            raise ValueError(
                f"{self.repo} cannot be fetched ({str(error).strip().partition(chr(10))[0]}): check the name, the network, and "
                "that you have accepted its terms (hf auth login)"
            ) from error
        return Path(snapshot)

    @cached_property
    def reader(self) -> Any:
        """The reader for `format`."""
        return READERS[self.format](self.home, self.names_of_splits, **self.columns)

    @cached_property
    def stored_names(self) -> tuple[dict[str, str], str]:
        """Class names by id, in the order of numbered labels, and the file that they are from ("": none)."""
        if (self.home / CLASSNAMES).exists():
            lines = (line.partition(" ") for line in disk.read_text(self.home / CLASSNAMES, "the file of class names"))
            return {key: name or key for key, _, name in lines}, CLASSNAMES
        if any((self.home / f"{TREE}{suffix}").exists() for suffix in (".json", ".pth")):
            return tree_names(self.home, self.writes_files), TREE
        return {}, ""

    def _numbered(self) -> list[str]:
        names, _ = self.stored_names
        if not names:
            raise ValueError(
                f"the labels in {self.home} are numbers: put a {CLASSNAMES} there with a line `<class id> <name>` for each, "
                "in the order of the numbers"
            )
        return list(names)

    def classnames(self, ids: list[str]) -> list[str]:
        """The names of classes, from classnames.txt, else the release's tree, else WordNet. An id that is no WordNet id is a
        name itself."""
        names, where = self.stored_names
        if not where and any(WNID.fullmatch(key) for key in ids):
            names, where = wordnet_names(), "timm's list of WordNet"
        if unnamed := [key for key in ids if key not in names and (where == CLASSNAMES or WNID.fullmatch(key))]:
            raise ValueError(
                f"class {unnamed[0]} has no name in {where} ({len(unnamed)} such): move its images away, or add a "
                f"{CLASSNAMES} to {self.home} with a line `<class id> <name>` for each class"
            )
        named = {key: names.get(key, key).replace("_", " ") for key in ids}
        return [text_of(name, f"the name of class {key!r} in {self.home}") for key, name in named.items()]

    def _index_folders(self) -> list[Path]:
        name = f"{hashlib.sha256(str(self.home.resolve()).encode()).hexdigest()[:12]}-{self.format}"
        if self.index_folder:
            return [Path(self.index_folder).expanduser() / name]
        beside = [] if self.repo else [self.home / ".index" / self.format]  # nothing is written into the hub's cache
        return [*beside, self.cache / name]

    def _index(self) -> index.Index:
        splits = list(self.names_of_splits)
        return index.find_index(self.reader, splits, self._index_folders(), self._numbered, store=self.writes_files)

    def digest(self, seed: int) -> str:
        """A digest of the index, which is built if there is none: the places of all images, and the sizes of some, or of the
        shards."""
        data_index, (names, _) = self._index(), self.stored_names
        parts: list[Any] = [data_index.classes, [names.get(key) for key in data_index.classes]]
        for listing in data_index.splits.values():
            parts += [listing.shards, self.reader.sizes(listing), identity.arrays_digest(listing, index.ARRAYS)]
        return identity.digest_of(*parts)

    def splits(self, seed: int) -> Splits:
        """Tables of all images, the same for every seed; `broken` then says which shards are cut short."""
        data_index = self._index()
        self.broken = [line for listing in data_index.splits.values() for line in listing.broken]
        names = self.classnames(data_index.classes)
        train, val = (self._table(listing, names) for listing in data_index.splits.values())
        return Splits(train, val, val, fixed=frozenset({"val"}))

    def _table(self, listing: index.Listing, names: list[str]) -> ItemTable:
        rows = np.arange(len(listing.label))
        return ItemTable(rows, listing.label, names, partial(self.reader.path, listing), listing.shard)

    def content_digest(self, items: ItemTable) -> str:  # type: ignore[override]
        """A digest of every file's path, size and time of change. For shards, of the shards' and of the rows in them."""
        if self.format == "folder":
            return identity.files_digest(self.home, (item.path for item in items))
        paths = [items[i].path for i in identity.spread_positions(len(items))]  # they tell the splits apart
        return identity.digest_of(self.reader.stamp(), items.rows.tolist(), paths)

    def preview(self) -> Splits:
        """The tables, without writing an index."""
        self.writes_files = False
        return self.splits(seed=1)

    def open(self, item: Item) -> PIL.Image.Image:
        """The image in RGB. ValueError, which names it, where it cannot be decoded."""
        content = self.reader.read(item.path)
        try:
            return disk.decode(io.BytesIO(content))
        except Exception as error:  # decoders raise many types for damaged files
            cause = "no image format is recognised" if isinstance(error, PIL.UnidentifiedImageError) else error
            raise ValueError(
                f"image {self.home / item.path} cannot be decoded ({cause}): extract or download it again, or leave such "
                "images out by data.on_bad_image=skip"
            ) from error
