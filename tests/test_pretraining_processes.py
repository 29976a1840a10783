"""Pretraining on two ranks, as separate processes; numbers in test names: the test list of docs/pretraining.md."""

import json
import os
import socket
import subprocess
import sys

import PIL.Image
import pytest
from safetensors.torch import load_file
from toys import ROOT, TESTS, command, curve, only

RUN = ["clip=toy", "data=toy", "shots=4", "batch_size=6", "epochs=3", "optim.lr=0.05", "trainer.log_every_n_steps=1"]
METHODS = {
    "pomp": ["method=pomp", "method.local_contrast.num_sampled_classes=3", "method.local_contrast.negative_groups=2"],
    "rpp": [
        "method=rpp", "method.depth_text=2", "method.depth_image=1", "method.local_contrast.num_sampled_classes=3",
        "method.distillation.weight=1", "clip@method.distillation.teacher=toy",
    ],
    # the exact softmax, its five classes encoded in shares of three
    "rpp_sharded": [
        "method=rpp", "method.depth_text=2", "method.depth_image=1", "clip@method.distillation.teacher=toy", "shard_classes=2",
    ],
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_24_two_ranks_are_one(cli, run_here, tmp_path, method):
    """The same sampled classes, so the same steps; 35 test images over two ranks are counted once each. RPP's prompts without
    a gradient do not stop it."""
    run = cli(*RUN, *METHODS[method], "trainer=ddp_cpu", "output=two")
    assert run.returncode == 0, run.stderr
    run_here(*RUN, *METHODS[method], "logger=csv", "output=one")
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(one) == 9
    assert max(one) - min(one) > 0.1  # something moved
    assert two == pytest.approx(one, rel=1e-4)
    results = [json.loads(only(tmp_path / name, "result.json").read_text()) for name in ("one", "two")]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["metrics"]["test"]["images"] == 35
    ours, theirs = (load_file(only(tmp_path / name, "prompts.safetensors")) for name in ("one", "two"))
    for name, tensor in ours.items():  # a prompt moves as its gradients say
        assert (theirs[name] - tensor).abs().max() <= 1e-4 * tensor.abs().max(), name
    counts = {name: results[0][f"{name}_parameters"] for name in ("trainable", "effective")}
    # toy: width 32, 2 blocks; text: both blocks prompted, so no query acts; image: the query of the one prompted block does
    assert counts == ({"trainable": 128, "effective": 128} if method == "pomp" else {"trainable": 1152, "effective": 896})


def write_tree(root, **splits):
    """Three classes of ImageNet-21K with so many images each per split."""
    for split, number in splits.items():
        for label, wnid in enumerate(("n01440764", "n02084071", "n02958343")):
            folder = root / "imagenet21k_resized" / f"imagenet21k_{split}" / wnid
            folder.mkdir(parents=True)
            for i in range(number):
                PIL.Image.new("RGB", (40, 30), (80 * label, 20 * i, 99)).save(folder / f"{wnid}_{i}.JPEG")


def test_a_tree_in_the_real_layout_on_two_ranks(cli, tmp_path):
    """RPP's pretraining command, with the changes that a tiny tree and a CPU need."""
    write_tree(tmp_path, train=3, val=1)
    small = ["data_root=.", "shots=2", "epochs=2", "batch_size=4", "clip=tiny", "trainer=ddp_cpu", "trainer.devices=2"]
    run = cli("method=rpp", "data=imagenet21k", *small)
    assert run.returncode == 0, run.stderr
    result = json.loads(only(tmp_path / "outputs", "result.json").read_text())
    assert result["metrics"]["test"]["images"] == 3
    assert result["config"]["method"]["distillation"]["weight"] == 1
    assert result["config"]["data"]["augmentation"] == "randaug2"
    assert result["effective_parameters"] < result["trainable_parameters"]


def test_killed_in_mid_epoch_and_started_again_with_workers(cli, run_here, tmp_path):
    """Killed in the 8th of 20 steps, the run resumes with the steps of an undisturbed run, whatever the workers."""
    write_tree(tmp_path, train=5, val=1)
    doomed = [
        "method=doomed", "data=imagenet21k", "clip=toy", "data_root=.", "data.augmentation=randaug2", "shots=-1",
        "batch_size=3", "epochs=4", "optim.lr=0.05", "save_every=0", "trainer=cpu", "trainer.log_every_n_steps=1", "logger=csv",
    ]  # fmt: skip
    run_here(*doomed, "output=whole")
    killed = cli(*doomed, "output=killed", DOOM="8:SIGKILL:0:15")
    assert killed.returncode == -9, killed.stderr
    assert not list((tmp_path / "killed").rglob("result.json"))
    again = cli(*doomed, "workers=2", "output=killed")
    assert again.returncode == 0, again.stderr
    assert "resuming from" in again.stdout
    whole, rest = curve(tmp_path / "whole"), curve(tmp_path / "killed")
    assert len(set(whole)) == 20  # other images or other crops would show
    assert rest == whole[7:]
    results = [json.loads(only(tmp_path / name, "result.json").read_text()) for name in ("whole", "killed")]
    assert results[0]["train_loss"] == results[1]["train_loss"]
    assert results[0]["metrics"] == results[1]["metrics"]
    ours, theirs = (load_file(only(tmp_path / name, "prompts.safetensors")) for name in ("whole", "killed"))
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)


def test_two_torchrun_nodes_are_one_process(run_here, tmp_path):
    """Two nodes started by torchrun, with one process each, which divide the classes of a step between them."""
    overrides = [*RUN, *METHODS["rpp_sharded"]]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}"]
    script = command(*overrides, "trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2", "output=two")[1:]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *where, f"--node-rank={node}", *script],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for node in range(2)
    ]  # fmt: skip
    outputs = [node.communicate(timeout=200)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    run_here(*overrides, "logger=csv", "output=one")
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=1e-4)
    results = [json.loads(only(tmp_path / name, "result.json").read_text()) for name in ("one", "two")]
    assert results[0]["metrics"] == results[1]["metrics"]
