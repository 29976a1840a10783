"""The digest of a dataset depends on its content and nothing else."""

import json
import os
import shutil
import subprocess
import sys

import PIL.Image
import pytest
from large import FORMATS, IDS, write
from toys import ROOT, ToySource

from datamodules import identity
from datamodules.digits import Digits
from datamodules.fallback import ClassFolders
from datamodules.hub import HubSource
from datamodules.identity import data_digest
from datamodules.imagenet import ImageNet
from datamodules.imagenet import TestFolders as FolderPerClass
from datamodules.imagenet21k import ImageNet21K
from datamodules.items import Splits
from datamodules.shapes import Shapes
from datamodules.split_json import SplitJson

ROWS = [[f"{name}/{i}.jpg", label, name] for label, name in enumerate(("cat", "dog")) for i in range(10)]
CONTENT = {"train": ROWS[0:6] + ROWS[10:16], "val": ROWS[6:8], "test": [ROWS[8], ROWS[18]]}


def split_source(root, **options):
    return SplitJson(str(root), "set", "split.json", "images", **options)


@pytest.fixture
def tree(tmp_path, put_images, put_text):
    put_images(tmp_path / "a/set/images", [path for path, *_ in ROWS])
    put_text(tmp_path / "a/set/split.json", json.dumps(CONTENT))
    return tmp_path / "a"


def changed(content, where, column, value):
    rows = [list(row) for row in content[where]]
    rows[0][column] = value
    return content | {where: rows}


@pytest.mark.parametrize(
    "content",
    [
        changed(CONTENT, "train", 0, "cat/9.jpg"),
        changed(CONTENT, "train", 1, 1),
        changed(CONTENT, "test", 1, 1),
        changed(CONTENT, "test", 0, "cat/7.jpg"),
        changed(CONTENT, "val", 0, "dog/7.jpg"),
        CONTENT | {"train": CONTENT["train"][::-1]},
        CONTENT | {"train": [[path, label, name.upper()] for path, label, name in CONTENT["train"]]},
        CONTENT | {"val": [], "test": CONTENT["test"] + CONTENT["val"]},
    ],
)
def test_a_replaced_split_file_is_other_data(tree, content):
    before = data_digest(split_source(tree), 1)
    (tree / "set/split.json").write_text(json.dumps(content))
    assert data_digest(split_source(tree), 1) != before


def test_a_split_file_that_says_the_same_is_the_same(tree):
    before = data_digest(split_source(tree), 1)
    (tree / "set/split.json").write_text(json.dumps(CONTENT | {"remark": 5}, indent=2))
    assert data_digest(split_source(tree), 2) == before


def test_a_tree_that_was_moved_is_the_same(tree, tmp_path):
    before = data_digest(split_source(tree), 1)
    shutil.copytree(tree, tmp_path / "b")
    for path in (tmp_path / "b").rglob("*"):
        os.utime(path, (1, 1))
    assert data_digest(split_source(tmp_path / "b"), 1) == before


def test_other_images_under_the_same_names_are_other_data(tree):
    before = data_digest(split_source(tree), 1)
    PIL.Image.effect_noise((30, 30), 50).convert("RGB").save(tree / "set/images/dog/3.jpg")
    assert data_digest(split_source(tree), 1) != before


def test_a_fallback_split_is_stored_first_so_that_all_seeds_share_it(tree):
    (tree / "set/split.json").unlink()
    before = data_digest(split_source(tree, fallback=ClassFolders()), 1)
    assert (tree / "set/split.json").exists()
    assert data_digest(split_source(tree, fallback=ClassFolders()), 2) == before
    (tree / "set/split.json").unlink()
    assert data_digest(split_source(tree, fallback=ClassFolders()), 2) != before


def test_imagenets_legacy_lists(tmp_path, put_images):
    source = ImageNet(str(tmp_path), "imagenet", legacy=True, shots=4)
    put_images(tmp_path / "imagenet/images", [f"{s}/{w}/{i}.JPEG" for s in ("train", "val") for w in IDS for i in range(3)])
    digests = [data_digest(source, 1)]
    for path in ("preprocessed.pkl", "split_fewshot/shot_4-seed_1.pkl"):
        (tmp_path / "imagenet" / path).parent.mkdir(exist_ok=True)
        (tmp_path / "imagenet" / path).write_bytes(b"a list")
        digests.append(data_digest(source, 1))
    assert len(set(digests)) == 3
    assert data_digest(source, 2) == digests[2], "runs of several seeds are one configuration"


