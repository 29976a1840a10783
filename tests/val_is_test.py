"""Datasets of a few images in every layout whose validation list is its test list."""

import io
import pickle
import sys
import types
from dataclasses import replace

import datasets
import PIL.Image
from large import FORMATS, write
from large import source as large_source
from toys import ToySource

from datamodules.hub import HubSource
from datamodules.imagenet import ImageNet

WNIDS = ["n01440764", "n01443537", "n01484850"]
TRAIN, TEST = 7, 3  # images of a class


LAYOUTS = ["lists", "imagenet", "legacy", "hub", *FORMATS]


class NoVal(ToySource):
    """Its val list is its test list, as ImageNet's."""

    def splits(self, seed):
        splits = super().splits(seed)
        return replace(splits, val=splits.test, fixed=frozenset({"val"}))


def imagenet(root, put_images, put_text):
    """The folder of ImageNet's layout."""
    folder = root / "imagenet"
    put_text(folder / "classnames.txt", "".join(f"{wnid} name {wnid[-2:]}\n" for wnid in WNIDS))
    for split, count in {"train": TRAIN, "val": TEST}.items():
        put_images(folder / "images", [f"{split}/{wnid}/{i}.JPEG" for wnid in WNIDS for i in range(count)])
    return folder


def legacy(folder, monkeypatch):
    """CoOp's pickles for the images there: the whole lists and the selection of 2 shots, seed 1."""
    module = types.ModuleType("dassl.data.datasets.base_dataset")

    class Datum:
        def __init__(self, path, label):
            self._impath, self._label, self._domain, self._classname = f"/x/imagenet/images/{path}", label, 0, f"name {label}"

    Datum.__module__, Datum.__qualname__, module.Datum = module.__name__, "Datum", Datum
    for name in ("dassl", "dassl.data", "dassl.data.datasets"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    train = [Datum(f"train/{w}/{i}.JPEG", y) for y, w in enumerate(WNIDS) for i in range(TRAIN)]
    test = [Datum(f"val/{w}/{i}.JPEG", y) for y, w in enumerate(WNIDS) for i in range(TEST)]
    (folder / "preprocessed.pkl").write_bytes(pickle.dumps({"train": train, "test": test}))
    (folder / "split_fewshot").mkdir()
    chosen = [item for position, item in enumerate(train) if position % TRAIN in (1, 4)]
    (folder / "split_fewshot/shot_2-seed_1.pkl").write_bytes(pickle.dumps({"train": chosen}))
    monkeypatch.delitem(sys.modules, module.__name__)


def hub(folder, monkeypatch):
    """A repository whose validation images are the test images."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "cache"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    (folder / "repo").mkdir()
    for split, count in {"train": TRAIN, "validation": TEST}.items():
        rows = {"image": [], "label": []}
        for i in range(3 * count):
            buffer = io.BytesIO()
            PIL.Image.new("RGB", (4, 4), (9 * i, 50, 50)).save(buffer, "PNG")
            rows["image"].append({"bytes": buffer.getvalue(), "path": None})
            rows["label"].append(i % 3)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"repo/{split}-00000-of-00001.parquet")
    return HubSource(str(folder / "repo"), val="validation", test="validation")


def source_of(layout, root, put_images, put_text, monkeypatch):
    """The source of a layout, in this folder."""
    if layout == "lists":
        return NoVal()
    if layout == "hub":
        return hub(root, monkeypatch)
    if layout in FORMATS:
        write(root, layout)
        return large_source(root, layout)
    folder = imagenet(root, put_images, put_text)
    if layout == "legacy":
        legacy(folder, monkeypatch)
    return ImageNet(str(root), "imagenet", legacy=layout == "legacy", shots=2)
