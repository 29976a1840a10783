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
from datamodules.index import Reader
from datamodules.items import Item, ItemTable, Splits
from datamodules.parquet import Parquet
from datamodules.readers import WNID, Folders, TarShards
from files.untrusted import read_bytes, read_json, text_of
from files.whole import write_json

READERS = {"folder": Folders, "webdataset": TarShards, "parquet": Parquet}
TREE, CLASSNAMES = "imagenet21k_miil_tree", "classnames.txt"
MAX_TREE_BYTES = 64 * 2**20  # the release's has 2 MiB


def tree_names(folder: Path, keep: bool = True) -> dict[str, str]:
    """The release's own class names from its tree file, read without running anything in it; `keep` leaves a json beside it."""
    kept, tree = folder / f"{TREE}.json", folder / f"{TREE}.pth"
    if kept.exists():
        return _names(read_json(kept, "the file of class names", MAX_TREE_BYTES), kept)
    content = io.BytesIO(read_bytes(tree, "the file of class names", MAX_TREE_BYTES))
    try:
        names = _saved(content)["class_description"]
    except Exception as error:  # a hostile or truncated file can fail in any way, and never gets further than here
        raise ValueError(
            f"{tree} is not read ({str(error).partition(chr(10))[0]}): it should hold plain names by WordNet id; download it "
            f"again, or move it away to get WordNet's names"
        ) from error
    names = _names(names, tree)
    if keep and os.access(folder, os.W_OK):
        write_json(kept, names)
    return names


def _saved(content: io.BytesIO) -> Any:
    """The plain data that `torch.save` wrote, in its zip format or the one before: magic number, protocol and types' sizes,
    each a pickle, and then the data. `torch.load` can be made to hang or to fill the memory, `weights_only` or not."""
    if not zipfile.is_zipfile(content):
        content.seek(0)
        return [pickles.read_plain(content) for _ in range(4)][-1]
    with zipfile.ZipFile(content) as archive:
        parts = archive.infolist()
        if sum(each.file_size for each in parts) > MAX_TREE_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_TREE_BYTES // 2**20} MiB")
        part = next((each for each in parts if each.filename.endswith("/data.pkl")), None)
        if part is None or part.compress_type != zipfile.ZIP_STORED:
            raise ValueError("it is no file of PyTorch")
        return pickles.read_plain(io.BytesIO(archive.read(part)))


def _names(found: Any, path: Path) -> dict[str, str]:
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not read: it should hold plain names by WordNet id; download it again, or move it away")
    return {
        text_of(key, f"a WordNet id in {path}"): text_of(name, f"the name of {key} in {path}") for key, name in found.items()
    }


