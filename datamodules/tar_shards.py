"""Images in tar files, as webdataset writes them, read at random."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from datamodules.index import Listing
from datamodules.readers import MAX_IMAGE_BYTES, Location, Shards, printable
from files.untrusted import label_of, parse_json, regular_file, text_of

WNID = re.compile(r"(?<![a-z0-9])n\d{8}(?!\d)")
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
MAX_MEMBER_BYTES = 2**20  # of a tar's headers, and of the files in it that hold a label
MAX_HEADERS = 1000  # entries in a tar's global headers, which are copied for every member


class TarShards(Shards):
    """Webdataset shards, uncompressed; offset and size are an image's bytes in the file.

    Members of a sample share their name up to the first dot: the image, and its class in `.cls` (a number or an id), in the
    entry `label` of `.json`, or else as a WordNet id in the sample's own name.
    """

    suffix = ".tar"

    def _locations(self, path: str) -> Iterator[Location]:
        key, sample = None, {}
        with open(self.root / path, "rb") as file:
            for tar, member in _members(file):
                folder, _, name = member.name.rpartition("/") if member else ("", "", "")
                stem, _, extension = name.partition(".")
                if (folder, stem) != key or member is None:
                    yield from self._sample_location(path, key, sample)
                    key, sample = (folder, stem), {}
                if f".{extension}".lower().endswith(IMAGES):
                    sample["image"] = (member.offset_data, member.size)
                elif extension in ("cls", "json"):
                    if member.size > MAX_MEMBER_BYTES:
                        raise ValueError(f"{printable(member.name)} of {self.root / path} is too large for a label")
                    sample[extension] = tar.extractfile(member).read()  # type: ignore[assignment]

    def _sample_location(self, path: str, key: tuple[str, str] | None, sample: dict) -> Iterator[Location]:
        if "image" not in sample:
            return
        name, shown = "/".join(key), printable("/".join(key))
        value = sample.get("cls")
        if value is None and "json" in sample:
            value = self._label_entry(path, shown, sample["json"])
        if value is None and (match := WNID.search(name)):
            value = match[0]
        if value is None:
            raise ValueError(
                f"image {shown} of {self.root / path} has no class: neither {shown}.cls, nor an entry {self.label!r} in "
                f"{shown}.json, nor a WordNet id in its name"
            )
        yield path, *sample["image"], parse_class(value, f"the class of {shown} in {self.root / path}")

    def _label_entry(self, path: str, name: str, content: bytes) -> Any:
        try:
            return parse_json(content, "it").get(self.label)
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{name}.json of {self.root / path} is no json object ({str(error).rstrip('.')})") from error

    def path(self, listing: Listing, row: int) -> str:
        """SHARD:OFFSET+SIZE of a row."""
        return f"{listing.shards[listing.shard[row]]}:{listing.offset[row]}+{listing.size[row]}"

    def read(self, path: str) -> bytes:
        """The image as encoded. ValueError where the shard does not hold it."""
        name, _, span = path.rpartition(":")
        offset, size = map(int, span.split("+"))
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
    """A tar file whose reads are limited: a header can claim any size, and tarfile would read all of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Like a file's `read`; ReadError for a size that no header has."""
        if not 0 <= size <= MAX_MEMBER_BYTES:
            raise tarfile.ReadError(f"a header claims {size:,} bytes")
        return self.file.read(size)


def _members(file: BinaryIO) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo | None]]:
    """The files in an uncompressed tar, and None behind the last one.

    OSError or TarError where it is cut short or damaged, whatever tarfile makes of it.
    """
    end, last = os.fstat(file.fileno()).st_size, -1
    try:
        with tarfile.open(fileobj=_Headers(file), mode="r:") as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                tar.members = []  # tarfile would collect all members, which takes memory
                if member.size < 0 or tar.offset <= last or len(tar.pax_headers) > MAX_HEADERS:
                    raise tarfile.ReadError("a header makes no sense")
                last = tar.offset
                if not member.isfile():
                    continue
                if member.offset_data + member.size > end:
                    raise tarfile.ReadError("unexpected end of data")
                yield tar, member
            yield tar, None
            # a damaged header ends tarfile's walk as if the archive ended there; a true end is a block of zeros
            file.seek(tar.offset)
            if file.read(512) != bytes(512):
                raise tarfile.ReadError("its end is missing")
    except (OSError, tarfile.TarError):
        raise
    except Exception as error:  # damaged headers cause many types of error
        raise tarfile.ReadError(f"a header makes no sense: {type(error).__name__}") from error


def parse_class(value: Any, what: str) -> str | int:
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
