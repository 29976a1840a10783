"""Processes that share a store of image features, and one that is killed."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from toys import ROOT

from runs.feature_store import FeatureStore

KEY = "a" * 40
ROUNDS = 30
FILL = f"""
import sys, time, numpy as np
from pathlib import Path
from runs.feature_store import FeatureStore
store, start, me = FeatureStore(Path(sys.argv[1]), 1), float(sys.argv[2]), sys.argv[3]
computed = 0
for i in range({ROUNDS}):
    while time.time() < start + 0.02 * i:
        pass
    key, shape = f"{{i:040}}", (50, 2, 100)
    while (entry := store.read(key, shape)) is None:
        with store.filling(key, (lambda: None) if i % 3 else None) as alone:
            if alone and store.read(key, shape) is None:
                computed += 1
                store.write(key, np.full(shape, i, np.float32), "round")
    assert (entry.rows == i).all()
print(computed)
"""


def started(code, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_processes_that_fill_the_same_entries_at_once_compute_each_once(tmp_path):
    processes = [started(FILL, tmp_path, time.time() + 1.5, i) for i in range(3)]
    ended = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(map(int, ended)) == ROUNDS
    store = FeatureStore(tmp_path, 1)
    assert all((store.read(f"{i:040}", (50, 2, 100)).rows == i).all() for i in range(ROUNDS))
    assert sorted(os.listdir(tmp_path)) == sorted([".store.lock", *(f"{i:040}.safetensors" for i in range(ROUNDS))])


DIE = """
import os, signal, sys, numpy as np
from pathlib import Path
import runs.feature_store as module
def die(*arguments):
    if sys.argv[2] == "half":
        Path(arguments[1]).write_bytes(b"\\0" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "before":
    os.replace = die
else:
    module.save_file = die
store = module.FeatureStore(Path(sys.argv[1]), 1)
with store.filling("a" * 40, None) as alone:
    assert alone
    store.write("a" * 40, np.zeros((3, 1, 4), np.float32), "dying")
"""


@pytest.mark.parametrize("moment", ["half", "before"])
def test_a_killed_writer_leaves_nothing_that_is_trusted(tmp_path, moment):
    process = started(DIE, tmp_path, moment)
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert list(tmp_path.glob(".*.tmp"))
    store, rows = FeatureStore(tmp_path, 1), np.ones((3, 1, 4), np.float32)
    assert store.read(KEY, (3, 1, 4)) is None
    with store.filling(KEY, None) as alone:  # its locks ended with it
        assert alone
        store.write(KEY, rows, "toys")
    assert np.array_equal(store.read(KEY, (3, 1, 4)).rows, rows)
    assert not list(tmp_path.glob(".*.tmp"))
