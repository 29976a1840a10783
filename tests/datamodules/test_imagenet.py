import pickle
import sys
import types

import pytest
from omegaconf import OmegaConf

from datamodules import pickles
from datamodules.few_shot import select
from datamodules.imagenet import ImageNet, names_by_wnid
from datamodules.items import Item
from tools.dataset_config import DEFAULTS
from tools.doctor import disk_source

NAMES = "n01440764 tench\nn01443537 goldfish\nn01484850 great white shark\nn02012849 crane\nn03126707 crane\n"
WNIDS = [line.split()[0] for line in NAMES.splitlines()]


@pytest.fixture
def source(tmp_path):
    return lambda name: disk_source(name, OmegaConf.create(DEFAULTS | {"data_root": str(tmp_path)}))


@pytest.fixture
def imagenet(tmp_path, put_images, put_text):
    folder = tmp_path / "imagenet"
    put_text(folder / "classnames.txt", NAMES)
    put_images(folder / "images", [f"train/{wnid}/{wnid}_{i}.JPEG" for wnid in WNIDS for i in (10, 2, 1)])
    put_images(folder / "images", [f"val/{wnid}/val_{i}.JPEG" for wnid in WNIDS for i in range(6)])
    return folder


def test_imagenet(imagenet, source):
    splits = source("imagenet").splits(1)
    assert splits.classnames == ["tench", "goldfish", "great white shark", "crane", "crane"]
    names = ["n01440764_1.JPEG", "n01440764_10.JPEG", "n01440764_2.JPEG"]
    assert splits.train[:3] == [Item(f"train/n01440764/{name}", 0, "tench") for name in names], "sorted"
    assert splits.test[-1] == Item("val/n03126707/val_5.JPEG", 4, "crane")
    chosen = select(splits, 1, 1)
    assert len(chosen.train) == 5
    assert chosen.val == chosen.test == splits.test, "validation is the whole test set"


def test_imagenet_without_classnames_has_open_clips_names(imagenet, source):
    (imagenet / "classnames.txt").unlink()
    names = source("imagenet").splits(1).classnames
    assert names[:3] == ["tench", "goldfish", "great white shark"]
    by_wnid = names_by_wnid()
    assert len(by_wnid) == 1000
    assert list(by_wnid) == sorted(by_wnid)
    assert by_wnid["n15075141"] == "toilet paper"


def test_missing_classes_and_flat_folders(imagenet, source, put_images):
    wnid = imagenet / "images/val" / WNIDS[1]
    wnid.rename(imagenet / "elsewhere")
    with pytest.raises(ValueError, match=r"1 class folder\(s\) named by the training images are missing .*n01443537"):
        source("imagenet").splits(1)
    for folder in (imagenet / "images/train").iterdir():
        folder.rename(imagenet / folder.name)
    put_images(imagenet / "images/train", ["a.JPEG"])
    with pytest.raises(ValueError, match="has no class folders"):
        source("imagenet").splits(1)


def test_folders_that_are_no_class_and_lines_without_a_name(imagenet, source):
    (imagenet / "images/train/lost+found").mkdir()
    with pytest.raises(ValueError, match=r"1 folder\(s\) in .* are no class .*lost\+found"):
        source("imagenet").splits(1)
    (imagenet / "classnames.txt").write_text("n01440764 tench\nn01443537\n")
    with pytest.raises(ValueError, match="line 2: 'n01443537' is not"):
        source("imagenet").splits(1)


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("imagenet_a", "imagenet-adversarial/imagenet-a"),
        ("imagenet_r", "imagenet-rendition/imagenet-r"),
        ("imagenet_sketch", "imagenet-sketch/images"),
    ],
)
def test_variants_number_their_own_sorted_folders(tmp_path, put_images, put_text, source, name, images):
    wnids = sorted(names_by_wnid())[::5]
    put_text(tmp_path / images / "README.txt", "not a class")
    put_images(tmp_path / images, [f"{wnid}/{i}.jpg" for wnid in reversed(wnids) for i in range(2)])
    splits = source(name).splits(1)
    assert splits.train == splits.val == []
    assert [item.label for item in splits.test] == [label for label in range(200) for _ in range(2)]
    assert splits.test[-1].path == f"{wnids[-1]}/1.jpg"
    assert splits.classnames == [names_by_wnid()[wnid] for wnid in wnids]


def test_v2_folders_are_line_numbers(tmp_path, put_images, put_text, source):
    root = tmp_path / "imagenetv2"
    put_text(root / "classnames.txt", "\n".join(f"n{i:08d} name {i}" for i in range(12)))
    put_images(root / "imagenetv2-matched-frequency-format-val", [f"{i}/a.jpeg" for i in range(12)])
    splits = source("imagenet_v2").splits(1)
    assert splits.classnames[7] == "name 7"
    assert [item.path for item in splits.test if item.label == 7] == ["7/a.jpeg"]
    (root / "imagenetv2-matched-frequency-format-val/11/a.jpeg").unlink()
    (root / "imagenetv2-matched-frequency-format-val/11").rmdir()
    with pytest.raises(ValueError, match=r"1 class folder\(s\) named by the class list are missing .*is 11:"):
        source("imagenet_v2").splits(1)


