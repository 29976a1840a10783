"""Pairs of objects with their relation, in the json file of Visual Genome (Krishna et al., 2017): relationships.json, a list of
images with "image_id" and "relationships", each with a "predicate", a "subject" and an "object", which have "x", "y", "w", "h"
in pixels and a "name", or "names".

Anyone may have made the file: it is read as plain data of bounded size and typed values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from datamodules import disk
from datamodules.annotation_files import AnnotatedImages, id_of
from datamodules.boxes import Box, from_xywh
from datamodules.relation_items import Pair, PairSplits
from files.untrusted import read_json, shown, text_of

# The official file has 700 MB. Cut it to the images that are tested: a value takes up to 120 bytes of memory.
MAX_BYTES, MAX_VALUES = 2**30, 60_000_000
LONGEST = 200  # characters of a name


class VisualGenome(AnnotatedImages):
    """Pairs of `root/folder/file`, all for testing. Pairs of other relations than those asked for are left out.

    Args:
        relations: in words, lower case.
        images: the folders below `root/folder` that images are looked for in, as IMAGE_ID.jpg.

    Raises:
        ValueError: no relation, or one that is named twice.
    """

    def __init__(
        self,
        root: str,
        folder: str,
        relations: Sequence[str],
        file: str = "relationships.json",
        images: Sequence[str] = ("VG_100K", "VG_100K_2"),
    ) -> None:
        super().__init__(root, folder)
        self.images, self.file, self.folders = self.folder, file, tuple(images)
        self.relations = tuple(relations)
        if not self.relations or len(set(self.relations)) < len(self.relations):
            raise ValueError(f"relations={list(relations)}: name at least one, and each once.")
        self.needs = {file: "the file of relations"}

    def listed(self) -> PairSplits:
        """The pairs of the file. ValueError for a malformed file, or where no pair is left."""
        path, what = self.folder / self.file, "the file of relations"
        content = read_json(disk.require(path, what), what, MAX_BYTES, MAX_VALUES)
        if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
            raise ValueError(f"{what} {path} is no list of objects, one for each image: download it again.")
        here = {name: folder for folder in reversed(self.folders) for name in self._names(folder)}
        pairs = [pair for number, entry in enumerate(content) for pair in self._pairs(entry, f"{path}: image {number}", here)]
        if not pairs:
            raise ValueError(f"{path} has no pair with one of the relations {', '.join(self.relations[:5])}, ...: name others.")
        return PairSplits([], [], pairs, list(self.relations))

    def _names(self, folder: str) -> list[str]:
        return disk.list_files(self.folder / folder) if (self.folder / folder).is_dir() else []

    def _pairs(self, entry: dict[str, Any], what: str, here: dict[str, str]) -> list[Pair]:
        image_id = id_of(entry.get("image_id"), f"{what}: image_id")
        rows = entry.get("relationships")
        if type(image_id) is not int or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{what} has no integer image_id and list of relationships: the file is damaged.")
        path, pairs = f"{here.get(f'{image_id}.jpg', self.folders[0])}/{image_id}.jpg", []
        for number, row in enumerate(rows):
            where = f"{what}, relation {number}"
            predicate = " ".join(text_of(row.get("predicate"), f"{where}: predicate", LONGEST).lower().split())
            if predicate not in self.relations:
                continue
            pair_id = id_of(row.get("relationship_id", f"{image_id}-{number}"), f"{where}: relationship_id")
            things = [_thing(row.get(key), f"{where}: {key}") for key in ("subject", "object")]
            pairs.append(Pair(path, image_id, pair_id, *things[0], *things[1], self.relations.index(predicate)))
        return pairs


def _thing(value: Any, what: str) -> tuple[str, Box]:
    """A thing's name and box. ValueError that begins with `what`."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {shown(value)}, not an object.")
    names = value.get("names")
    name = text_of(value.get("name", names[0] if isinstance(names, list) and names else None), f"{what}: name", LONGEST)
    box = [value.get(key) for key in ("x", "y", "w", "h")]
    if not all(type(side) in (int, float) and math.isfinite(side) for side in box) or min(box[2:]) <= 0:
        raise ValueError(f"{what} has no box: its x, y, w and h must be numbers, w and h above 0.")
    return name, from_xywh(box)
