"""predictions.npz as a stranger makes it: nothing is unpickled, evaluated or unpacked beyond bounds."""

import os
import re
import time
import zipfile

import numpy as np
import pytest
from refusals import one_sentence, refused
from strangers import guessed, put

from reports.arrays import read_predictions
from reports.classification import most_confused

GOOD = {"pred": np.array([0, 1], np.uint8), "label": np.array([0, 2], np.uint8), "confidence": np.array([0.5, 0.0], np.float16)}
BAD_ARRAYS = {
    "two dimensions": {"pred": np.zeros((2, 1), int)},
    "floats": {"pred": np.array([0.0, 1.0])},
    "objects": {"pred": np.array([print, None], object)},
    "texts": {"label": np.array(["a", "b"])},
    "other length": {"label": np.zeros(3, int)},
    "negative": {"label": np.array([-1, 0])},
    "beyond the classes": {"pred": np.array([0, 3])},
    "huge": {"label": np.array([2**63, 0], np.uint64)},
    "not a number": {"confidence": np.array([np.nan, 0.5])},
    "infinite": {"confidence": np.array([np.inf, 0.5])},
    "below 0": {"confidence": np.array([-0.5, 0.5])},
    "integers": {"confidence": np.array([1, 0])},
    "complex": {"confidence": np.array([1j, 0])},
}


@pytest.mark.parametrize("arrays", BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_arrays_that_are_no_predictions(tmp_path, arrays):
    path = tmp_path / "predictions.npz"
    np.savez(path, **{f"test/{part}": array for part, array in (GOOD | arrays).items()})
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_predictions(path, "test", 3)


def npy(shape, descr="<i8", content=b""):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


@pytest.mark.parametrize(
    "member",
    [
        npy("(10**18,)"),
        npy("(10000000000,)"),
        npy("(-1,)"),
        npy("()"),
        npy("(5,)", content=b"1234"),
        npy("(2,)", "|O", b"cos\nsystem\n."),
        npy("(__import__('os').mkdir('harm'),)"),
        npy("(" * 2000),
        b"",
        b"no array",
    ],
)
def test_headers_that_lie(tmp_path, monkeypatch, member):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "predictions.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in GOOD:
            archive.writestr(f"test/{part}.npy", member)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_predictions(path, "test", 3)
    assert not (tmp_path / "harm").exists()


def test_a_bomb_is_not_unpacked(tmp_path):
    """2 GiB of zeros in 2 MiB: no more is read than the header says, and that is bounded."""
    path = tmp_path / "predictions.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in GOOD:
            with archive.open(f"test/{part}.npy", "w") as file:
                file.write(npy(f"({2**31},)", "|u1"))
                for _ in range(64):
                    file.write(bytes(2**20))
    begun = time.monotonic()
    with pytest.raises(ValueError, match="too many"):
        read_predictions(path, "test", 3)
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"garbage" * 100])
def test_predictions_that_cannot_be_read_leave_the_result(tmp_path, command, content):
    metrics, arrays = guessed(0.6)
    path = put(tmp_path, metrics={"test": metrics}, predictions={"test": arrays})
    path.with_name("predictions.npz").write_bytes(content)
    status, output, page = command()
    assert status == 0
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("Without its predictions: ")
    assert f"{metrics['accuracy']:.1f}" in output.out
    assert "predictions.npz cannot be read" in page


def test_a_pipe_named_predictions_is_not_waited_for(tmp_path, command):
    path = put(tmp_path)
    os.mkfifo(path.with_name("predictions.npz"))
    status, output, _ = command("--markdown")
    assert status == 0
    assert "is a pipe" in output.err


def test_members_that_grow_while_they_are_read(tmp_path):
    """A packed byte of bzip2 can stand for a million, and zipfile unpacks all of what it has read."""
    path = tmp_path / "predictions.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        for part in GOOD:
            archive.writestr(f"test/{part}.npy", npy("(2,)", "<i8", bytes(200 * 2**20 if part == "pred" else 16)))
    refused(read_predictions, path, "test", 3)


def test_more_images_than_any_test_set_has(tmp_path):
    """A file of a megabyte: as the report's numbers they take 24 bytes each."""
    path, count = tmp_path / "predictions.npz", 2**24 + 1
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in GOOD:
            kind = "<f2" if part == "confidence" else "|u1"
            archive.writestr(f"test/{part}.npy", npy(f"({count},)", kind, bytes(count * (1 + (kind == "<f2")))))
    assert "too many" in refused(read_predictions, path, "test", 3)


def test_a_table_of_many_classes_is_made_once():
    counts = np.zeros((3000, 3000), np.int32)
    counts[5, 7], counts[5, 5] = 1, 3
    pairs = one_sentence(most_confused, counts, list(map(str, range(3000))))
    assert pairs == [("5", "7", 25.0)]
