"""The command that lists and clears the store of image features."""

import os

import numpy as np
import pytest

from runs.feature_store import FeatureStore
from tools import features


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPT_CACHE", str(tmp_path))
    store = FeatureStore(tmp_path / "images", 1)
    for name, size in (("old", 1000), ("new", 2000)):
        store.write(name * 13, np.ones((size, 1, 100), np.float32), f"the {name} images")
    os.utime(store.folder / f"{'old' * 13}.safetensors", (1, 1))
    return store


def test_the_list_has_size_use_and_what_it_is(store, capsys):
    assert features.main([]) == 0
    new, old, total = capsys.readouterr().out.splitlines()
    assert new.split() == ["0.8", "MB", "0.0", "days", "the", "new", "images", "(2000", "x", "1", "x", "100)"]
    assert old.endswith("the old images (1000 x 1 x 100)")
    assert total == f"2 entries, 0.00 GB, in {store.folder}"


def test_clearing(store, capsys):
    assert features.main(["clear=true", "unused_days=30", f"store={store.folder}"]) == 0
    assert "removed 1 entries" in capsys.readouterr().out
    held = store.read("new" * 13, (2000, 1, 100))
    assert features.main(["clear=true"]) == 0
    assert "1 entries are in use and stay" in capsys.readouterr().out
    del held
    assert features.main(["clear=true"]) == 0
    assert store.entries() == []


@pytest.mark.parametrize("line", ["list", "clear=yes", "unused_days=3", "clear=true unused_days=-1", "store=", "nope=1"])
def test_what_is_not_understood(store, capsys, line):
    assert features.main(line.split()) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert len(store.entries()) == 2