@pytest.fixture
def datum(monkeypatch):
    """The class that CoOp pickles, under its module's name, while the pickle is written."""

    class Datum:
        def __init__(self, impath, label, classname):
            self._impath, self._label, self._domain, self._classname = impath, label, 0, classname

    module = types.ModuleType("dassl.data.datasets.base_dataset")
    Datum.__module__, Datum.__qualname__, module.Datum = module.__name__, "Datum", Datum
    for name in ("dassl", "dassl.data", "dassl.data.datasets"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return Datum


@pytest.fixture
def legacy(imagenet, datum, monkeypatch):
    def data(path, label, name):
        return datum(f"/home/someone/images/DATA/imagenet/images/{path}", label, name)

    train = [data(f"train/{w}/{w}_{i}.JPEG", y, f"name {y}") for y, w in enumerate(WNIDS) for i in (2, 10, 1)]
    test = [data(f"val/{w}/val_{i}.JPEG", y, f"name {y}") for y, w in enumerate(WNIDS) for i in range(6)]
    for path, content in {
        "preprocessed.pkl": {"train": train, "test": test},
        "split_fewshot/shot_1-seed_2.pkl": {"train": train[1::3]},
    }.items():
        (imagenet / path).parent.mkdir(exist_ok=True)
        (imagenet / path).write_bytes(pickle.dumps(content, pickle.HIGHEST_PROTOCOL))
    monkeypatch.delitem(sys.modules, "dassl.data.datasets.base_dataset")
    return lambda shots: ImageNet(str(imagenet.parent), "imagenet", "images", legacy=True, shots=shots)


def test_legacy_pickles_give_coops_lists(legacy):
    splits = legacy(shots=4).splits(2)
    assert splits.train[0] == Item("train/n01440764/n01440764_2.JPEG", 0, "name 0")
    assert splits.test[-1] == Item("val/n03126707/val_5.JPEG", 4, "name 4")
    assert len(select(splits, 1, 2).train) == 5

    stored = legacy(shots=1).splits(2)
    assert [item.path.split("_")[-1] for item in stored.train] == ["10.JPEG"] * 5
    assert select(stored, 1, 2).train == stored.train
    assert select(stored, 1, 2).val == stored.test
    assert len(legacy(shots=1).splits(3).train) == 15, "another seed has no pickle of its own"


def test_legacy_without_pickles(imagenet):
    with pytest.raises(ValueError, match=r"legacy=true, but .*preprocessed.pkl does not exist"):
        ImageNet(str(imagenet.parent), "imagenet", legacy=True).splits(1)


def test_legacy_pickles_of_other_images(legacy, imagenet):
    (imagenet / "images/train/n01440764/n01440764_2.JPEG").unlink()
    with pytest.raises(ValueError, match=r"1 image\(s\) named by CoOp's pickles are missing"):
        legacy(shots=4).splits(1)


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [exec, print, types.SimpleNamespace, __import__])
def test_malicious_pickles_are_refused(tmp_path, function, capsys):
    path = tmp_path / "preprocessed.pkl"
    attack = Attack(function) if function is types.SimpleNamespace else Attack(function, "raise SystemExit")
    path.write_bytes(pickle.dumps({"train": [attack], "test": []}))
    with pytest.raises(ValueError, match=rf"{path} is refused \(it asks for .*\)"):
        pickles.read_item_lists(path, "images")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", pickle.dumps({"train": [1]}), pickle.dumps([1]), pickle.dumps({"train": {"a": 1}})],
)
def test_foreign_pickles_are_refused(tmp_path, content):
    path = tmp_path / "shot_1-seed_1.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is refused"):
        pickles.read_item_lists(path, "images")


def test_attributes_of_dassl_are_no_way_out(tmp_path):
    """A global such as dassl.x.Datum.__init__ or dassl's own imports (os, ...) must not be reachable."""
    for module, name in (("dassl.data", "os.system"), ("dassl", "Datum.__init__"), ("os", "Datum"), ("dasslx", "Datum")):
        path = tmp_path / "x.pkl"
        path.write_bytes(b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)])
                         + name.encode() + b"\x93.")  # fmt: skip
        with pytest.raises(ValueError, match="it asks for"):
            pickles.read_item_lists(path, "images")


def test_paths_without_the_image_folder_are_refused(tmp_path, datum):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"train": [datum("/data/photos/a.JPEG", 0, "x")]}))
    with pytest.raises(ValueError, match="has no folder images/"):
        pickles.read_item_lists(path, "images")


def test_windows_paths_are_cut_too(tmp_path, datum):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"train": [datum("D:\\DATA\\imagenet\\images\\train\\n1\\a.JPEG", 0, "x")]}))
    assert pickles.read_item_lists(path, "images") == {"train": [Item("train/n1/a.JPEG", 0, "x")]}
