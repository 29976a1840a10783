"""Functions for all sources on disk: checked listings, RGB images, errors that say what to do."""

import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import PIL.Image

from datamodules import identity
from files.untrusted import read_bytes, regular_file

FORMATS = {"AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP"}
# Suffixes of files in those formats, in lower case.
SUFFIXES = (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class MissingFilesError(ValueError):
    """Files that a split names and that are missing on the disk; `paths`, relative to `root`, lists them all."""

    def __init__(self, paths: list[str], root: Path, named_by: str, what: str = "image(s)"):
        self.paths, self.root = paths, root
        super().__init__(
            f"{len(paths)} {what} named by {named_by} are missing under {root}, the first is {paths[0]}: "
            f"finish the download or extraction; `python -m tools.doctor data=NAME` lists them all"
        )


def require(path: Path, what: str) -> Path:
    """The path, or a ValueError that says what belongs there."""
    if not path.exists():
        raise ValueError(
            f"{what} is missing: {path} does not exist; put it there, set data_root=PATH (or the environment variable "
            f"DATA) to the folder that holds the datasets, or ask `python -m tools.doctor data=NAME`"
        )
    return path


def read_text(path: Path, what: str) -> list[str]:
    """Non-empty lines, stripped."""
    try:
        lines = read_bytes(require(path, what), what).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} {path} cannot be read ({error}): download it again") from error
    return [line.strip() for line in lines if line.strip()]


def _visible(path: Path, kind: Callable[[os.DirEntry], bool]) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and kind(entry))
    except OSError as error:
        raise ValueError(f"{path} cannot be listed ({error.strerror}): check that it is a folder you may read") from error


def list_folders(path: Path) -> list[str]:
    """Sorted names of the visible folders in a folder."""
    return _visible(path, os.DirEntry.is_dir)


def list_files(path: Path) -> list[str]:
    """Sorted names of the visible files in a folder; no call per file but for links."""
    return _visible(path, os.DirEntry.is_file)


def missing_files(root: Path, paths: Iterable[str]) -> list[str]:
    """The paths that are not under root, in order. Lists each folder once, so 100,000 files take a second."""
    listings: dict[str, set[str]] = {}
    absent = []
    for path in paths:
        folder, _, name = path.rpartition("/")
        if folder not in listings:
            try:
                listings[folder] = set(os.listdir(root / folder))
            except OSError:
                listings[folder] = set()
        if name not in listings[folder]:
            absent.append(path)
    return absent


def check_images(root: Path, items: Iterable[Any], named_by: str) -> None:
    """Raises MissingFilesError unless every image exists."""
    absent = missing_files(root, (item.path for item in items))
    if absent:
        raise MissingFilesError(absent, root, named_by)


def is_image_name(name: str) -> bool:
    """Whether a file of that name should be an image, by its suffix."""
    return name.lower().endswith(SUFFIXES)


@cache
def image_formats() -> list[str]:
    """The allowed image formats, as far as this Pillow reads them. EPS is not allowed: Pillow starts Ghostscript for it."""
    PIL.Image.init()
    return sorted(FORMATS & set(PIL.Image.OPEN))


def known_format(file: Path | str | BinaryIO) -> None:
    """Raises what Pillow raises unless the file is encoded in one of `image_formats`."""
    with PIL.Image.open(file, formats=image_formats()):
        pass


def decode(file: Path | BinaryIO) -> PIL.Image.Image:
    """The image in RGB. Raises the errors of Pillow's decoders, and one for an image too large to be real (a decompression
    bomb)."""
    with PIL.Image.open(file, formats=image_formats()) as image:
        return image.convert("RGB")


def open_rgb(path: Path) -> PIL.Image.Image:
    """The image in RGB. ValueError, which names the file, where it cannot be decoded."""
    try:
        return decode(regular_file(path, "the image"))  # reading a named pipe would hang
    except Exception as error:  # decoders raise many types for damaged files
        raise ValueError(
            f"image {path} cannot be decoded ({error}): extract or download it again; "
            f"`python -m tools.doctor data=NAME images=true` finds all such files"
        ) from error


def size_of(path: Path) -> tuple[int, int] | None:
    """Width and height of an image, from the file's header alone; None where the file is missing or no image."""
    try:
        with PIL.Image.open(regular_file(path, "the image"), formats=image_formats()) as image:
            return image.size
    except Exception:  # decoders raise many types; the error is reported when the image is opened
        return None


class Disk:
    """A dataset folder `root/folder` whose items are relative to its sub-folder `images`."""

    needs: dict[str, str] = {}  # files it reads besides images: {path in the folder: description}

    def __init__(self, root: str, folder: str, images: str = ""):
        self.folder = Path(root).expanduser() / folder
        self.images = self.folder / images

    def splits(self, seed: int) -> Any:
        """The full lists, `Splits` or those of other items. `seed` matters only where a split has to be made. ValueError when
        something is missing."""
        raise NotImplementedError

    def digest(self, seed: int) -> str:
        """The data's digest, see `datamodules.identity`. ValueError, as in a run, where data are missing."""
        return self.digest_of(self.splits(seed))

    def digest_of(self, splits: Any) -> str:
        """A digest of those lists and of the sizes of some of their images."""
        paths = (item.path for items in (splits.train, splits.val, splits.test) for item in items)
        return identity.lists_digest(splits, identity.file_sizes(self.images, paths))

    def content_digest(self, items: Iterable[Any]) -> str:
        """A digest of the images: of every file's path, size and time of change."""
        return identity.files_digest(self.images, (item.path for item in items))

    def preview(self) -> Any:
        """The lists, without writing anything."""
        return self.splits(seed=1)

    def open(self, item: Any) -> PIL.Image.Image:
        """The image in RGB. ValueError, which names the file, where it cannot be decoded."""
        return open_rgb(self.images / item.path)
