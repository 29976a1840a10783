"""Reads label maps: PNG files with a number for every pixel. Anyone may have made them, so size and numbers are checked.

Legend: H, W size of a map; C classes
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image

from datamodules.segmented_items import IGNORE, MAX_CLASSES
from files.untrusted import read_json, regular_file

FORMATS = ["PNG"]  # JPEG changes the numbers
SUFFIX = ".png"
MODES = {"1", "L", "P", "I", "I;16", "I;16B"}  # one number a pixel
ROUNDED = {"L;2": 2, "L;4": 4}  # grey of so many bits, which Pillow stretches to 0..255
MAX_PIXELS = 2**27  # of a map: 128 million; the largest in a published dataset has 2 million
REFUSED = -1  # in a table of ids: a number that is no class
CLASSES = Path(__file__).with_name("segmentation_classes.json")


@cache
def known_classes(dataset: str) -> tuple[str, ...]:
    """The class names of a published dataset by id."""
    return tuple(read_json(CLASSES, "the list of classes")[dataset])


def table_of(ids: Mapping[int, int]) -> np.ndarray:
    """The table (256,) int16 from the numbers in a file to ids: those given, `IGNORE` for 255, `REFUSED` for all others."""
    table = np.full(256, REFUSED, np.int16)
    table[IGNORE] = IGNORE
    for number, label in ids.items():
        table[number] = label
    return table


def plain_table(classes: int, reduce_zero_label: bool = False) -> np.ndarray:
    """The table of maps whose numbers are ids.

    Args:
        classes: C.
        reduce_zero_label: 0 is ignored, and the numbers 1..C are the ids 0..C-1, as in ADE20K.
    """
    if reduce_zero_label:
        return table_of({0: IGNORE} | {number: number - 1 for number in range(1, classes + 1)})
    return table_of({number: number for number in range(classes)})


def read_label_map(path: Path, table: np.ndarray) -> np.ndarray:
    """The label map of a file, (H, W) uint8, with its numbers mapped by `table`.

    Raises:
        ValueError: the file is no PNG of one number a pixel, cannot be decoded, or has a number that is no class.
    """
    numbers = _numbers(path)
    if int(numbers.max(initial=0)) > 255 or int(numbers.min(initial=0)) < 0:
        raise ValueError(f"{_no_class(path, int(numbers[(numbers > 255) | (numbers < 0)].flat[0]))}, {_expected(table)}")
    ids = table[numbers]
    if (refused := ids == REFUSED).any():
        raise ValueError(f"{_no_class(path, int(numbers[refused].flat[0]))} ({refused.sum():,} px), {_expected(table)}")
    return ids.astype(np.uint8)


def _no_class(path: Path, number: int) -> str:
    return f"the label map {path} has the number {number}, which is no class"


def _expected(table: np.ndarray) -> str:
    known = np.flatnonzero(table[:IGNORE] != REFUSED)
    return f"where {known[0]} to {known[-1]} and {IGNORE} (left out) may stand: correct the map, or the list of classes."


def _numbers(path: Path) -> np.ndarray:
    """The numbers of a file, (H, W), of any integer type."""
    try:
        with PIL.Image.open(regular_file(path, "the label map"), formats=FORMATS) as image:
            mode, size, raw = image.mode, image.size, _raw_mode(image)
            fits = mode in MODES and raw not in ROUNDED and size[0] * size[1] <= MAX_PIXELS
            numbers = np.asarray(image) if fits else None
    except Exception as error:  # decoders raise many types for damaged files
        raise ValueError(
            f"the label map {path} cannot be decoded as PNG ({error}): extract or download it again; "
            "`python -m tools.doctor data=NAME images=true` finds all such files"
        ) from error
    if numbers is not None:
        return numbers.astype(np.uint8) if numbers.dtype == bool else numbers
    if mode not in MODES:
        raise ValueError(
            f"the label map {path} is a colour picture ({mode}) without class ids: save it with one number for each pixel, as "
            "an 8-bit grey or palette PNG."
        )
    if raw in ROUNDED:
        raise ValueError(
            f"the label map {path} is grey with {ROUNDED[raw]} bits a pixel, which programs read as different numbers: save "
            "it with 8 bits."
        )
    raise ValueError(f"the label map {path} has {size[0]:,} x {size[1]:,} px, more than {MAX_PIXELS:,}, which no map has.")


def _raw_mode(image: PIL.Image.Image) -> str:
    """How the file stores a pixel, such as "L;4"."""
    tiles = getattr(image, "tile", None) or [("", (), 0, "")]
    stored = tiles[0][3]
    return stored if isinstance(stored, str) else str(stored[0])


def check_classes(names: list[str], what: str) -> list[str]:
    """The class names. ValueError, which begins with `what`, where there are none, too many, or two equal ones."""
    if not 1 <= len(names) <= MAX_CLASSES:
        raise ValueError(f"{what} has {len(names)} classes: give 1 to {MAX_CLASSES}, as a label map has 8 bits a pixel.")
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise ValueError(f"{what} names the class {twice[0]!r} twice: give each class a name of its own.")
    return names
