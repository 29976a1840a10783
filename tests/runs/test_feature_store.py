"""The files of the store of image features: whole or not trusted, one of each, bounded in size."""

import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from runs.feature_store import FORMAT, FeatureStore

KEY, OTHER = "a" * 40, "b" * 40
SHAPE = (3, 1, 4)
ROWS = np.arange(12, dtype=np.float32).reshape(SHAPE)
GB = 1e-9


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store", 1)


def path_of(store, key=KEY):
    return store.folder / f"{key}.safetensors"


def test_what_is_written_is_read_by_anyone(store):
    assert store.read(KEY, SHAPE) is None
    store.write(KEY, ROWS, "toys")
    entry = store.read(KEY, SHAPE)
    assert isinstance(entry.rows, np.memmap)
    assert entry.rows.dtype == np.float32
    assert np.array_equal(entry.rows, ROWS)
    assert np.array_equal(load_file(path_of(store))["features"], ROWS)
    entry.rows[:] = 0  # stays in this process
    assert np.array_equal(store.read(KEY, SHAPE).rows, ROWS)
    assert sorted(os.listdir(store.folder)) == [".store.lock", f"{KEY}.safetensors"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


def grow(path):
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path):
    path.write_bytes(b"")


def be_a_folder(path):
    path.unlink()
    path.mkdir()


def be_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def claim_a_long_header(path):
    path.write_bytes((2**60).to_bytes(8, "little") + path.read_bytes()[8:])


def claim_a_huge_shape(path):
    path.write_bytes(path.read_bytes().replace(b"[3,1,4]", b"[9,9,9]"))


def hold(rows, **metadata):
    """Writes another whole file, with a right checksum."""
    import hashlib

    def write(path):
        known = {"format": FORMAT, "key": KEY, "about": "x", "sha256": hashlib.sha256(rows.reshape(-1)).hexdigest()}
        save_file({"features": rows}, path, known | metadata)

    return write


def be_of_another_project(path):
    save_file({"weights": ROWS}, path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "cut short"),
        (flip, "checksum"),
        (grow, "cut short"),
        (empty, "not JSON"),
        (be_a_folder, "is a folder"),
        (be_a_pipe, "a pipe"),
        (claim_a_long_header, "header is too long"),
        (claim_a_huge_shape, "another format"),
        (hold(ROWS, key=OTHER), "another key or shape"),
        (hold(ROWS[:2]), "another key or shape"),
        (hold(ROWS.astype(np.float64)), "another format"),
        (hold(ROWS.reshape(3, 4)), "no shape"),
        (hold(ROWS, format="1"), "another format"),
        (hold(ROWS * np.nan), "not finite"),
        (be_of_another_project, "something else"),
    ],
)
def test_what_is_not_whole_or_foreign_is_not_trusted_and_said_once(store, capsys, damage, words):
    store.write(KEY, ROWS, "toys")
    damage(path_of(store))
    for _ in range(2):
        assert store.read(KEY, SHAPE) is None
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "computed again" in said
    assert words in said
    if path_of(store).is_file():
        store.write(KEY, ROWS, "toys")
        assert np.array_equal(store.read(KEY, SHAPE).rows, ROWS)


def test_what_an_entry_says_of_itself_is_printable(store):
    store.write(KEY, ROWS, "toys")
    store.write(OTHER, ROWS, "toys\x1b[31m")
    assert sorted(entry.about for entry in store.entries()) == ["not readable", "toys (3 x 1 x 4)"]


# ---- size


def sized(tmp_path, count):
    """A store with room for so many entries of 1 MB, and a writer of the entry number i, used i seconds after 1970."""
    store = FeatureStore(tmp_path, count * 1.2e6 * GB)
    rows = np.ones((250, 1, 1000), np.float32)

    def write(i):
        store.write(f"{i:040}", rows, f"entry {i}")
        if (path := path_of(store, f"{i:040}")).exists():
            os.utime(path, (i, i))

    return store, rows.shape, write


def names(store):
    return sorted(int(entry.path.stem) for entry in store.entries())


def test_what_was_not_used_for_the_longest_time_makes_room(tmp_path):
    store, shape, write = sized(tmp_path, 3)
    for i in (1, 2, 3):
        write(i)
    store.read(f"{1:040}", shape)  # used now, and closed at once
    write(4)
    write(5)
    assert names(store) == [1, 4, 5]
    assert sum(entry.size for entry in store.entries()) <= store.most


def test_what_is_in_use_stays(tmp_path, capsys):
    store, shape, write = sized(tmp_path, 2)
    write(1)
    write(2)
    held = store.read(f"{1:040}", shape)
    os.utime(held.file.name, (1, 1))
    write(3)
    assert names(store) == [1, 3]
    assert store.clear()[1][0].about == "entry 1 (250 x 1 x 1000)"
    assert names(store) == [1]
    second = store.read(f"{1:040}", shape), write(4), store.read(f"{4:040}", shape)
    write(5)  # there is room for two, and both are open
    assert names(store) == [1, 4]
    assert "image features are not kept" in capsys.readouterr().out
    del held, second
    write(5)
    assert 5 in names(store)


def test_clearing_by_age(tmp_path):
    store, _, write = sized(tmp_path, 9)
    write(1)
    store.write(KEY, ROWS, "new")
    assert [entry.about for entry in store.clear(1.0)[0]] == ["entry 1 (250 x 1 x 1000)"]
    assert [entry.about for entry in store.entries()] == ["new (3 x 1 x 4)"]
    assert FeatureStore(tmp_path / "nowhere", 1).clear() == ([], [])


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").touch()
    store = FeatureStore(tmp_path / "file", 1)
    for _ in range(2):
        assert store.read(KEY, SHAPE) is None
        with store.filling(KEY, lambda: None) as alone:
            assert alone
        store.write(KEY, ROWS, "toys")
    said = capsys.readouterr().out
    assert said.startswith("image features are not kept: ")
    assert said.count("\n") == 1
