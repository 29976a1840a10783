"""Training on data of ImageNet-21K's form: selection, loaders, ranks, resume, images that cannot be read."""

import json
import re

import pytest
import torch
from large import FORMATS, IDS, NAMES, source, write
from toys import IMAGE_SPEC

from datamodules.few_shot import select, subset
from datamodules.items import Splits
from datamodules.module import FewShotData
from runs import launch


def data(source, **options) -> FewShotData:
    return FewShotData("imagenet21k", source, IMAGE_SPEC, **{"shots": -1, "seed": 1, "batch_size": 4} | options)


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
    loaded = [data(source(tmp_path), shots=2, seed=seed).selection() for seed in (1, 1, 2)]
    assert loaded[0] == loaded[1] != loaded[2]
    train, val = loaded[0]["train"], loaded[0]["val"]
    assert (train["images"], train["classes"], val["images"]) == (6, 3, 0), "nothing has asked for validation images"
    assert re.fullmatch("[0-9a-f]{64}", loaded[0]["train"]["sha256"])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("order", ["random", "windowed"])
def test_each_image_once_over_ranks_and_workers(tmp_path, form, world, workers, order):
    write(tmp_path, form)
    loaded = data(source(tmp_path, form), order=order, batch_size=4, workers=workers)
    whole = [batch["index"] for batch in data(source(tmp_path, form), order=order, batch_size=4).train_loader()]
    loaders = [list(loaded.train_loader(rank, world)) for rank in range(world)]
    for step, expected in enumerate(whole):
        parts = [loader[step] for loader in loaders]
        seen = torch.cat([part["index"][part["weight"] > 0] for part in parts])
        assert sorted(seen.tolist()) == sorted(expected.tolist())
    assert len(torch.cat(whole).unique()) == 12  # three full steps of the 15 images
    tests = [batch["index"] for rank in range(world) for batch in loaded.eval_loader("test", rank=rank, world=world)]
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
    loaded = data(source(tmp_path, form), on_bad_image="skip", **options)
    batches = list(loaded.train_loader())
    for batch in batches:
        assert torch.isfinite(batch["image"]).all()
    list(loaded.eval_loader("test"))
    [name] = loaded.bad_images()
    assert (str(path) if form == "webdataset" else path.name) in name
    if form == "folder":  # the others of its step weigh what they did: a fifth
        assert sorted(batch["weight"].sum().item() for batch in batches) == pytest.approx([0.8, 1, 1])
        resumed = data(source(tmp_path, form), on_bad_image="skip", **options)
        loader = loaded.train_loader()
        resumed.train_loader().load_state_dict(loader.state_dict())
        assert resumed.bad_images() == [name]  # what was counted before an interruption counts
    else:
        assert len(loaded.train_items) == 6 + 4 + 3  # the fifth of that shard is cut


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
    assert "_1.JPEG cannot be decoded" in launch.error_message(refused.value)
