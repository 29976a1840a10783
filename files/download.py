"""Downloads a file over http(s): continues an interrupted transfer, and gives the file its name only when it is complete."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from files.untrusted import read_bytes
from files.whole import write_text

CHUNK = 2**20
TRIES = 6  # attempts in a row without a new byte
TIMEOUT = 60  # seconds without a byte
SPARE = 256 * 2**20  # bytes that stay free on the disk
PASSING = (408, 429, 500, 502, 503, 504)  # status codes of temporary failures
BROKEN = (http.client.HTTPException, OSError)  # URLError, timeouts and cut connections are OSErrors
Progress = Callable[[int, int | None], None]  # bytes there, bytes in all if known


class Checksum(NamedTuple):
    """A published checksum: md5 or sha256, and the hexadecimal digits."""

    kind: str
    digits: str

    def check(self, path: Path) -> None:
        """ValueError (a phrase) unless the file has this checksum."""
        with path.open("rb") as file:
            found = hashlib.file_digest(file, self.kind).hexdigest()
        if found != self.digits:
            raise ValueError(f"it has the {self.kind} {found}, and the published one is {self.digits}")


class MovedError(ValueError):
    """The address does not serve the file."""


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http(s) alone, and from https never to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The next request; ValueError for an address of another kind."""
        if urlsplit(newurl).scheme not in ({"https"} if req.type == "https" else {"http", "https"}):
            raise MovedError(f"it leads to {newurl[:200]!r}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str,
    path: Path,
    checksum: Checksum | None,
    progress: Progress = lambda there, total: None,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Fetches `url` into NAME.part beside `path`, checks it, and gives it its name.

    A transfer that breaks is continued where it broke (HTTP Range), also by a later call. A part is continued only if the
    server confirms that the file has not changed (`If-Range`), or if there is a checksum to compare.

    Raises:
        ValueError: a phrase: the address does not serve it, the transfer breaks again and again, or the checksum differs (the
            file is then removed).
        OSError: the disk has too little room, or the folder may not be written to.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("its address is none of http or https")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    tries = 0
    while True:
        before = _size(part)
        try:
            if _transfer(url, part, checksum is not None, progress):
                break
            reason = "the transfer ends early"
        except urllib.error.HTTPError as error:
            if error.code not in PASSING:
                raise ValueError(f"it answers {error.code} ({' '.join(str(error.reason).split())[:80]})") from error
            reason = f"it answers {error.code}"
        except BROKEN as error:
            if getattr(error, "filename", None):  # of our own files: the disk is full, the folder may not be written to
                raise
            reason = " ".join(str(getattr(error, "reason", error)).split())[:120] or type(error).__name__
        tries = 1 if _size(part) > before else tries + 1
        if tries >= TRIES:
            raise ValueError(f"{reason}, {TRIES} times in a row; the next start goes on at byte {_size(part):,}")
        wait(2.0 ** (tries - 1))
    _mark(part).unlink(missing_ok=True)
    try:
        if checksum:
            checksum.check(part)
    except ValueError:
        part.unlink()
        raise
    os.replace(part, path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mark(part: Path) -> Path:
    """The file's version by the server's headers when the part was begun."""
    return part.with_name(part.name + ".of")


def _transfer(url: str, part: Path, checked: bool, progress: Progress) -> bool:
    """Makes one request and writes its answer to the part. Returns whether the file is complete. Raises the errors of urllib,
    and ValueError."""
    have, version = _size(part), ""
    if _mark(part).exists():
        kept, _, version = read_bytes(_mark(part), "the note", 10_000).decode(errors="replace").partition("\n")
        version = version if kept == url else ""
        have = have if kept == url else 0
    elif have:
        have = 0  # not begun by us
    if not version and not checked:
        have = 0
    request = urllib.request.Request(url, headers={"User-Agent": "clip-prompt-suite", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if version:
            request.add_header("If-Range", version)
    try:
        answer = urllib.request.build_opener(Redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        error.close()
        if error.headers.get("Content-Range") == f"bytes */{have}":  # it was whole
            return True
        part.unlink()  # longer than the file is
        return False
    with answer:
        return _write(answer, url, part, have, progress)


def _write(answer: Any, url: str, part: Path, have: int, progress: Progress) -> bool:
    """Writes the body after the first `have` bytes of the part, or replaces the part. Returns whether the file is complete."""
    start = have if answer.status == 206 else 0
    if answer.status == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        part.unlink()
        return False
    length = answer.headers.get("Content-Length", "")
    total = start + int(length) if length.isascii() and length.isdigit() and len(length) < 16 else None
    check_room(part.parent, total - start if total else 0)
    if not start:
        version = answer.headers.get("ETag") or ""
        version = "" if version.startswith("W/") else version or answer.headers.get("Last-Modified") or ""
        write_text(_mark(part), f"{url}\n{version[:1000]}")
    with part.open("ab" if start else "wb") as file:
        there = start
        while content := answer.read1(CHUNK):
            if total is None and there % (64 * CHUNK) < CHUNK:
                check_room(part.parent, CHUNK)  # its size was not said
            file.write(content)
            there += len(content)
            progress(there, total)
    return total is None or there == total


def check_room(folder: Path, needed: int) -> None:
    """OSError (no space left) unless the disk of `folder` has so many bytes and some spare."""
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        told = f"the disk has {free / 1e9:,.1f} GB free, and {(needed + SPARE) / 1e9:,.1f} GB are needed"
        raise OSError(errno.ENOSPC, told, str(folder))
