"""Reads `predictions.npz`, which may be a stranger's: nothing is unpickled or evaluated, and no more is unpacked than a header
says, which is bounded. `ValueError` with one sentence where it holds no predictions."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from files.untrusted import regular_file

MOST_IMAGES = 2**24  # of one evaluation; ImageNet-21K tests on half a million
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # as numpy packs; zipfile unpacks others without bounds
PARTS = {"pred": "iu", "label": "iu", "confidence": "f"}  # and the kinds of number that they are


def read_arrays(file: Path, evaluation: str, classes: int | None = None) -> dict[str, np.ndarray] | None:
    """The arrays (N,) of one evaluation, by part; None where the file is absent or has none of this evaluation.

    Raises:
        ValueError: they are no class numbers (below `classes`, if given) and confidences from 0 to 1 of the same images.
    """
    if not file.exists():
        return None
    regular_file(file, "the predictions")
    try:
        with zipfile.ZipFile(file) as archive:
            names = {part: f"{evaluation}/{part}.npy" for part in PARTS}
            if not set(names.values()) <= set(archive.namelist()):
                return None
            found = {part: _array(archive, name, PARTS[part]) for part, name in names.items()}
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        RuntimeError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(f"{file} cannot be read ({str(error).rstrip('.')}): run that job again with force=true.") from error
    if len({len(array) for array in found.values()}) > 1:
        raise ValueError(f"{file}: the arrays of {evaluation} are not of the same images.")
    numbers = [found[part] for part in ("pred", "label")]
    most = min(classes or 2**31, 2**31)
    if any(len(array) and not 0 <= int(array.min()) <= int(array.max()) < most for array in numbers):
        raise ValueError(f"{file}: {evaluation} has a class number that is none of its {most:,} classes.")
    confidence = found["confidence"]
    if not bool(((confidence >= 0) & (confidence <= 1)).all()):
        raise ValueError(f"{file}: a confidence of {evaluation} is not between 0 and 1.")
    if not confidence.any():  # it is 0 where an image could not be read
        raise ValueError(f"{file}: {evaluation} has no image that could be read.")
    return found


# as numpy writes it for an array of one dimension; its own reader evaluates what stands there
HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[a-z][0-9]{1,2})', 'fortran_order': (?:False|True), 'shape': \(([0-9]{1,18}),\),? ?\}\s*"
)


def _array(archive: zipfile.ZipFile, name: str, kinds: str) -> np.ndarray:
    """A member of an npz, (N,): its header says how much is read, whatever the archive would unpack to."""
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
