"""Unpacks archives that anyone may have made (tar, tar.gz, zip): plain files below one folder, bounded in size and number."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import BinaryIO, NamedTuple

from files.download import check_room
from files.untrusted import CONTROL

CHUNK = 2**20
MAX_FILES = 3_000_000  # ImageNet-1k has 1.4 million
MAX_GROWTH = 100  # times the archive's size; json of annotations packs 1:20
MAX_NAME, MAX_DEPTH = 1000, 32
MAX_HEADER = 2**20  # bytes of a tar's header, which tarfile reads at once
MAX_HEADERS = 1000  # entries in a tar's global headers, which are copied for every member
BLOCK = 512  # bytes, of a tar
UNREADABLE = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError)


class Member(NamedTuple):
    """A file in an archive."""

    name: str
    size: int
    is_plain: bool  # False: a link, a device and the like
    content: BinaryIO | None


class Unpacked(NamedTuple):
    """The files that were written, and those left out because they are no plain files."""

    files: int
    left_out: list[str]


def unpack(archive: Path, folder: Path, take: str = "") -> Unpacked:
    """Writes the archive's files into the new folder: all, or those in the folder `take` ("NAME/"), or the file `take`.

    Links and devices are never made. The folder is incomplete where this fails: give one that nothing else reads.

    Raises:
        ValueError: a phrase: a name leads out of the folder, the archive is damaged or unpacks to an absurd size or number, or
            there is nothing to take.
        OSError: the disk has too little room, or may not be written to.
    """
    most = MAX_GROWTH * archive.stat().st_size + 64 * CHUNK
    folder.mkdir(parents=True)
    files, size, left_out = 0, 0, []
    try:
        with archive.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            for count, member in enumerate(_zipped(file) if is_zip else _tarred(file, most)):
                target = target_of(member.name, folder, take)
                size += member.size
                if count >= MAX_FILES or size > most:
                    raise ValueError(f"it unpacks to more than {MAX_FILES:,} files, or {MAX_GROWTH} times its size")
                if target is None:
                    continue
                if not member.is_plain:
                    left_out.append(member.name[:200])
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(member, target)
                files += 1
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.filename:  # of the disk, not of the archive
            raise
        raise ValueError(f"it is damaged ({' '.join(str(error).split())[:120] or type(error).__name__})") from error
    if not files:
        raise ValueError(f"it holds no {take or 'files'}")
    return Unpacked(files, left_out)


def target_of(name: str, folder: Path, take: str = "") -> Path | None:
    """Where a member belongs; None if it is none of those to take. ValueError (a phrase) for a name that leads elsewhere."""
    if len(name) > MAX_NAME or "\\" in name or CONTROL.search(name) or name.startswith("/") or PureWindowsPath(name).drive:
        raise ValueError(f"it holds the path {name[:80]!r}, which is no relative path of plain words")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or len(parts) > MAX_DEPTH:
        raise ValueError(f"it holds the path {name[:80]!r}, which leads out of it")
    plain = "/".join(parts)
    if plain == take:
        return folder / parts[-1]
    return folder / plain.removeprefix(take) if plain.startswith(take) and (not take or take.endswith("/")) else None


def _write(member: Member, target: Path) -> None:
    check_room(target.parent, member.size)
    left = member.size
    with target.open("wb") as file:
        while left:
            content = member.content.read(min(CHUNK, left)) if member.content else b""
            if not content:
                raise EOFError(f"{member.name[:80]!r} is cut short")
            file.write(content)
            left -= len(content)


def _zipped(file: BinaryIO) -> Iterator[Member]:
    """The files of a zip, each to be read before the next. ValueError for packings that zipfile unpacks without bounds."""
    with zipfile.ZipFile(file) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        for info in infos:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"its {info.filename[:80]!r} is packed in a way that is not read here")
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                yield Member(info.filename, 0, False, None)
                continue
            with archive.open(info) as content:
                # its checksum is compared at its end
                yield Member(info.filename, info.file_size, True, content)  # type: ignore[arg-type]


def _tarred(file: BinaryIO, most: int) -> Iterator[Member]:
    """The files of a tar, packed by gzip or not, each to be read before the next."""
    magic = file.read(2)
    file.seek(0)
    stream = _Bounded(gzip.GzipFile(fileobj=file) if magic == b"\x1f\x8b" else file, most)  # type: ignore[arg-type]
    with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
        while (info := _next(archive)) is not None:
            if info.isdir():
                continue
            is_plain = info.isreg() and not info.issparse()
            yield Member(info.name, info.size if is_plain else 0, is_plain, archive.extractfile(info) if is_plain else None)
        # a damaged header ends tarfile's walk as if the archive ended there; a true end is a block of zeros
        stream.seek(archive.offset)
        if stream.read(BLOCK) != bytes(BLOCK):
            raise EOFError("its end is missing")
        while stream.read(MAX_HEADER):  # to the end of the gzip, whose checksum is there
            pass


def _next(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    """The next member. EOFError for headers that make no sense, whatever tarfile makes of them."""
    try:
        info = archive.next()
    except (OSError, EOFError, tarfile.TarError, zlib.error):
        raise
    except Exception as error:
        raise EOFError(f"a header makes no sense: {type(error).__name__}") from error
    archive.members = []  # type: ignore[attr-defined]  # tarfile would collect all of them
    if info is not None and (info.size < 0 or len(info.pax_headers) > MAX_HEADERS):
        raise EOFError("a header makes no sense")
    return info


class _Bounded:
    """A stream that is read forwards: no read of absurd size, and no more bytes than `most` in all."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self.file, self.most, self.position = file, most, 0
        self.last, self.again = b"", b""  # the last block that was read, and what is to be read again

    def tell(self) -> int:
        """The position."""
        return self.position

    def read(self, size: int) -> bytes:
        """The next bytes. ReadError for more than any header has, and beyond the bound."""
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header claims {size:,} bytes")
        content, self.again = self.again[:size], self.again[size:]
        content += self.file.read(size - len(content)) if size > len(content) else b""
        self.position += len(content)
        self.last = content[-BLOCK:] if len(content) >= BLOCK else (self.last + content)[-BLOCK:]
        if self.position > self.most:
            raise tarfile.ReadError(f"it unpacks to more than {MAX_GROWTH} times its size")
        return content

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        """Reads on up to the position, or goes back by a block. ReadError for what lies before that."""
        back = self.position - position
        if whence != os.SEEK_SET or back > len(self.last):
            raise tarfile.ReadError("a header leads backwards")
        if back > 0:
            self.again, self.last = self.last[-back:] + self.again, self.last[:-back]
            self.position = position
        while self.position < position and self.read(min(MAX_HEADER, position - self.position)):
            pass
        return self.position
