"""Finds what is missing, misplaced or unreadable among images with label maps, and which classes occur. Writes nothing."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from datamodules import layouts
from datamodules.disk import MissingFilesError
from datamodules.segmented_disk import SegmentedDisk
from datamodules.segmented_items import IGNORE, SegmentedSplits, check_fits
from tools.dataset_checks import Problem, missing_files, missing_parts

FIRST = 10  # images of each list that are read unless all are


def examine_masks(name: str, source: SegmentedDisk, every_image: bool, limit: int) -> tuple[list[Problem], list[str]]:
    """The problems of a dataset, and remarks for which nothing needs to be done."""
    problems = list(missing_parts(source))
    try:
        splits: Any = source.preview()
    except MissingFilesError as error:
        return problems + list(missing_files(error, error.root, limit)), []
    except ValueError as error:  # a sentence that says what to do
        return problems or [Problem(str(error), "")], []
    lists = (splits.train, splits.val, splits.test)
    chosen = [item for items in lists for item in (items if every_image else islice(items, FIRST))]
    pixels = np.zeros(256, np.int64)
    broken = list(_unreadable(source, chosen, pixels))
    problems += [Problem(error, "") for error in broken[: limit or None]]
    if limit and len(broken) > limit:
        problems.append(Problem(f"{len(broken) - limit} more pairs of image and label map are wrong", "limit=0 lists them"))
    return problems, [*_sizes(name, splits), *_classes(splits.classnames, pixels, len(chosen) - len(broken), every_image)]


def _unreadable(source: SegmentedDisk, items: Iterable[Any], pixels: np.ndarray) -> Iterator[str]:
    """The problem of each pair that cannot be used. Adds the pixels of the others to the counts by id `pixels` (256,)."""
    for item in items:
        try:
            image, label_map = source.open(item), source.open_mask(item)
            check_fits(image, label_map, item)
        except ValueError as error:
            yield str(error)
        else:
            pixels += np.bincount(label_map.reshape(-1), minlength=256)


def _sizes(name: str, splits: SegmentedSplits) -> list[str]:
    sizes = (len(splits.classnames), len(splits.train), len(splits.val), len(splits.test))
    published = layouts.MASK_SIZES.get(name, sizes)
    held_out = published == (sizes[0], sizes[1] + sizes[2], 0, sizes[3])
    others = [] if held_out or sizes == published else [f"these are not the published lists: they have {_line(published)}"]
    return [_line(sizes), *others]


def _line(sizes: Sequence[int]) -> str:
    return "{} classes, {:,} / {:,} / {:,} training / validation / test images".format(*sizes)


def _classes(names: Sequence[str], pixels: np.ndarray, maps: int, every_image: bool) -> list[str]:
    """The share of ignored pixels and, where all label maps were read, the classes without a pixel."""
    if not (total := pixels.sum()):
        return []
    where = f"the {maps:,} label maps" if every_image else f"the {maps:,} label maps that were read"
    remarks = [f"{pixels[IGNORE] / total:.1%} of the pixels of {where} are left out"]
    absent = [name for name, count in zip(names, pixels, strict=False) if not count]
    if every_image and absent:
        more = ", ..." if len(absent) > FIRST else ""
        remarks.append(f"{len(absent)} of {len(names)} classes are in no label map: {', '.join(absent[:FIRST])}{more}")
    return remarks
