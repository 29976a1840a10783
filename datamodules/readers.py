"""Random access to millions of images on a disk: class folders, and the base of all readers of shards.

The shards themselves are in `datamodules.tar_shards` and `datamodules.parquet`.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datamodules import disk, identity
from datamodules.class_folders import class_folders
from datamodules.index import Listing
from files.untrusted import path_within, read_bytes, regular_file

MAX_IMAGE_BYTES = 256 * 2**20  # encoded
Location = tuple[str, int, int, str | int]  # an image's shard, its offset and size there, and its class


class Folders:
    """`root/SPLIT/CLASS/FILE`. A shard is a class folder; offset and size cut the file's name out of the listing's text."""

    def __init__(self, root: Path, splits: dict[str, str]) -> None:
        self.root, self.splits = root, splits

    def _classes(self, split: str) -> list[str]:
        folder = disk.require(self.root / self.splits[split], f"the folder of the {split} images")
        names = class_folders(folder, "its class's WordNet id")
        return [path_within(f"{self.splits[split]}/{name}", f"a class folder in {self.root}") for name in names]

    def stamp(self) -> list:
        """The class folders and their times of change, which change with each file that is added or removed."""
        folders = [folder for split in self.splits for folder in self._classes(split)]
        return [[folder, os.stat(self.root / folder).st_mtime_ns] for folder in folders]

    def listing(self, split: str) -> Listing:
        """Every visible file in the class folders of a split."""
        shards, files = self._classes(split), []
        counts = np.zeros(len(shards), np.int64)
        for i, folder in enumerate(shards):
            names = [os.fsencode(file) for file in disk.list_files(self.root / folder)]
            counts[i] = len(names)
            files += names
        size = np.fromiter(map(len, files), np.int64, len(files))
        shard = np.repeat(np.arange(len(shards), dtype=np.int32), counts)
        ids: list[str | int] = [shard_name.rpartition("/")[2] for shard_name in shards]
        text = np.frombuffer(b"".join(files), np.uint8)
        return Listing(shards, shard, np.cumsum(size) - size, size, shard.copy(), ids, text)

    def path(self, listing: Listing, row: int) -> str:
        """SPLIT/CLASS/FILE of a row. ValueError where the index leads elsewhere."""
        start, size = int(listing.offset[row]), int(listing.size[row])
        name = os.fsdecode(listing.text[start : start + size].tobytes())
        if "/" in name or name in ("", ".", ".."):
            raise ValueError(f"the index of {self.root} names {name[:80]!r}, which is no file: remove that index")
        return f"{listing.shards[listing.shard[row]]}/{name}"

    def read(self, path: str) -> bytes:
        """The image as encoded. ValueError where it is no file."""
        return read_bytes(self.root / path, "image", MAX_IMAGE_BYTES)

    def sizes(self, listing: Listing) -> list[int]:
        """Bytes of some of the images, see `datamodules.identity`."""
        rows = identity.spread_positions(len(listing.label))
        return [identity.file_size(self.root / self.path(listing, row)) for row in rows]


class Shards:
    """Files `*SUFFIX` in `root` and its folders; those of a split have its word in their path (train-0001.tar, train/1.tar).

    Args:
        splits: the word of each split, or several with "|" between them.
    """

    suffix = ""

    def __init__(self, root: Path, splits: dict[str, str], image: str = "image", label: str = "label") -> None:
        self.root, self.splits, self.image, self.label = root, splits, image, label

    def _files(self, split: str) -> list[str]:
        word = re.compile(rf"(?<![a-z])({self.splits[split]})(?![a-z])")
        files = [*self.root.glob(f"*{self.suffix}"), *self.root.glob(f"*/*{self.suffix}")]
        paths = sorted(path.relative_to(self.root).as_posix() for path in files)
        if not (chosen := [path for path in paths if word.search(path)]):
            raise ValueError(
                f"{self.root} has no {self.suffix} file with the word {self.splits[split]} in its name for the {split} images"
                f" ({len(paths)} others): put them there, or say which word (train=..., val=... of the source)"
            )
        for path in chosen:  # reading a named pipe would hang
            regular_file(self.root / path_within(path, f"a shard in {self.root}"), "shard")
        return chosen

    def sizes(self, listing: Listing) -> list[int]:
        """Bytes of the shards."""
        files = dict.fromkeys(shard.partition("#")[0] for shard in listing.shards)
        return [identity.file_size(self.root / path) for path in files]

    def stamp(self) -> list:
        """The shards, their sizes and times of change."""
        paths = [path for split in self.splits for path in self._files(split)]
        stats = [os.stat(self.root / path) for path in paths]
        times = [[path, stat.st_size, stat.st_mtime_ns] for path, stat in zip(paths, stats, strict=True)]
        return [self.splits, self.label, *times]

    def listing(self, split: str) -> Listing:
        """Every image in the shards of a split; `broken` lists the shards that cannot be read to their end."""
        ids: dict[str | int, int] = {}
        shards, broken, rows = [], [], []
        for path in self._files(split):
            images: list[Location] = []
            try:
                for location in self._locations(path):
                    images.append(location)
            except (OSError, tarfile.TarError) as error:
                broken.append(
                    f"shard {self.root / path} cannot be read to its end: it is cut short or damaged ({printable(error)}; "
                    f"{len(images)} images before that); download it again, or go on without the rest of it by "
                    "data.on_bad_image=skip"
                )
            names = list(dict.fromkeys(shard for shard, *_ in images))
            positions = {name: len(shards) + i for i, name in enumerate(names)}
            shards += names
            if images:
                table = [(positions[shard], offset, size, ids.setdefault(key, len(ids))) for shard, offset, size, key in images]
                rows.append(np.array(table, np.int64))
        shard_N, offset_N, size_N, label_N = (np.concatenate(rows) if rows else np.zeros((0, 4), np.int64)).T
        return Listing(shards, shard_N, offset_N, size_N, label_N, list(ids), broken=broken)

    def _locations(self, path: str) -> Iterator[Location]:
        """The location of every image in a shard. OSError or TarError where it is cut short or damaged."""
        raise NotImplementedError


def printable(text: object) -> str:
    """Text from a file, for a message: without control characters, at most 200 characters."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:200])
