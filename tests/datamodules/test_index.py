import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from large import IDS, png, write

from datamodules import index
from datamodules.readers import Folders

SPLITS = {"train": "imagenet21k_train", "val": "imagenet21k_val"}


class Counting(Folders):
    listed = 0

    def listing(self, split):
        self.listed += 1
        return super().listing(split)


def find(folder, home, **options):
    reader = Counting(folder, SPLITS)
    return index.find_index(reader, list(SPLITS), [home], list, **options), reader.listed


def paths(folder, data_index, split="train"):
    reader, listing = Folders(folder, SPLITS), data_index.splits[split]
    return [reader.path(listing, i) for i in range(len(listing.label))]


def test_built_once_and_found_again(tmp_path):
    folder = write(tmp_path, "folder")
    first, listed = find(folder, tmp_path / "index")
    second, again = find(folder, tmp_path / "index")
    assert (listed, again) == (2, 0)
    assert first.classes == second.classes == IDS
    assert isinstance(second.splits["train"].offset, np.memmap)
    expected = [f"imagenet21k_train/{key}/{key}_{i}.JPEG" for key in IDS for i in range(5)]
    assert paths(folder, first) == paths(folder, second) == expected
    assert second.splits["train"].label.tolist() == [0] * 5 + [1] * 5 + [2] * 5


@pytest.mark.parametrize("change", ["image", "class", "gone"])
def test_changed_data_get_a_new_index(tmp_path, change):
    folder = write(tmp_path, "folder")
    find(folder, tmp_path / "index")
    old = set((tmp_path / "index").iterdir())
    time.sleep(0.02)  # file systems count time in ticks
    home = folder / "imagenet21k_train"
    if change == "gone":
        (home / IDS[1] / f"{IDS[1]}_0.JPEG").unlink()
    else:
        (home / (IDS[1] if change == "image" else "n00000001")).mkdir(exist_ok=True)
        (home / (IDS[1] if change == "image" else "n00000001") / "new.JPEG").write_bytes(png("train", 0, 0))
    data_index, listed = find(folder, tmp_path / "index")
    assert listed == 2
    assert len(data_index.splits["train"].label) == (14 if change == "gone" else 16)
    assert data_index.classes == (["n00000001", *IDS] if change == "class" else IDS)
    folders = {path for path in (tmp_path / "index").iterdir() if path.is_dir()}
    assert len(folders) == 1
    assert not folders & old  # the index of what was there before is not kept


def test_a_killed_builder_leaves_nothing_that_counts(tmp_path, monkeypatch):
    folder = write(tmp_path, "folder")
    home = tmp_path / "index"
    half = home / ".0123-half"
    half.mkdir(parents=True)
    (half / "index.json").write_text("{")

    def die(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(index.os, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        find(folder, home)
    monkeypatch.undo()
    data_index, listed = find(folder, home)
    assert listed == 2
    assert len(data_index.splits["val"].label) == 6
    assert not half.exists()


def test_two_processes_at_once_build_one_index(tmp_path):
    folder = write(tmp_path, "folder")
    code = (
        "import sys, time; from test_index import *\n"
        "class Slow(Counting):\n"
        "    def listing(self, split):\n"
        "        time.sleep(0.3); return super().listing(split)\n"
        "reader = Slow(Path(sys.argv[1]), SPLITS)\n"
        "data_index = index.find_index(reader, list(SPLITS), [Path(sys.argv[2])], list)\n"
        "print(reader.listed, len(data_index.splits['train'].label))\n"
    )
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [here, here.parent, here.parents[1]]))}
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "index")]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = sorted(process.communicate(timeout=60)[0].strip() for process in started)
    assert lines == ["0 15", "2 15"]


def test_nothing_is_left_without_store_or_a_place(tmp_path, monkeypatch):
    folder = write(tmp_path, "folder")
    data_index, listed = find(folder, tmp_path / "index", store=False)
    assert (len(data_index.splits["train"].label), listed) == (15, 2)
    assert not (tmp_path / "index").exists()
    (tmp_path / "file").write_text("")
    data_index, _ = find(folder, tmp_path / "file" / "index")  # a folder that cannot be made
    assert len(data_index.splits["train"].label) == 15


def test_mistakes_are_named(tmp_path):
    folder = write(tmp_path, "folder")
    extra = folder / "imagenet21k_val" / "n00000009"
    extra.mkdir()
    (extra / "1.JPEG").write_bytes(b"")
    with pytest.raises(ValueError, match=r"val has 1 class\(es\) without a training image, the first is n00000009"):
        find(folder, tmp_path / "index")
    with pytest.raises(ValueError, match="the folder of the train images is missing"):
        find(tmp_path, tmp_path / "index")
    (tmp_path / "imagenet21k_train").mkdir()
    with pytest.raises(ValueError, match="imagenet21k_train has no class folders"):
        find(tmp_path, tmp_path / "index")
