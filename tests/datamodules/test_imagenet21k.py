import json
import re

import pytest
import torch
from hydra.utils import instantiate
from large import FORMATS, IDS, NAMES, png, write

from datamodules import imagenet21k
from datamodules.few_shot import select, subset
from datamodules.imagenet21k import ImageNet21K
from datamodules.items import Splits
from datamodules.module import FewShotData
from runs import jobs, launch
from tools.dataset_config import CONF


def source(root, form="folder", **options) -> ImageNet21K:
    return ImageNet21K(str(root), "imagenet21k_resized", form, **options)


def data(source, **options) -> FewShotData:
    made = FewShotData("imagenet21k", source, **{"shots": -1, "seed": 1, "batch_size": 4} | options)
    made.setup()
    made.image_spec = {"size": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return made


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
    made = source(tmp_path, "webdataset", train="train", val="val")
    with pytest.raises(ValueError, match="the labels in .* are numbers: put a classnames.txt there"):
        made.splits(1)
    (folder / "classnames.txt").write_text("n00015388 beast\n")
    with pytest.raises(ValueError, match="has label 1, but 1 classes are listed"):
        source(tmp_path, "webdataset", train="train", val="val").splits(1)
    (folder / "classnames.txt").write_text("n00015388 beast\nn00005787 a thing\n")
    splits = source(tmp_path, "webdataset", train="train", val="val").splits(1)
    assert splits.classnames == ["a thing", "beast"]  # labels follow sorted ids
    assert [item.classname for item in splits.train] == ["beast", "a thing"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("sampler", ["coop", "numpy"])
def test_few_shots_are_those_of_a_list(tmp_path, form, sampler):
    """The published sampler, image for image, on arrays: at most k per class, and classes with fewer whole."""
    write(tmp_path, form)
    splits = source(tmp_path, form).splits(1)
    lists = Splits(list(splits.train), list(splits.val), list(splits.val), splits.fixed)
    for shots in (1, 3, 5, 9, -1):
        for which in ("all", "base", "new"):
            table = subset(select(splits, shots, 7, sampler), which)
            plain = subset(select(lists, shots, 7, sampler), which)
            assert list(table.train) == plain.train
            assert list(table.test) == plain.test
            assert (
                table.classnames
                == plain.classnames
                == (NAMES if which == "all" else NAMES[:2] if which == "base" else NAMES[2:])
            )
    assert list(select(splits, 2, 1).train) != list(select(splits, 2, 2).train)


def test_the_result_holds_counts_and_a_digest(tmp_path):
    write(tmp_path, "folder")
    made = [data(source(tmp_path), shots=2, seed=seed).selection() for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    assert (made[0]["train"]["images"], made[0]["train"]["classes"], made[0]["val"]["images"]) == (6, 3, 6)
    assert re.fullmatch("[0-9a-f]{64}", made[0]["train"]["sha256"])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("order", ["random", "windowed"])
def test_each_image_once_over_ranks_and_workers(tmp_path, form, world, workers, order):
    write(tmp_path, form)
    made = data(source(tmp_path, form), order=order, batch_size=4, workers=workers)
    whole = [batch["index"] for batch in data(source(tmp_path, form), order=order, batch_size=4).train_loader()]
    loaders = [list(made.train_loader(rank, world)) for rank in range(world)]
    for step, expected in enumerate(whole):
        parts = [loader[step] for loader in loaders]
        seen = torch.cat([part["index"][part["weight"] > 0] for part in parts])
        assert sorted(seen.tolist()) == sorted(expected.tolist())
    assert len(torch.cat(whole).unique()) == 12  # three full steps of the 15 images
    tests = [batch["index"] for rank in range(world) for batch in made.eval_loader("test", rank=rank, world=world)]
    assert sorted(torch.cat(tests).tolist()) == list(range(6))


@pytest.mark.parametrize("form", FORMATS)
def test_resumes_in_mid_epoch(tmp_path, form):
    write(tmp_path, form)
    whole = list(data(source(tmp_path, form), order="windowed", views=2).train_loader())
    first = data(source(tmp_path, form), order="windowed", views=2, workers=2).train_loader()
    start = next(iter(first))
    second = data(source(tmp_path, form), order="windowed", views=2).train_loader()
    second.load_state_dict(first.state_dict())
    again = [start, *second]
    assert len(again) == len(whole) == 3
    assert all(torch.equal(a[key], b[key]) for a, b in zip(again, whole, strict=True) for key in a)


def harm(root, form):
    folder = write(root, form)
    if form == "folder":
        path = folder / "imagenet21k_train" / IDS[1] / f"{IDS[1]}_3.JPEG"
        path.write_bytes(path.read_bytes()[:30])
        return path
    path = folder / "imagenet21k_train-001.tar"
    path.write_bytes(path.read_bytes()[: 4 * 1024 + 600])
    return path


@pytest.mark.parametrize("form", ["folder", "webdataset"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_or_a_cut_shard(tmp_path, form, workers):
    path = harm(tmp_path, form)
    options = {"workers": workers, "batch_size": 5, "views": 2}
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*(download|on_bad_image)"):
        list(data(source(tmp_path, form), **options).train_loader())
    made = data(source(tmp_path, form), on_bad_image="skip", **options)
    batches = list(made.train_loader())
    for batch in batches:
        assert torch.isfinite(batch["image"]).all()
    list(made.eval_loader("test"))
    [name] = made.bad_images()
    assert (str(path) if form == "webdataset" else path.name) in name
    if form == "folder":  # the others of its step weigh what they did: a fifth
        assert sorted(batch["weight"].sum().item() for batch in batches) == pytest.approx([0.8, 1, 1])
        resumed = data(source(tmp_path, form), on_bad_image="skip", **options)
        loader = made.train_loader()
        resumed.train_loader().load_state_dict(loader.state_dict())
        assert resumed.bad_images() == [name]  # what was counted before an interruption counts
    else:
        assert len(made.train_items) == 6 + 4 + 3  # the fifth of that shard is cut


def test_from_a_hub(tmp_path, monkeypatch):
    import huggingface_hub

    folder = write(tmp_path / "hub", "parquet")
    asked = []

    def fetch(repo, **options):
        asked.append((repo, options["repo_type"], options["allow_patterns"][0]))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = source(tmp_path, "parquet", repo="some/where", train="train", val="val")
    assert len(made.splits(1).train) == 15
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
    status, said = run_doctor("imagenet21k")
    assert status == 0
    assert "3 classes, 15 / 6 / 6 training / validation / test images" in said
    assert "it should have 10450 classes, 11060223 / 522500 / 522500" in said
    assert "class names are from WordNet" in said
    (folder / "imagenet21k_val" / IDS[0] / f"{IDS[0]}_0.JPEG").write_bytes(b"no image")
    status, said = run_doctor("imagenet21k", "images=true")
    assert status == 1
    assert "cannot be decoded" in said
    (folder / "imagenet21k_val").rename(folder / "val")
    status, said = run_doctor("imagenet21k")
    assert status == 1
    assert "the validation images imagenet21k_resized/imagenet21k_val is missing" in said


def test_a_run_on_two_ranks(cli, run_here, tmp_path):
    """A tree in the release's layout with a corrupt image in each split: trained, evaluated, and counted over ranks."""
    folder = write(tmp_path, "folder")
    (folder / "imagenet21k_val" / IDS[2] / f"{IDS[2]}_1.JPEG").write_bytes(b"no image")
    (folder / "imagenet21k_train" / IDS[0] / f"{IDS[0]}_1.JPEG").write_bytes(b"no image")
    chosen = ["method=coop", "data=imagenet21k", f"data_root={tmp_path}", "clip=tiny", "shots=5", "epochs=1", "batch_size=4"]
    ranks = ["trainer=ddp_cpu", "trainer.devices=2"]
    run = cli(*chosen, *ranks, "data.on_bad_image=skip", "data.views=2", "data.augmentation=randaug2", "workers=1")
    assert run.returncode == 0, run.stderr
    [path] = tmp_path.rglob("result.json")
    result = json.loads(path.read_text())
    assert result["metrics"]["test"]["images"] == 5
    assert f"imagenet21k_val/{IDS[2]}/{IDS[2]}_1.JPEG" in result["bad_images"]["names"]
    assert result["bad_images"]["count"] in (1, 2)  # the last three images of an epoch are dropped
    with pytest.raises(ValueError) as refused:
        run_here(*chosen, "output=other")
    assert "_1.JPEG cannot be decoded" in launch.told(refused.value)


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
    made = instantiate(jobs.compose_job(chosen, CONF)[0].data, _convert_="all")
    assert isinstance(made.source, ImageNet21K)
    assert (made.templates, made.views, made.order) == (("a photo of a {}.",), 4, "windowed")
    assert made.source.folder.as_posix() == "/data/imagenet21k_resized"
    assert (made.source.format, made.source.kept) == ("folder" if where == "disk" else "parquet", "/kept")
