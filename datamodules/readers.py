"""Ways in which millions of images lie on a disk, each read at random: class folders, tar shards; `parquet` has a third."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from datamodules import disk, identity
from datamodules.class_folders import class_folders
from datamodules.index import Listing
from files.untrusted import label_of, parse_json, path_within, read_bytes, regular_file, text_of

WNID = re.compile(r"(?<![a-z0-9])n\d{8}(?!\d)")
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
MAX_IMAGE_BYTES = 256 * 2**20  # encoded
MAX_MEMBER_BYTES = 2**20  # of a tar's headers, and of the files in it that hold a label
MAX_HEADERS = 1000  # entries of a tar's global headers, which every member gets a copy of


class Folders:
    """`root/SPLIT/CLASS/FILE`. A shard is a class folder; offset and size cut the file's name out of the listing's text."""

    def __init__(self, root: Path, splits: dict[str, str]) -> None:
        self.root, self.splits = root, splits

    def _classes(self, split: str) -> list[str]:
        folder = disk.require(self.root / self.splits[split], f"the folder of the {split} images")
        names = class_folders(folder, "its class's WordNet id")
        return [path_within(f"{self.splits[split]}/{name}", f"a class folder in {self.root}") for name in names]

    def stamp(self) -> list:
        # A class folder's time changes with each file that comes or goes; the files themselves are not looked at.
        return [[each, os.stat(self.root / each).st_mtime_ns] for split in self.splits for each in self._classes(split)]

    def listing(self, split: str) -> Listing:
        shards, files = self._classes(split), []
        counts = np.zeros(len(shards), np.int64)
        for i, shard in enumerate(shards):
            found = [os.fsencode(file) for file in disk.files(self.root / shard)]
            counts[i] = len(found)
            files += found
        size = np.fromiter(map(len, files), np.int64, len(files))
        shard = np.repeat(np.arange(len(shards), dtype=np.int32), counts)
        ids = [each.rpartition("/")[2] for each in shards]
        text = np.frombuffer(b"".join(files), np.uint8)
        return Listing(shards, shard, np.cumsum(size) - size, size, shard.copy(), ids, text)

    def path(self, listing: Listing, row: int) -> str:
        start, size = int(listing.offset[row]), int(listing.size[row])
        name = os.fsdecode(listing.text[start : start + size].tobytes())
        if "/" in name or name in ("", ".", ".."):
            raise ValueError(f"the index of {self.root} names {name[:80]!r}, which is no file: remove that index")
        return f"{listing.shards[listing.shard[row]]}/{name}"

    def read(self, path: str) -> bytes:
        return read_bytes(self.root / path, "image", MAX_IMAGE_BYTES)

    def sizes(self, listing: Listing) -> list[int]:
        """Bytes of some of the images, see `datamodules.identity`."""
        return [identity.size_of(self.root / self.path(listing, row)) for row in identity.spread(len(listing.label))]


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
        found = [*self.root.glob(f"*{self.suffix}"), *self.root.glob(f"*/*{self.suffix}")]
        paths = sorted(path.relative_to(self.root).as_posix() for path in found)
        if not (chosen := [path for path in paths if word.search(path)]):
            raise ValueError(
                f"{self.root} has no {self.suffix} file with the word {self.splits[split]} in its name for the {split} images"
                f" ({len(paths)} others): put them there, or say which word (train=..., val=... of the source)"
            )
        for path in chosen:  # a named pipe would be waited for
            regular_file(self.root / path_within(path, f"a shard in {self.root}"), "shard")
        return chosen

    def sizes(self, listing: Listing) -> list[int]:
        """Bytes of the shards."""
        return [identity.size_of(self.root / path) for path in dict.fromkeys(each.partition("#")[0] for each in listing.shards)]

    def stamp(self) -> list:
        paths = [path for split in self.splits for path in self._files(split)]
        stats = [os.stat(self.root / path) for path in paths]
        times = [[path, stat.st_size, stat.st_mtime_ns] for path, stat in zip(paths, stats, strict=True)]
        return [self.splits, self.label, *times]

    def listing(self, split: str) -> Listing:
        ids: dict[str | int, int] = {}
        shards, broken, rows = [], [], []
        for path in self._files(split):
            found: list[tuple[str, int, int, str | int]] = []  # shard, offset, size, class
            try:
                for each in self._rows(path):
                    found.append(each)
            except (OSError, tarfile.TarError) as error:
                broken.append(
                    f"shard {self.root / path} cannot be read to its end: it is cut short or damaged ({printable(error)}; "
                    f"{len(found)} images before that); download it again, or go on without the rest of it by "
                    "data.on_bad_image=skip"
                )
            names = list(dict.fromkeys(row[0] for row in found))
            place = {name: len(shards) + i for i, name in enumerate(names)}
            shards += names
            if found:
                columns = [(place[shard], offset, size, ids.setdefault(key, len(ids))) for shard, offset, size, key in found]
                rows.append(np.array(columns, np.int64))
        table = np.concatenate(rows) if rows else np.zeros((0, 4), np.int64)
        return Listing(shards, *table.T, list(ids), broken=broken)

    def _rows(self, path: str) -> Iterator[tuple[str, int, int, str | int]]:
        raise NotImplementedError


class TarShards(Shards):
    """Webdataset shards, uncompressed; offset and size are an image's bytes in the file.

    Members of a sample share their name up to the first dot: the image, and its class in `.cls` (a number or an id), in the
    entry `label` of `.json`, or else as a WordNet id in the sample's own name.
    """

    suffix = ".tar"

    def _rows(self, path: str) -> Iterator[tuple[str, int, int, str | int]]:
        key, sample = None, {}
        with open(self.root / path, "rb") as file:
            for tar, member in _members(file):
                folder, _, name = member.name.rpartition("/") if member else ("", "", "")
                stem, _, extension = name.partition(".")
                if (folder, stem) != key or member is None:
                    yield from self._row(path, key, sample)
                    key, sample = (folder, stem), {}
                if f".{extension}".lower().endswith(IMAGES):
                    sample["image"] = (member.offset_data, member.size)
                elif extension in ("cls", "json"):
                    if member.size > MAX_MEMBER_BYTES:
                        raise ValueError(f"{printable(member.name)} of {self.root / path} is too large for a label")
                    sample[extension] = tar.extractfile(member).read()

    def _row(self, path: str, key: tuple[str, str] | None, sample: dict) -> Iterator[tuple[str, int, int, str | int]]:
        if "image" not in sample:
            return
        name, shown = "/".join(key), printable("/".join(key))
        value = sample.get("cls")
        if value is None and "json" in sample:
            value = self._entry(path, shown, sample["json"])
        if value is None and (found := WNID.search(name)):
            value = found[0]
        if value is None:
            raise ValueError(
                f"image {shown} of {self.root / path} has no class: neither {shown}.cls, nor an entry {self.label!r} in "
                f"{shown}.json, nor a WordNet id in its name"
            )
        yield path, *sample["image"], class_of(value, f"the class of {shown} in {self.root / path}")

    def _entry(self, path: str, name: str, content: bytes) -> Any:
        try:
            return parse_json(content, "it").get(self.label)
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{name}.json of {self.root / path} is no json object ({str(error).rstrip('.')})") from error

    def path(self, listing: Listing, row: int) -> str:
        return f"{listing.shards[listing.shard[row]]}:{listing.offset[row]}+{listing.size[row]}"

    def read(self, path: str) -> bytes:
        name, _, place = path.rpartition(":")
        offset, size = map(int, place.split("+"))
        if offset < 0 or not 0 <= size <= MAX_IMAGE_BYTES:
            raise ValueError(f"the image at byte {offset} of shard {self.root / name} has an absurd size of {size:,} bytes")
        try:
            with open(regular_file(self.root / name, "shard"), "rb") as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise ValueError(f"shard {self.root / name} cannot be read ({error.strerror})") from error
        if len(content) < size:
            raise ValueError(f"shard {self.root / name} ends before byte {offset + size}: download it again")
        return content


class _Headers:
    """A tar file of which little is read at a time: a header can claim any size, and tarfile reads all of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_MEMBER_BYTES:
            raise tarfile.ReadError(f"a header claims {size:,} bytes")
        return self.file.read(size)


