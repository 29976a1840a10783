"""A user's own images: class folders, with or without splits, or a table of paths and labels. Nothing is written there."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Mapping
from pathlib import Path

from datamodules import disk
from datamodules.class_folders import SplitFolders, class_folders, image_files
from datamodules.fallback import split_503020
from datamodules.items import Item, Splits, by_label, item_of
from files.untrusted import path_within, read_bytes, text_of, visible

TABLE = ".csv"
COLUMNS = ("path", "label")  # of a table, which may also have `split`
SPLITS = ("train", "val", "test")
LEAST = 4  # images of a class that is split: 2 for training, 1 for validation, 1 for testing


class OwnImages(SplitFolders):
    """Images of one's own, in one of three layouts:

    - `FOLDER/train/CLASS/FILE`, `FOLDER/val/...` (which may be missing) and `FOLDER/test/...`, as `SplitFolders` reads them;
    - `FOLDER/CLASS/FILE`: of each class half is for training, a fifth for validation, the rest for testing, drawn with
      `split_seed`, so that runs of all seeds are tested on the same images;
    - a csv file with the columns path (relative to its folder), label (a class name) and perhaps split (train, val or test;
      without it images are drawn as above).

    Args:
        root: the folder where `folder` is null.
        folder: the folder or the csv file.
        split_seed: the seed of the split that is drawn.
        train, val, test, rename: as `SplitFolders` takes them.
    """

    def __init__(
        self,
        root: str,
        folder: str | None = None,
        split_seed: int = 1,
        train: str | None = "train",
        val: str | None = "val",
        test: str = "test",
        rename: Mapping[str, str] | None = None,
    ) -> None:
        place = Path(folder or root).expanduser()
        self.table = place if place.suffix.lower() == TABLE else None
        super().__init__(str(place.parent if self.table else place), train, val, test, rename)
        self.split_seed = split_seed

    @property
    def needs(self) -> dict[str, str]:  # type: ignore[override]
        """The folders that must be there, where the layout is that of splits."""
        return super().needs if self._has_splits() else {}

    def _has_splits(self) -> bool:
        return not self.table and any((self.images / name).is_dir() for name in self.split_folders.values() if name)

    def splits(self, seed: int) -> Splits:
        """The lists, the same for every seed. ValueError, in one sentence, where there is none of the three layouts."""
        if self._has_splits():
            return super().splits(seed)
        if self.table:
            return self._from_table(self.table)
        disk.require(self.folder, "the folder of images")
        folders = class_folders(self.images)
        if stray := [name for name in disk.list_files(self.images) if disk.is_image_name(name)]:
            raise ValueError(
                f"{self.images / visible(stray[0])} is in no class folder ({len(stray)} such images): move it into its class's "
                "folder"
            )
        items = []
        for label, (name, classname) in enumerate(self._classnames("", folders).items()):
            paths = [f"{name}/{file}" for file in image_files(self.images / name)]
            items += [item_of((path, label, classname), f"{path!r} of {self.folder}") for path in paths]
            if not paths:
                raise ValueError(f"the class folder {self.images / name} is empty: put images there, or remove it")
        return self._divided(items)

    def _divided(self, items: list[Item]) -> Splits:
        groups = by_label(items).values()
        if few := [group for group in groups if len(group) < LEAST]:
            raise ValueError(
                f"{self.table or self.folder} has {len(few[0])} images of {few[0][0].classname!r}, and a class needs {LEAST} "
                "to be divided into training, validation and test images: add some, or say which are which (docs/data.md)"
            )
        return split_503020(groups, random.Random(self.split_seed))

    def _from_table(self, table: Path) -> Splits:
        rows = read_table(table, COLUMNS)
        names = sorted({_cell(row, "label", at, table) for at, row in enumerate(rows, 2)})
        items, lists = [], {split: [] for split in SPLITS}
        for at, row in enumerate(rows, 2):
            path, label = path_within(row["path"], f"{table}, line {at}: the path"), names.index(row["label"])
            item = Item(path, label, self.rename.get(row["label"], row["label"]))
            items.append(item)
            if "split" in row:
                if row["split"] not in SPLITS:
                    raise ValueError(f"{table}, line {at}: the split is {row['split']!r:.40}: give one of {', '.join(SPLITS)}")
                lists[row["split"]].append(item)
        if twice := len(items) - len({item.path for item in items}):
            raise ValueError(f"{table} names {twice} image(s) twice: leave one line for each")
        disk.check_images(self.images, items, table.name)
        return Splits(**lists) if "split" in rows[0] else self._divided(items)  # type: ignore[arg-type]


def read_table(table: Path, columns: tuple[str, str]) -> list[dict[str, str]]:
    """The rows of a csv file that has these columns, and perhaps `split`. ValueError for any other file."""
    what = f"the table of {columns[1]}s"
    content = read_bytes(disk.require(table, what), what)
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table} is no csv file in UTF-8 ({error}): save it as one") from error
    if not rows or not set(columns) <= set(rows[0]):
        found = visible(", ".join(str(name) for name in rows[0])) if rows else "no row"
        raise ValueError(
            f"{table} has {found[:100]}: its first line names the columns {' and '.join(columns)}, and perhaps split"
        )
    return rows


def _cell(row: Mapping[str, str], column: str, line: int, table: Path) -> str:
    return text_of(row[column], f"{table}, line {line}: the {column}", 1000)
