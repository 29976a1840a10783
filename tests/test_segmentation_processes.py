"""Segmentation by run.py: on files as ADE20K has them two ranks, a kill between two steps, sliding windows; on those of other
datasets one step and a test."""

import json

import mask_trees
import numpy as np
import pytest
import torch
from ade_toys import ADE, SGD, put_ade_toys
from safetensors.torch import load_file
from toys import curve, only


@pytest.fixture
def ade(tmp_path, monkeypatch):
    """The files, and the override that names their folder."""
    monkeypatch.setenv("DATA", str(put_ade_toys(tmp_path / "data").parent))
    return f"data_root={tmp_path / 'data'}"


def results(tmp_path, *names):
    return [json.loads(only(tmp_path / name, "result.json").read_text()) for name in names]


def test_two_ranks_are_one_rank(ade, cli, run_here, tmp_path):
    """Six images in batches of three, and five that are tested: ranks get unequal shares."""
    every = [*ADE, ade, *SGD]  # Adam makes steps of what is left of gradients that should be 0
    run = cli(*every, "trainer=ddp_cpu", "output=two")
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    run_here(*every, "logger=csv", "output=one")
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=1e-4)
    assert len(set(curve(tmp_path / "one"))) == 4
    saved = {name: only(tmp_path / name, "prompts.safetensors") for name in ("one", "two")}
    a, b = map(load_file, saved.values())
    assert all(torch.allclose(a[name], b[name], rtol=1e-2, atol=1e-4) for name in a)
    one, two = (result["metrics"]["test"] for result in results(tmp_path, "one", "two"))
    assert one["images"] == two["images"] == 5
    assert one["pixels"] == two["pixels"] == sum(entry["pixels"] for entry in one["per_class"])
    assert [entry["class"] for entry in one["per_class"] if entry["pixels"]] == ["wall", "building", "flag"]
    assert one["miou"] == pytest.approx(two["miou"], abs=1)
    assert sum(bool(entry["iou"]) for entry in one["per_class"]) > 1  # more than one class is found

    run = cli(*every, "trainer=ddp_cpu", "fit=false", f"ckpt={saved['one']}", "output=tested")
    assert run.returncode == 0, run.stderr
    (tested,) = results(tmp_path, "tested")
    assert tested["metrics"]["test"] == one  # the same prompts: the same counts
    samples = [json.loads(only(tmp_path / name, "samples.json").read_text())["evaluations"] for name in ("one", "tested")]
    assert samples[0] == samples[1]
    assert {entry["why"] for entry in samples[0]["test"]} == {"best", "worst", "random"}


def test_a_killed_run_goes_on_bit_for_bit(ade, cli, run_here, tmp_path):
    """It is killed between the two steps of the first epoch. The rates go by steps: a resumed run knows where it is."""
    steps = [*ADE, ade, "trainer=cpu", "callbacks=default", "save_every=0"]
    assert cli(*steps, "output=killed", STRIKE="last.ckpt:after:SIGKILL").returncode == -9
    state = torch.load(only(tmp_path / "killed", "last.ckpt"), weights_only=True)
    assert (state["epoch"], state["global_step"]) == (0, 1)
    assert not list((tmp_path / "killed").rglob("result.json"))
    resumed = cli(*steps, "output=killed")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from" in resumed.stdout
    run_here(*steps, "output=whole", "logger=csv")
    a, b = (load_file(only(tmp_path / name, "prompts.safetensors")) for name in ("whole", "killed"))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    whole, killed = results(tmp_path, "whole", "killed")
    assert whole["train_loss"] == killed["train_loss"]
    assert whole["metrics"] == killed["metrics"]
    lines = only(tmp_path / "whole", "metrics.csv").read_text().splitlines()
    at = lines[0].split(",").index("lr")
    rates = [float(line.split(",")[at]) for line in lines[1:] if line.split(",")[at]]
    decay = [1, 0.75**0.9, 0.5**0.9, 0.25**0.9]  # of four steps, two of them of warm-up
    full = [(0.01 - 1e-6) * part + 1e-6 for part in decay]
    assert rates == pytest.approx([full[0] * 1e-6, full[1] * (1 - 0.5 * (1 - 1e-6)), full[2], full[3]], rel=1e-5)


def test_windows_and_several_sizes(ade, run_here, tmp_path):
    """The same prompts are tested in three ways; each is another result, in a folder of its own."""
    run_here(*ADE, ade, *SGD, "output=one")
    ckpt = only(tmp_path / "one", "prompts.safetensors")
    modes = {
        "whole": [],
        "slide": ["task.module.window=24", "task.module.stride=16"],
        "sizes": ["task.module.ratios=[0.5,1.0,1.75]", "task.module.flip=true"],
    }
    for name, mode in modes.items():
        run_here(*ADE, ade, "fit=false", f"ckpt={ckpt}", f"output={name}", *mode)
    found = dict(zip(modes, results(tmp_path, *modes), strict=True))
    metrics = {name: result["metrics"]["test"] for name, result in found.items()}
    assert len({result["digest"] for result in found.values()}) == 3
    assert metrics["slide"] != metrics["whole"]
    assert metrics["sizes"]["miou"] not in (metrics["whole"]["miou"], metrics["slide"]["miou"])
    assert len({entry["pixels"] for entry in metrics.values()}) == 1


@pytest.mark.parametrize(
    ("data", "put", "classes", "seen", "images"),
    [
        ("voc2012", mask_trees.put_voc, 21, 3, 2),
        ("pascal_context", mask_trees.put_context, 59, 2, 1),
        ("cityscapes", mask_trees.put_cityscapes, 19, 19, 2),
        ("coco_stuff", mask_trees.put_stuff, 171, 6, 1),
        ("masks_folder", lambda root: mask_trees.put_own(root / "masks_folder"), 3, 3, 2),
    ],
)
def test_a_step_and_a_test_on_the_files_of_each_dataset(data, put, classes, seen, images, run_here, tmp_path):
    """All training images in one batch. `seen`: how many classes the label maps of the test have."""
    put(tmp_path / "data")
    small = ["data.crop=16", "data.scale=[32,16]", "poly.warmup=0", "epochs=1", "eval_batch_size=1"]
    result = run_here(f"data={data}", f"data_root={tmp_path / 'data'}", *ADE[3:], *small, "output=out")
    metrics = result["metrics"]["test"]
    assert len(result["train_loss"]) == 1
    assert (len(metrics["per_class"]), metrics["images"]) == (classes, images)
    assert sum(entry["pixels"] > 0 for entry in metrics["per_class"]) == seen


def test_several_sizes_in_a_batch_are_refused_before_training(ade, run_here, tmp_path):
    with pytest.raises(ValueError, match="eval_batch_size=2: the test images of data=ade20k have several sizes"):
        run_here(*ADE, ade, "data.eval_batch_size=2", "callbacks=default", "save_every=0", "output=out")
    assert not list((tmp_path / "out").rglob("*.ckpt"))
