"""Detection by run.py on COCO's files as the official ones are laid out: two ranks, a kill, the files it leaves."""

import json

import pytest
import torch
from detection_trees import put_coco_instances
from forked import Forks
from safetensors.torch import load_file
from toys import curve, only

from reports.collect import read
from reports.detection import of_group, sections
from reports.samples import read_samples

TREE = ["clip=toy", "data=coco_boxes", "data_root=data", "data.shorter=32", "data.longer=48", "batch_size=3", "epochs=2"]
SMALL = ["method.width=8", "method.hidden=16", "method.decoder_width=8", "method.decoder_heads=2", "method.sampled=[16,16]"]
EVERY = [*TREE, *SMALL, "recipe=none", "optim.lr=0.003", "features.store=null", "precision=32-true", "method.least_score=0.01"]


@pytest.fixture
def tree(tmp_path):
    """$DATA with COCO in `data`: 6 training and 4 test images, one of each without objects, one with a crowd."""
    put_coco_instances(tmp_path / "data")
    return tmp_path


def metrics_of(folder):
    return json.loads(only(folder, "result.json").read_text())["metrics"]["test"]


def test_two_ranks_are_one_rank(cli, run_here, tree):
    """Ranks get unequal shares of the training images; anchors and regions are sampled."""
    every = [
        *EVERY,
        "method=denseclip_maskrcnn",
        "trainer.log_every_n_steps=1",
        "data.source.disk.keep_empty=true",
        "batch_size=5",
    ]
    run = cli(*every, "trainer=ddp_cpu", "output=two")
    assert run.returncode == 0, run.stderr
    run_here(*every, "logger=csv", "output=one")
    assert curve(tree / "two") == pytest.approx(curve(tree / "one"), rel=1e-4)
    one, two = metrics_of(tree / "one"), metrics_of(tree / "two")
    assert len(set(curve(tree / "one"))) == 2
    for key in ("map", "mask_map"):
        assert two[key] == pytest.approx(one[key], abs=1e-3)
    assert (one["images"], one["objects"]) == (4, 6) == (two["images"], two["objects"])
    assert [(entry["class"], entry["objects"]) for entry in one["by_class"]] == [("person", 0), ("car", 3), ("cat", 3)]
    assert one["by_class"][0]["map"] is None


def test_a_killed_run_goes_on_bit_for_bit(tree, run_here):
    every = [*EVERY, "method=denseclip_maskrcnn", "save_every=0", "trainer=cpu"]
    forks = Forks()
    try:
        assert forks.run(tree, *every, "output=killed", STRIKE="last.ckpt:after:SIGKILL") == -9
        assert only(tree / "killed", "last.ckpt")
        assert forks.run(tree, *every, "output=killed") == 0
        assert "resuming from" in (tree / "log").read_text()
    finally:
        forks.close()
    run_here(*every, "output=whole")
    a, b = (load_file(only(tree / name, "prompts.safetensors")) for name in ("whole", "killed"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert metrics_of(tree / "whole") == metrics_of(tree / "killed")
    file = "detections_test.json"
    assert only(tree / "whole", file).read_text() == only(tree / "killed", file).read_text()
    samples = read_samples(only(tree / "whole", "samples.json"), "test")
    assert {sample.why for sample in samples} == {"best", "worst", "random"}
    assert all(sample.pictures[kind].startswith("data:image/png") for sample in samples for kind in ("truth", "prediction"))
    assert all(len(sample.fields["objects"]) in (0, 2) for sample in samples)
    [group] = read([tree / "whole"])
    assert [row[:2] for row in of_group(group, "test")] == [("person", 0), ("car", 3), ("cat", 3)]
    assert "mask mAP at IoU 0.75" in str(sections([group], [], None))