def _members(file: BinaryIO) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo | None]]:
    """The files in an uncompressed tar, and None behind the last one.

    OSError or TarError where it is cut short or damaged, whatever tarfile makes of it.
    """
    end, last = os.fstat(file.fileno()).st_size, -1
    try:
        with tarfile.open(fileobj=_Headers(file), mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # it would keep them all
                if member.size < 0 or tar.offset <= last or len(tar.pax_headers) > MAX_HEADERS:
                    raise tarfile.ReadError("a header makes no sense")
                last = tar.offset
                if not member.isfile():
                    continue
                if member.offset_data + member.size > end:
                    raise tarfile.ReadError("unexpected end of data")
                yield tar, member
            yield tar, None
            # tarfile takes a damaged header for the end, which really is a block of zeros
            file.seek(tar.offset)
            if file.read(512) != bytes(512):
                raise tarfile.ReadError("its end is missing")
    except (OSError, tarfile.TarError):
        raise
    except Exception as error:  # a number that is none, a header within headers within headers
        raise tarfile.ReadError(f"a header makes no sense: {type(error).__name__}") from error


def class_of(value: Any, what: str) -> str | int:
    """A class as a file names it: a number, also as digits, or an id. ValueError for anything else."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{what} is no UTF-8 text") from error
    if not isinstance(value, str):
        return label_of(value, what)
    value = text_of(value.strip(), what)
    return label_of(int(value[:20]), what) if value.isascii() and value.isdecimal() else value


def printable(text: object) -> str:
    """For messages: of a file's own words no control characters and at most 200 characters."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:200])
