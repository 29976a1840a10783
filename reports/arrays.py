"""Reads `predictions.npz`, which anyone may have made: nothing is unpickled or evaluated, and sizes are checked before arrays
are read. `ValueError` with one sentence where it holds no predictions."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from files.untrusted import regular_file

PREDICTIONS = "predictions.npz"
MOST_IMAGES = 2**24  # in one evaluation; ImageNet-21K tests on half a million
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # as numpy packs; for others zipfile does not limit the unpacked size
PARTS = {"pred": "iu", "label": "iu", "confidence": "f"}  # {array: kinds of its numbers, as numpy's `dtype.kind`}
UNREADABLE = (OSError, EOFError, ValueError, TypeError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Predictions:
    """The predictions of one evaluation, in the order of its test list.

    An image that could not be read has an entry too, with confidence 0, class 0 and label 0. `readable()` leaves these out, as
    every figure of the report does.

    Args:
        predicted_N: class index.
        label_N: index of the true class.
        confidence_N: probability of the predicted class, from 0 to 1.
    """

    predicted_N: np.ndarray
    label_N: np.ndarray
    confidence_N: np.ndarray

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray]) -> Predictions:
        """Predictions from the arrays (N,) named in `PARTS`."""
        return Predictions(arrays["pred"].astype(int), arrays["label"].astype(int), arrays["confidence"].astype(float))

    @property
    def readable_N(self) -> np.ndarray:
        """Whether the image could be read."""
        return self.confidence_N > 0

    @property
    def correct_N(self) -> np.ndarray:
        """Whether the prediction is right; of an unreadable image it is not."""
        return (self.predicted_N == self.label_N) & self.readable_N

    def at(self, which_N: np.ndarray) -> Predictions:
        """The predictions of some images, chosen by a mask or by indices."""
        return Predictions(self.predicted_N[which_N], self.label_N[which_N], self.confidence_N[which_N])

    def readable(self) -> Predictions:
        """The predictions of the images that could be read."""
        return self.at(self.readable_N)

    def is_of_the_images_of(self, other: Predictions) -> bool:
        """Whether both have the same test list, as far as the labels of the images that both could read show."""
        if len(self.label_N) != len(other.label_N):
            return False
        both_N = self.readable_N & other.readable_N
        return bool(both_N.any()) and np.array_equal(self.label_N[both_N], other.label_N[both_N])


def read_predictions(file: Path, evaluation: str, classes: int | None = None) -> Predictions | None:
    """The predictions of one evaluation; None where the file is absent or has none of this evaluation.

    Raises:
        ValueError: they are no class indices (below `classes`, if given) and confidences from 0 to 1 of the same images.
    """
    if not file.exists():
        return None
    regular_file(file, "the predictions")
    try:
        with zipfile.ZipFile(file) as archive:
            names = {part: f"{evaluation}/{part}.npy" for part in PARTS}
            if not set(names.values()) <= set(archive.namelist()):
                return None
            arrays = {part: _array(archive, name, PARTS[part]) for part, name in names.items()}
    except UNREADABLE as error:
        raise ValueError(f"{file} cannot be read ({str(error).rstrip('.')}): run that job again with force=true.") from error
    if len({len(array) for array in arrays.values()}) > 1:
        raise ValueError(f"{file}: the arrays of {evaluation} are not of the same images.")
    indices = [arrays[part] for part in ("pred", "label")]
    most = min(classes or 2**31, 2**31)
    if any(len(array) and not 0 <= int(array.min()) <= int(array.max()) < most for array in indices):
        raise ValueError(f"{file}: {evaluation} has a class number that is none of its {most:,} classes.")
    confidence = arrays["confidence"]
    if not bool(((confidence >= 0) & (confidence <= 1)).all()):
        raise ValueError(f"{file}: a confidence of {evaluation} is not between 0 and 1.")
    if not confidence.any():
        raise ValueError(f"{file}: {evaluation} has no image that could be read.")
    return Predictions.of(arrays)


# a header as numpy writes it for one dimension; numpy's own reader would evaluate it as Python
HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[a-z][0-9]{1,2})', 'fortran_order': (?:False|True), 'shape': \(([0-9]{1,18}),\),? ?\}\s*"
)


def _array(archive: zipfile.ZipFile, name: str, kinds: str) -> np.ndarray:
    """The array (N,) of a member of an npz. Reads as much as its header claims, however much the archive would unpack to."""
    if archive.getinfo(name).compress_type not in PACKED:
        raise ValueError(f"{name[:80]!r} is packed in a way that numpy does not use")
    with archive.open(name) as member:
        start = member.read(8)
        if start[:6] != b"\x93NUMPY":
            raise ValueError(f"{name[:80]!r} is no array")
        length = int.from_bytes(member.read(2 if start[6] == 1 else 4), "little")
        header = HEADER.fullmatch(member.read(min(length, 1000)))
        dtype = np.dtype(header[1].decode()) if header else None
        if dtype is None or dtype.kind not in kinds:
            raise ValueError(f"{name[:80]!r} is no list of the numbers that predictions are")
        size = int(header[2]) * dtype.itemsize
        if int(header[2]) > MOST_IMAGES:
            raise ValueError(f"{name[:80]!r} has {int(header[2]):,} entries, too many")
        content = member.read(size)
    if len(content) != size:
        raise ValueError(f"{name[:80]!r} is cut off")
    return np.frombuffer(content, dtype)
