"""Datasets with a split json of CoOp's form: {"train" | "val" | "test": [[path, label, class name], ...]}."""

import json
import logging
import math
import os
import random
import tempfile
from pathlib import Path
from typing import Any, Protocol

from datamodules import disk
from datamodules.items import Item, Splits, item_of
from files.untrusted import read_json

log = logging.getLogger(__name__)
NAMES = ("train", "val", "test")


class Fallback(Protocol):
    """Makes a split from a dataset's own files where the json is missing."""

    needs: dict[str, str]  # files it reads in the dataset's folder: {relative path: description}

    def __call__(self, folder: Path, images: Path, rng: random.Random) -> Splits:
        """The split of the dataset in `folder`, item paths relative to `images`. ValueError where its lists are not usual."""


def read_split(path: Path, seed: int | None = None) -> Splits:
    """The splits of a file; class names are as stored. A split that a fallback made with this seed has its `rng_state`.

    Raises:
        ValueError: the file is no json of this form, a label is no integer, a path leaves the image folder, labels have gaps.
    """
    try:
        content = read_json(path, "the file")
        splits = Splits(*_lists(content), rng_state=_rng_state(content.get("fallback"), seed))  # type: ignore[arg-type, misc]
        splits.classnames  # noqa: B018
    except ValueError as error:
        raise ValueError(
            f"split file {path} cannot be read ({str(error).rstrip('.')}): it should hold train, val and test lists of [path, "
            "label, class name]; download it again or correct it, or delete it to have a fallback split made"
        ) from error
    return splits


def _lists(content: Any) -> list[list[Item]]:
    if not isinstance(content, dict) or not all(isinstance(content.get(split), list) for split in NAMES):
        raise ValueError(f"it has no lists {', '.join(NAMES)}")
    return [[item_of(row, f"entry {i} of {split}") for i, row in enumerate(content[split])] for split in NAMES]


def _rng_state(made_here: Any, seed: int | None) -> tuple | None:
    """The state of `random.Random` that a fallback split made with this seed was stored with; None for another split."""
    if made_here is None:
        return None
    if not isinstance(made_here, dict) or type(made_here.get("seed")) is not int:
        raise ValueError('its entry "fallback" has no integer seed')
    match made_here.get("rng_state"):
        case None:
            return None
        case [3, [*words, position], after] if (
            len(words) == 624
            and all(type(word) is int and 0 <= word < 2**32 for word in words)
            and type(position) is int
            and 0 <= position <= 624
            and (after is None or (isinstance(after, float) and math.isfinite(after)))
        ):
            return (3, (*words, position), after) if made_here["seed"] == seed else None
    raise ValueError('the rng_state of its entry "fallback" is no state of a random generator')


def write_split(path: Path, splits: Splits, made_with: int | None = None) -> None:
    """Writes the file whole, and never over an existing one: of two runs that make a split at once, both use the first one's.

    The published reader ignores the extra key "fallback", which says that (and with which seed) the split was made.
    """
    content: dict = {split: getattr(splits, split) for split in NAMES}
    text = json.dumps(content, indent=4)
    if made_with is not None:
        # The generator's state is stored, so that a resumed run selects the few-shot images of the run that made the split.
        extra = json.dumps({"seed": made_with, "rng_state": splits.rng_state})
        text = f'{text[:-2]},\n    "fallback": {extra}\n}}'
    try:
        _write_first(path, text)
    except OSError as error:
        raise ValueError(
            f"the split {path} cannot be written ({error}): make the folder writable and free space on its disk, or put the "
            "official file there"
        ) from error


def _write_first(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


class SplitJson(disk.Disk):
    """A dataset with a split json. `fallback`, if given, makes (and stores) a split when the json is missing."""

    def __init__(self, root: str, folder: str, split: str, images: str = "", fallback: Fallback | None = None):
        super().__init__(root, folder, images)
        self.split = self.folder / split
        self.fallback = fallback

    @property
    def needs(self) -> dict[str, str]:  # type: ignore[override]
        """What is missing without the split file: {path in the folder: what that is}."""
        if self.split.exists():
            return {}
        return {self.split.name: "the published split file"} | (self.fallback.needs if self.fallback else {})

    def preview(self) -> Splits:
        """The lists, without storing a split."""
        return super().preview() if self.split.exists() else self.make(seed=1)

    def splits(self, seed: int) -> Splits:
        """The lists of the split file, which the fallback makes with `seed` if it is missing. ValueError for missing files."""
        disk.require(self.folder, "the dataset's folder")
        if not self.split.exists():
            self._store(seed)
        splits = read_split(self.split, seed)
        disk.check_images(self.images, (*splits.train, *splits.val, *splits.test), self.split.name)
        return splits

    def _store(self, seed: int) -> None:
        splits = self.make(seed)
        write_split(self.split, splits, made_with=seed)
        log.warning(
            "%s\n%s is missing: a split was made from the dataset's own files with seed %d and stored there. It is NOT "
            "the published split: numbers are not comparable with papers. For the published one delete the file, and "
            "put there the file that CoOp's DATASETS.md links to.\n%s", "!" * 100, self.split, seed, "!" * 100
        )  # fmt: skip

    def make(self, seed: int) -> Splits:
        """The fallback's split, not stored. Few-shot sampling continues with its random generator, as published."""
        if self.fallback is None:
            raise ValueError(f"the split file {self.split} is missing: put it there, as CoOp's DATASETS.md describes")
        disk.require(self.images, "the image folder")
        rng = random.Random(seed)
        splits = self.fallback(self.folder, self.images, rng)
        everything = [item_of(item, f"{item.path!r} of {self.folder}") for split in NAMES for item in getattr(splits, split)]
        if not everything:
            raise ValueError(f"no images found under {self.images}: extract the dataset there")
        disk.check_images(self.images, everything, "the dataset's own lists")
        return Splits(splits.train, splits.val, splits.test, rng_state=rng.getstate())
