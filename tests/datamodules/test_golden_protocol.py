"""CoOp's own few-shot selections and fallback splits, read from each protocol*.json in GOLDEN_DIR."""

import json
import logging
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from datamodules.fallback import ClassFolders
from datamodules.few_shot import select, subset
from datamodules.items import Item
from datamodules.split_json import SplitJson
from tools import doctor
from tools.dataset_config import dataset_names, default_options

FOLDER = Path(os.environ.get("GOLDEN_DIR") or Path(__file__).parents[1] / "golden")
GOLDEN = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("protocol*.json"))}
KNOWN = {"split_file", "split", "selections", "no_split_json", "lr_per_epoch"}


def as_items(rows: list) -> list[Item]:
    return [Item(*row) for row in rows]


def source_of(split_file: str, root: Path) -> SplitJson:
    """The dataset that has this split file, as its yaml describes it; else one with a folder per class."""
    options = OmegaConf.merge(default_options(), {"data_root": str(root)})
    known = [doctor.disk_source(name, options) for name in dataset_names()]
    match = [source for source in known if isinstance(source, SplitJson) and source.split.name == split_file]
    return match[0] if match else SplitJson(str(root), "set", split_file, "images", fallback=ClassFolders())


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, SplitJson]:
    """With every image that the splits name."""
    sources = {}
    for name, golden in GOLDEN.items():
        sources[name] = source_of(golden["split_file"], tmp_path_factory.mktemp("data"))
        for path in {row[0] for rows in golden["split"].values() for row in rows}:
            file = sources[name].images / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    return sources


@pytest.fixture
def make_source(sources):
    def make(name: str, split: dict | None) -> SplitJson:
        sources[name].split.unlink(missing_ok=True)
        if split:
            sources[name].split.write_text(json.dumps(split))
        return sources[name]

    return make


@pytest.mark.parametrize("name", GOLDEN)
def test_every_entry_is_known(name):
    assert set(GOLDEN[name]) <= KNOWN


CASES = [(name, case) for name, golden in GOLDEN.items() for case in golden["selections"]]
IDS = [f"{name}-{case['subsample']}-{case['shots']}-seed{case['seed']}" for name, case in CASES]


@pytest.mark.parametrize(("name", "case"), CASES, ids=IDS)
def test_selection(make_source, name, case):
    splits = make_source(name, GOLDEN[name]["split"]).splits(case["seed"])
    chosen = subset(select(splits, case["shots"], case["seed"]), case["subsample"])
    assert set(case) <= {"seed", "shots", "subsample", "classnames", "train", "val", "test"}
    assert chosen.classnames == case["classnames"]
    for part in {"train", "val", "test"} & set(case):
        assert getattr(chosen, part) == as_items(case[part])


@pytest.mark.parametrize("name", [name for name, golden in GOLDEN.items() if "no_split_json" in golden])
def test_fallback_split_and_the_selection_after_it(make_source, name, caplog):
    case = GOLDEN[name]["no_split_json"]
    assert case["listing"] == "sorted"
    source = make_source(name, split=None)
    with caplog.at_level(logging.WARNING):
        splits = source.splits(case["seed"])
    assert "NOT the published split" in caplog.text
    written = json.loads(source.split.read_text())
    for part, rows in case["split_written"].items():
        assert written[part] == rows
        assert getattr(splits, part) == as_items(rows)
    chosen = select(splits, case["shots"], case["seed"])
    assert chosen.train == as_items(case["train"])
    assert chosen.val == as_items(case["val"])

    again = select(source.splits(case["seed"]), case["shots"], case["seed"])
    assert again == chosen, "a resumed run must select what it selected when it made the split"
    assert source.splits(case["seed"] + 1).rng_state is None
