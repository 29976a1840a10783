"""Captions in json files: the base of their sources, and functions for all readers of such files.

Anyone may have made the files: they are read as plain data of bounded size and typed values, with paths below the image folder.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules import disk, identity
from datamodules.captioned_items import CaptionSplits, QuestionSplits
from files.untrusted import path_within, read_json, shown, text_of

# The largest official files: dataset_coco.json has 150 MB and 13 million values, v2_mscoco_train2014_annotations.json of VQA v2
# 400 MB and 24 million. A value takes up to 120 bytes of memory while a file is read.
MAX_BYTES, MAX_VALUES = 512 * 2**20, 40_000_000
MAX_TEXTS = 1000  # captions of an image, answers to a question: COCO has up to 7 and 10, c40 has 40
MAX_SENTENCE = 2000  # characters of a caption, a question or an answer
MAX_ID = 10**18  # of an image or a question
HOLD_SEED = 1  # fixed: which images are held out must not depend on the run's seed
_READ: dict[str, CaptionSplits | QuestionSplits] = {}  # the lists read last: a run asks for them twice, and files are large


class AnnotatedImages(disk.Disk):
    """Images below `root/folder/images` that json files in `root/folder` describe. A subclass defines `listed`."""

    def listed(self) -> Any:
        """The lists in the files, whether their images exist or not. ValueError for a malformed file."""
        raise NotImplementedError

    def splits(self, seed: int) -> Any:
        """The full lists, the same for every seed. ValueError where a file or an image is missing or malformed."""
        disk.require(self.folder, "the dataset's folder")
        key = f"{type(self).__qualname__} {vars(self)} {identity.files_digest(self.folder, self.needs)}"
        if key not in _READ:
            splits = self.listed()
            check_apart({"train": splits.train, "val": splits.val, "test": splits.test}, self.folder)
            _READ.clear()
            _READ[key] = splits
        lists: dict[str, Any] = {split: list(getattr(_READ[key], split)) for split in ("train", "val", "test")}
        splits = replace(_READ[key], **lists)
        images = {item.path: item for item in (*splits.train, *splits.val, *splits.test)}  # of several questions once
        disk.check_images(self.images, images.values(), " and ".join(self.needs))
        return splits

    def digest_of(self, splits: Any) -> str:
        """A digest of those lists and of the sizes of some of their images."""
        lists = (splits.train, splits.val, splits.test)
        return identity.digest_of(*lists, identity.file_sizes(self.images, (item.path for items in lists for item in items)))


def check_apart(lists: Mapping[str, Iterable[Any]], where: object) -> None:
    """ValueError where an image is in two lists: the same file, or the same id, as COCO's of 2014 and of 2017 have."""
    of_image: dict[str | int, str] = {}
    for split, items in lists.items():
        for key in dict.fromkeys(key for item in items for key in (item.image_id, item.path)):
            if (other := of_image.setdefault(key, split)) != split:
                raise ValueError(f"image {key} of {where} is in {other} and in {split}: take it out of one of the two lists.")


def hold_out(items: list[Any], count: int, what: str) -> tuple[list[Any], list[Any]]:
    """The items without those of `count` images, and the items of these images. The images are drawn with a fixed seed, and the
    order of the list is kept. ValueError where there are not more than `count` images."""
    paths = sorted({item.path for item in items})
    if count >= max(len(paths), 1):
        raise ValueError(f"{what}={count}: there are {len(paths):,} images to take that many from; give fewer, or 0 for none.")
    held = set(random.Random(HOLD_SEED).sample(paths, count))
    return [item for item in items if item.path not in held], [item for item in items if item.path in held]


# ---- functions for readers of json files


def read_annotations(path: Path, what: str) -> dict[str, Any]:
    """The object that a json file holds. ValueError where the file is missing, too large or something else."""
    content = read_json(disk.require(path, what), what, MAX_BYTES, MAX_VALUES)
    if not isinstance(content, dict):
        raise ValueError(f"{what} {path} holds a {type(content).__name__}, not an object with lists: download it again.")
    return content


def records(content: Mapping[str, Any], key: str, where: object) -> list[dict[str, Any]]:
    """The list of objects under a key. ValueError where there is none."""
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{where} has no list of objects under {key!r}: it is another kind of file, or damaged.")
    return rows


def by_id(rows: Sequence[dict[str, Any]], key: str, where: str) -> dict[int | str, dict[str, Any]]:
    """Objects by their id. ValueError where one has none, or two have the same."""
    of_id: dict[int | str, dict[str, Any]] = {}
    for i, row in enumerate(rows):
        name = id_of(row.get(key), f"{where}: entry {i}: {key}")
        if name in of_id:
            raise ValueError(f"{where}: the {key} {name} occurs twice: remove one of the two.")
        of_id[name] = row
    return of_id


def id_of(value: Any, what: str) -> int | str:
    """The value, if it is an id: an integer from 0 to 10^18, or a short text. ValueError that begins with `what`."""
    if type(value) is int and 0 <= value <= MAX_ID:
        return value
    if isinstance(value, str):
        return text_of(value, what, 200)
    raise ValueError(f"{what} is {shown(value)}: an id is an integer from 0 to 10^18, or a text.")


def sentence_of(value: Any, what: str) -> str:
    """The value, if it is a sentence, with single spaces: official captions have line ends and double spaces. ValueError that
    begins with `what`."""
    return text_of(" ".join(value.split()) if isinstance(value, str) else value, what, MAX_SENTENCE)


def texts_of(rows: Any, key: str, what: str, read: Callable[[Any, str], str] = sentence_of) -> tuple[str, ...]:
    """The texts under `key` in a list of objects. ValueError that begins with `what`."""
    if not isinstance(rows, list) or len(rows) > MAX_TEXTS or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{what} is no list of at most {MAX_TEXTS:,} objects with a {key!r} each.")
    return tuple(read(row.get(key), f"{what}, number {i}") for i, row in enumerate(rows))


def image_path(folder: str, name: Any, what: str) -> str:
    """The path of an image in a folder below the image root; "" is the root itself. ValueError that begins with `what`."""
    name = path_within(name, what)
    return f"{folder}/{name}" if folder else name
