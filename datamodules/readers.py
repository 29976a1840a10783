"""Three ways in which millions of images lie on a disk, each read at random: a folder per class, tar shards, parquet files."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from datamodules import disk
from datamodules.index import Listing

WNID = re.compile(r"(?<![a-z0-9])n\d{8}(?!\d)")
IMAGES = (".jpg", ".jpeg", ".png", ".webp")


class Folders:
    """`root/SPLIT/CLASS/FILE`. A shard is a class folder; offset and size cut the file's name out of the listing's text."""

    def __init__(self, root: Path, splits: dict[str, str]) -> None:
        self.root, self.splits = root, splits

    def _classes(self, split: str) -> list[str]:
        folder = disk.require(self.root / self.splits[split], f"the folder of the {split} images")
        if not (found := disk.folders(folder)):
            raise ValueError(f"{folder} has no class folders: each image belongs in a folder named by its class's WordNet id")
        return [f"{self.splits[split]}/{each}" for each in found]

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
        return f"{listing.shards[listing.shard[row]]}/{os.fsdecode(listing.text[start : start + size].tobytes())}"

    def read(self, path: str) -> bytes:
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            raise ValueError(f"image {self.root / path} cannot be read ({error.strerror})") from error


class _Shards:
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
        return chosen

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
                    f"shard {self.root / path} cannot be read to its end ({error}; {len(found)} images before that): "
                    "download it again, or go on without the rest of it by data.on_bad_image=skip"
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


class TarShards(_Shards):
    """Webdataset shards, uncompressed; offset and size are an image's bytes in the file.

    Members of a sample share their name up to the first dot: the image, and its class in `.cls` (a number or an id), in the
    entry `label` of `.json`, or else as a WordNet id in the sample's own name.
    """

    suffix = ".tar"

    def _rows(self, path: str) -> Iterator[tuple[str, int, int, str | int]]:
        with open(self.root / path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            end = os.fstat(file.fileno()).st_size
            key, sample = None, {}
            while (member := tar.next()) is not None:
                tar.members = []  # it would keep them all
                if not member.isfile():
                    continue
                if member.offset_data + member.size > end:
                    raise tarfile.ReadError("unexpected end of data")
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                if (folder, stem) != key:
                    yield from self._row(path, key, sample)
                    key, sample = (folder, stem), {}
                if f".{extension}".lower().endswith(IMAGES):
                    sample["image"] = (member.offset_data, member.size)
                elif extension in ("cls", "json"):
                    sample[extension] = tar.extractfile(member).read().decode()
            yield from self._row(path, key, sample)
            # tarfile takes a damaged header for the end, which really is a block of zeros
            file.seek(tar.offset)
            if file.read(512) != bytes(512):
                raise tarfile.ReadError("its end is missing")

    def _row(self, path: str, key: tuple[str, str] | None, sample: dict) -> Iterator[tuple[str, int, int, str | int]]:
        if "image" not in sample:
            return
        name = "/".join(key)
        value = sample.get("cls")
        if value is None and "json" in sample:
            value = self._entry(path, name, sample["json"])
        if value is None and (found := WNID.search(name)):
            value = found[0]
        if value is None:
            raise ValueError(
                f"image {name} of {self.root / path} has no class: neither {name}.cls, nor an entry {self.label!r} in "
                f"{name}.json, nor a WordNet id in its name"
            )
        value = str(value).strip()
        yield path, *sample["image"], int(value) if value.isdecimal() else value

    def _entry(self, path: str, name: str, text: str) -> str | int | None:
        try:
            return json.loads(text).get(self.label)
        except (json.JSONDecodeError, AttributeError) as error:
            raise ValueError(f"{name}.json of {self.root / path} is no json object ({error})") from error

    def path(self, listing: Listing, row: int) -> str:
        return f"{listing.shards[listing.shard[row]]}:{listing.offset[row]}+{listing.size[row]}"

    def read(self, path: str) -> bytes:
        name, _, place = path.rpartition(":")
        offset, size = map(int, place.split("+"))
        try:
            with open(self.root / name, "rb") as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise ValueError(f"shard {self.root / name} cannot be read ({error.strerror})") from error
        if len(content) < size:
            raise ValueError(f"shard {self.root / name} ends before byte {offset + size}: download it again")
        return content


class Parquet(_Shards):
    """Parquet files as `datasets` writes them: a column of images (struct of bytes) and one of labels.

    A shard is a row group, the least that can be read at once, so `order=windowed` is much cheaper; offset is the row in it.
    """

    suffix = ".parquet"

    def _rows(self, path: str) -> Iterator[tuple[str, int, int, str | int]]:
        import datasets
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.root / path) as file:
                schema = file.schema_arrow
                sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
                absent = sorted({self.image, self.label} - set(schema.names))
                column = None if absent else file.read(columns=[self.label], use_threads=False).column(0).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise OSError(str(error).partition("\n")[0]) from error
        if absent:
            raise ValueError(
                f"{self.root / path} has no column {absent[0]!r}, only {', '.join(schema.names)}: name the columns by "
                "image=... and label=... of the source"
            )
        names = getattr(datasets.Features.from_arrow_schema(schema)[self.label], "names", None)
        values = iter(column)
        for group, size in enumerate(sizes):
            for row, value in enumerate(islice(values, size)):
                if value is None or value == -1:
                    raise ValueError(f"row {row} of row group {group} in {self.root / path} has no label")
                yield f"{path}#{group}", row, 0, names[value] if names else value

    def path(self, listing: Listing, row: int) -> str:
        return f"{listing.shards[listing.shard[row]]}#{listing.offset[row]}"

    def read(self, path: str) -> bytes:
        import pyarrow as pa

        name, group, row = path.rsplit("#", 2)
        try:
            value = _row_group(str(self.root / name), int(group), self.image)[int(row)].as_py()
        except (OSError, IndexError, pa.ArrowException) as error:
            cause = str(error).partition("\n")[0]
            raise ValueError(f"row {row} of row group {group} in {self.root / name} cannot be read ({cause})") from error
        if not (content := value.get("bytes") if isinstance(value, dict) else value):
            raise ValueError(f"row {row} of row group {group} in {self.root / name} holds no image")
        return content


@lru_cache(maxsize=16)  # per process: workers have their own
def _row_group(path: str, group: int, column: str):
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read_row_group(group, columns=[column], use_threads=False).column(0)
