"""ImageNet-21K: its classes and their names, its yaml, its hub and its index."""

import pytest
import torch
from hydra.utils import instantiate
from large import IDS, NAMES, png, source, write

from datamodules import imagenet21k
from datamodules.imagenet21k import ImageNet21K
from runs import jobs
from tools.dataset_config import CONF


def test_labels_follow_sorted_ids_and_other_folders_are_ignored(tmp_path, put_images):
    folder = write(tmp_path, "folder")
    put_images(folder / "imagenet21k_small_classes", ["n00000001/a.JPEG"])
    splits = source(tmp_path).splits(1)
    assert splits.classnames == NAMES
    assert [splits.train[i].classname for i in (0, 5, 14)] == NAMES
    assert splits.test is splits.val
    assert (folder / ".index" / "folder").is_dir()


def test_names_of_the_releases_tree_are_read_once_and_never_run(tmp_path):
    folder = write(tmp_path, "folder")
    tree = folder / "imagenet21k_miil_tree.pth"
    names = dict(zip(IDS, ["a_b", "animal, beast", "c"], strict=True))
    torch.save({"class_list": IDS, "class_description": names | {"n99999999": "unused"}}, tree)
    assert source(tmp_path).splits(1).classnames == ["a b", "animal, beast", "c"]
    tree.write_bytes(b"")  # the json beside it is enough from now on
    assert source(tmp_path).splits(1).classnames == ["a b", "animal, beast", "c"]
    (folder / "imagenet21k_miil_tree.json").unlink()
    with pytest.raises(ValueError, match="imagenet21k_miil_tree.pth is not read"):
        source(tmp_path).splits(1)


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/never-written-by-a-tree", "w"))


@pytest.mark.parametrize("content", [{"class_description": Evil()}, {"other": 1}, [1]])
def test_a_hostile_or_foreign_tree_is_refused(tmp_path, content):
    folder = write(tmp_path, "folder")
    torch.save(content, folder / "imagenet21k_miil_tree.pth")
    with pytest.raises(ValueError, match="it should hold plain names by WordNet id"):
        source(tmp_path).splits(1)


@pytest.mark.parametrize("form", ["classnames.txt", "tree", "WordNet"])
def test_a_class_without_a_name_is_named(tmp_path, form):
    folder = write(tmp_path, "folder")
    missing = IDS[2]
    if form == "classnames.txt":
        (folder / "classnames.txt").write_text(f"{IDS[0]} one\n{IDS[1]} two\n")
    elif form == "tree":
        torch.save({"class_description": {IDS[0]: "one", IDS[1]: "two"}}, folder / "imagenet21k_miil_tree.pth")
    else:
        missing = "n99999998"
        (folder / "imagenet21k_train" / missing).mkdir()
        (folder / "imagenet21k_train" / missing / "0.JPEG").write_bytes(png("t", 0, 0))
    with pytest.raises(ValueError, match=rf"class {missing} has no name in .*{form}.* \(1 such\)"):
        source(tmp_path).splits(1)


def test_timm_names_every_class_of_the_release():
    import timm

    listed = imagenet21k.Path(timm.__file__).parent / "data/_info/imagenet21k_miil_w21_synsets.txt"
    names = imagenet21k.wordnet_names()
    wnids = listed.read_text().split()
    assert len(wnids) == 10450
    assert wnids == sorted(wnids)
    assert all(names[wnid] and "," not in names[wnid] for wnid in wnids)


def test_numbered_labels_need_a_list(tmp_path):
    from large import as_json, write_tar

    folder = tmp_path / "imagenet21k_resized"
    folder.mkdir()
    for split in ("train", "val"):
        members = [(f"{i}.{end}", as_json(i) if end == "json" else png(split, i, 0)) for i in (0, 1) for end in ("png", "json")]
        write_tar(folder / f"{split}.tar", members)
    images_21k = source(tmp_path, "webdataset", train="train", val="val")
    with pytest.raises(ValueError, match="the labels in .* are numbers: put a classnames.txt there"):
        images_21k.splits(1)
    (folder / "classnames.txt").write_text("n00015388 beast\n")
    with pytest.raises(ValueError, match="has label 1, but 1 classes are listed"):
        source(tmp_path, "webdataset", train="train", val="val").splits(1)
    (folder / "classnames.txt").write_text("n00015388 beast\nn00005787 a thing\n")
    splits = source(tmp_path, "webdataset", train="train", val="val").splits(1)
    assert splits.classnames == ["a thing", "beast"]  # labels follow sorted ids
    assert [item.classname for item in splits.train] == ["beast", "a thing"]


def test_from_a_hub(tmp_path, monkeypatch):
    import huggingface_hub

    folder = write(tmp_path / "hub", "parquet")
    asked = []

    def fetch(repo, **options):
        asked.append((repo, options["repo_type"], options["allow_patterns"][0]))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images_21k = source(tmp_path, "parquet", repo="some/where", train="train", val="val")
    assert len(images_21k.splits(1).train) == 15
    assert asked == [("some/where", "dataset", "*.parquet")]
    assert not list(folder.glob(".index"))  # the hub's cache is left alone
    assert list((tmp_path / "cache").rglob("index.json"))

    def refuse(*args, **options):
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ValueError, match=r"some/where cannot be fetched \(no route\): check the name"):
        source(tmp_path, "parquet", repo="some/where").splits(1)


def test_the_index_goes_where_it_is_told_to(tmp_path):
    folder = write(tmp_path, "folder")
    source(tmp_path, index=str(tmp_path / "mine")).splits(1)
    assert not (folder / ".index").exists()
    assert list((tmp_path / "mine").rglob("index.json"))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"form": "zip"}, "format='zip' is not known"), ({"repo": "a/b"}, "read shard by shard: use format=webdataset")],
)
def test_mistakes_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        source(tmp_path, **options)


def test_doctor(tmp_path, run_doctor):
    folder = write(tmp_path, "folder")
    status, output = run_doctor("imagenet21k")
    assert status == 0
    assert "3 classes, 15 / 6 / 6 training / validation / test images" in output
    assert "it should have 10450 classes, 11060223 / 522500 / 522500" in output
    assert "class names are from WordNet" in output
    (folder / "imagenet21k_val" / IDS[0] / f"{IDS[0]}_0.JPEG").write_bytes(b"no image")
    status, output = run_doctor("imagenet21k", "images=true")
    assert status == 1
    assert "cannot be decoded" in output
    (folder / "imagenet21k_val").rename(folder / "val")
    status, output = run_doctor("imagenet21k")
    assert status == 1
    assert "the validation images imagenet21k_resized/imagenet21k_val is missing" in output


@pytest.mark.parametrize("where", ["disk", "hub"])
def test_the_yaml(where):
    chosen = [
        "data=imagenet21k",
        f"source={where}",
        "data_root=/data",
        "data_index=/kept",
        "data.views=4",
        "data.order=windowed",
    ]
    data = jobs.compose_job(chosen, CONF)[0].data
    assert (data.templates, data.views, data.order) == (["a photo of a {}."], 4, "windowed")
    images_21k = instantiate(data.source, _convert_="all")
    assert isinstance(images_21k, ImageNet21K)
    assert images_21k.folder.as_posix() == "/data/imagenet21k_resized"
    assert (images_21k.format, images_21k.index_folder) == ("folder" if where == "disk" else "parquet", "/kept")
