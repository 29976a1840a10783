"""Images without labels, named by files, folders and lists, for prediction."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import PIL.Image

from datamodules.disk import is_image_name, open_rgb, read_text
from datamodules.items import Item

LINKED = "linked folder(s)"  # among what is passed over
LIST = ".txt"  # the suffix of a list of images, one path a line
MOST = 100_000_000  # images of one call


class ImageFiles:
    """A source of images by their paths; labels are 0.

    Args:
        given: images; folders, in which images are searched at any depth, in sorted order; and lists (.txt), whose relative
            paths are relative to the list's folder. An image that is named twice is taken once.

    Raises:
        ValueError: a path does not exist, is no image, or holds none.
    """

    in_memory = False
    listed = True  # whoever predicts lists what cannot be read: the loader says nothing of it

    def __init__(self, given: Sequence[str | Path]) -> None:
        self.passed_over: Counter[str] = Counter()  # what folders hold besides, by suffix
        paths = dict.fromkeys(str(path) for one in given for path in _images(Path(one).expanduser(), self.passed_over))
        if len(paths) > MOST:
            raise ValueError(f"{len(paths):,} images are named, more than {MOST:,}: predict them in parts.")
        self.items = [Item(path, 0, "") for path in paths]

    def open(self, item: Item) -> PIL.Image.Image:
        """The image in RGB. ValueError, which names the file, where it cannot be decoded."""
        return open_rgb(Path(item.path))

    def why(self, item: Item) -> str:
        """What is wrong with an image that could not be opened."""
        return f"{item.path} {'cannot be decoded' if os.path.lexists(item.path) else 'does not exist'}"


def _images(path: Path, passed_over: Counter[str]) -> Iterator[Path]:
    if path.is_dir():
        found = sorted(_below(path, passed_over))
        if not found:
            besides = f", only {in_words(passed_over)}" if passed_over else ""
            raise ValueError(f"there is no image in {path} or its folders{besides}: name the folder that holds them.")
        yield from found
    elif path.suffix == LIST:
        lines = read_text(path, "the list of images")
        if not lines:
            raise ValueError(f"the list {path} names no image.")
        yield from (path.parent / Path(line).expanduser() for line in lines)
    elif not path.is_file():
        raise ValueError(f"{path} does not exist: name an image, a folder of images, or a list of them ({LIST}).")
    elif not is_image_name(path.name):
        raise ValueError(f"{path} is not named like an image: name an image, a folder of images, or a list of them ({LIST}).")
    else:
        yield path


def _below(folder: Path, passed_over: Counter[str]) -> Iterator[Path]:
    """The visible images of a folder and its folders; links to folders are not followed, but counted, as other files are."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        passed_over[LINKED] += sum(os.path.islink(os.path.join(parent, name)) for name in folders)
        for name in files:
            if is_image_name(name) and not name.startswith("."):
                yield Path(parent, name)
            elif not name.startswith("."):
                passed_over[os.path.splitext(name)[1].lower() or "without a suffix"] += 1


def in_words(passed_over: Counter[str]) -> str:
    """What was passed over: "3 .heic, 1 linked folder(s)"."""
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(passed_over.items()) if count)