def test_imagenet(tmp_path, put_images):
    def source():
        return ImageNet(str(tmp_path), "imagenet")

    put_images(tmp_path / "imagenet/images", [f"{s}/{w}/{i}.JPEG" for s in ("train", "val") for w in IDS for i in range(3)])
    digests = [data_digest(source(), 1)]
    assert data_digest(source(), 2) == digests[0]
    put_images(tmp_path / "imagenet/images", [f"train/{IDS[0]}/new.JPEG"])
    digests.append(data_digest(source(), 1))
    (tmp_path / "imagenet/classnames.txt").write_text(f"{IDS[0]} a\n")
    digests.append(data_digest(source(), 1))
    shutil.rmtree(tmp_path / "imagenet/images/val" / IDS[2])
    digests.append(data_digest(source(), 1))
    assert len(set(digests)) == 4
    variant = FolderPerClass(str(tmp_path), "imagenet", "images/val")
    before = data_digest(variant, 1)
    (tmp_path / "imagenet/images/val" / IDS[0] / "0.JPEG").write_bytes(b"other")
    assert data_digest(variant, 1) != before


@pytest.mark.parametrize("form", FORMATS)
def test_large_data(tmp_path, form):
    def source(root):
        return ImageNet21K(str(tmp_path / root), "imagenet21k_resized", form, index=str(tmp_path / f"index-{root}"))

    write(tmp_path / "a", form)
    before = data_digest(source("a"), 1)
    assert data_digest(source("a"), 7) == before, "from the stored index"
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").rglob("*"):
        os.utime(path, (1, 1))
    assert data_digest(source("b"), 1) == before
    folder = tmp_path / "b/imagenet21k_resized"
    path = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    content = path.read_bytes()
    if form == "folder":
        path.write_bytes(content + b"x")  # its folder's time does not change
    else:
        write(tmp_path / "c", form, size=9)
        path.write_bytes((tmp_path / "c/imagenet21k_resized" / path.name).read_bytes())
    assert data_digest(source("b"), 1) != before
    (tmp_path / "a/imagenet21k_resized/classnames.txt").write_text("".join(f"{key} name {key}\n" for key in IDS))
    assert data_digest(source("a"), 1) != before


def test_hub_data(tmp_path, put_images, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def digest(root):
        return data_digest(HubSource(str(tmp_path / root), builder="imagefolder", test="test"), 1)

    put_images(tmp_path / "a", [f"{s}/{c}/{i}.jpg" for s in ("train", "test") for c in ("cat", "dog") for i in range(5)])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    before = digest("a")
    assert digest("b") == before
    PIL.Image.effect_noise((30, 30), 50).convert("RGB").save(tmp_path / "b/test/dog/3.jpg")
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    assert digest("c") != before
    put_images(tmp_path / "d", [f"{s}/{c}/{i}.jpg" for s in ("train", "test") for c in ("cat", "emu") for i in range(5)])
    assert digest("d") != before


def test_data_that_come_with_the_code_and_sources_without_a_digest():
    assert data_digest(Shapes(), 1) == data_digest(Shapes(), 2) != data_digest(Shapes("dark"), 1)
    assert data_digest(Digits(), 1) == data_digest(Digits(), 2)

    class Other(ToySource):
        def splits(self, seed):
            splits = super().splits(seed)
            return Splits(splits.train, splits.val[1:], splits.test)

    assert data_digest(ToySource(), 1) == data_digest(ToySource(), 2) != data_digest(Other(), 1)


def test_missing_data_are_a_runs_sentence(tmp_path):
    for source in (split_source(tmp_path), ImageNet(str(tmp_path), "imagenet"), ImageNet21K(str(tmp_path), "w21")):
        with pytest.raises(ValueError, match="folder is missing: .* does not exist; put it there") as caught:
            data_digest(source, 1)
        with pytest.raises(ValueError, match="folder is missing") as again:
            source.splits(1)
        assert str(caught.value) == str(again.value)


def test_places_are_spread():
    assert identity.spread_positions(3) == [0, 1, 2]
    positions = identity.spread_positions(1_300_000)
    assert (len(set(positions)), positions[0], positions[-1]) == (256, 0, 1_299_999)


def test_no_torch_is_imported(tmp_path):
    """A run that is done already, and a sweep's parent, ask for the digest of their data."""
    write(tmp_path, "folder")
    code = (
        "import sys; from omegaconf import OmegaConf; from hydra.utils import instantiate\n"
        "from tools import dataset_config; from datamodules.identity import data_digest\n"
        "for name in dataset_config.dataset_names():\n"
        f"    options = dataset_config.DEFAULTS | {{'data_root': {str(tmp_path)!r}}}\n"
        "    node = OmegaConf.merge(options, {'data': dataset_config.dataset_config(name)}).data.source\n"
        "    try: data_digest(instantiate(node, _convert_='all'), 1)\n"
        "    except ValueError as error: assert 'is missing' in str(error), error\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    code = code.replace(
        "dataset_config.dataset_names()", "set(dataset_config.dataset_names()) - {'shapes21k', 'shapes21k_search'}"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