def wordnet_names() -> dict[str, str]:
    """The first lemma of each of the 21,844 synsets that timm describes."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    names = info.label_descriptions(as_dict=True) | ImageNetInfo("imagenet-21k-goog").label_descriptions(as_dict=True)
    return {wnid: name.partition(",")[0] for wnid, name in names.items()}


class ImageNet21K(disk.Disk):
    """Labels are places in the sorted class ids of the training images, however many those are; validation is the test set.

    Args:
        format: how the images lie in the folder: folder, webdataset or parquet (`datamodules.readers`).
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
        self.format, self.repo, self.revision, self.kept = format, repo, revision, index
        self.names_of_splits = {"train": train, "val": val}
        self.columns = {} if format == "folder" else {"image": image, "label": label}
        self.needs = {train: "the training images", val: "the validation images"} if format == "folder" else {}
        self.leaves_traces = True
        self.broken: list[str] = []  # a sentence per shard that cannot be read to its end

    @property
    def cache(self) -> Path:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clip-prompt-suite"

    @cached_property
    def home(self) -> Path:
        """The folder that everything is in."""
        if self.repo is None:
            return disk.require(self.folder, "the dataset's folder")
        from huggingface_hub import snapshot_download

        wanted = [f"*{READERS[self.format].suffix}", CLASSNAMES, f"{TREE}.pth"]
        try:
            found = snapshot_download(self.repo, repo_type="dataset", revision=self.revision, allow_patterns=wanted)
        except Exception as error:  # the network's and the hub's are of many kinds
            raise ValueError(
                f"{self.repo} cannot be fetched ({str(error).strip().partition(chr(10))[0]}): check the name, the network, and "
                "that you have accepted its terms (hf auth login)"
            ) from error
        return Path(found)

    @cached_property
    def reader(self) -> Reader:
        return READERS[self.format](self.home, self.names_of_splits, **self.columns)

    @cached_property
    def own_names(self) -> tuple[dict[str, str], str]:
        """Class names by id, in the order of numbered labels, and the file that they are from ("": none)."""
        if (self.home / CLASSNAMES).exists():
            lines = (line.partition(" ") for line in disk.read_text(self.home / CLASSNAMES, "the file of class names"))
            return {key: name or key for key, _, name in lines}, CLASSNAMES
        if any((self.home / f"{TREE}{suffix}").exists() for suffix in (".json", ".pth")):
            return tree_names(self.home, self.leaves_traces), TREE
        return {}, ""

    def _numbered(self) -> list[str]:
        names, _ = self.own_names
        if not names:
            raise ValueError(
                f"the labels in {self.home} are numbers: put a {CLASSNAMES} there with a line `<class id> <name>` for each, "
                "in the order of the numbers"
            )
        return list(names)

    def classnames(self, ids: list[str]) -> list[str]:
        """From classnames.txt, else the release's tree, else WordNet; an id that is no WordNet id is a name itself."""
        names, where = self.own_names
        if not where and any(WNID.fullmatch(each) for each in ids):
            names, where = wordnet_names(), "timm's list of WordNet"
        if unnamed := [each for each in ids if each not in names and (where == CLASSNAMES or WNID.fullmatch(each))]:
            raise ValueError(
                f"class {unnamed[0]} has no name in {where} ({len(unnamed)} such): move its images away, or add a "
                f"{CLASSNAMES} to {self.home} with a line `<class id> <name>` for each class"
            )
        named = {each: names.get(each, each).replace("_", " ") for each in ids}
        return [text_of(name, f"the name of class {each!r} in {self.home}") for each, name in named.items()]

    def _places(self) -> list[Path]:
        own = hashlib.sha256(str(self.home.resolve()).encode()).hexdigest()[:12]
        if self.kept:
            return [Path(self.kept).expanduser() / f"{own}-{self.format}"]
        beside = [] if self.repo else [self.home / ".index" / self.format]  # the hub's cache is not ours to write in
        return [*beside, self.cache / f"{own}-{self.format}"]

    def _index(self) -> index.Index:
        return index.find(self.reader, list(self.names_of_splits), self._places(), self._numbered, store=self.leaves_traces)

    def digest(self, seed: int) -> str:
        """From the index, which is built if there is none: where every image lies, and the sizes of some (or of the shards)."""
        found, (names, _) = self._index(), self.own_names
        parts = [found.classes, [names.get(each) for each in found.classes]]
        for listing in found.splits.values():
            parts += [listing.shards, self.reader.sizes(listing), identity.arrays_digest(listing, index.ARRAYS)]
        return identity.digest_of(*parts)

    def splits(self, seed: int) -> Splits:
        found = self._index()
        self.broken = [line for listing in found.splits.values() for line in listing.broken]
        names = self.classnames(found.classes)
        train, val = (self._table(listing, names) for listing in found.splits.values())
        return Splits(train, val, val, fixed=frozenset({"val"}))

    def _table(self, listing: index.Listing, names: list[str]) -> ItemTable:
        rows = np.arange(len(listing.label))
        return ItemTable(rows, listing.label, names, partial(self.reader.path, listing), listing.shard)

    def preview(self) -> Splits:
        self.leaves_traces = False
        return self.splits(seed=1)

    def open(self, item: Item) -> PIL.Image.Image:
        content = self.reader.read(item.path)
        try:
            return disk.decode(io.BytesIO(content))
        except Exception as error:  # decoders raise many kinds, and each of them means the same to the user
            cause = "no image format is recognised" if isinstance(error, PIL.UnidentifiedImageError) else error
            raise ValueError(
                f"image {self.home / item.path} cannot be decoded ({cause}): extract or download it again, or leave such "
                "images out by data.on_bad_image=skip"
            ) from error
