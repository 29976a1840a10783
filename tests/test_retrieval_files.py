"""Retrieval on files as COCO's and Flickr30k's official ones are laid out: two ranks, and a run that is killed."""

import json

import numpy as np
import pytest
from caption_trees import put_coco, put_flickr
from forked import Forks
from safetensors.torch import load_file
from toys import curve, only

EVERY = ["clip=toy", "data=coco", "data_root=data", "method=coop", "method.n_ctx=2", "recipe=none", "features.store=null"]
EVERY += ["batch_size=3", "epochs=3", "optim.lr=0.1", "eval_batch_size=2"]


@pytest.fixture
def trees(tmp_path):
    """$DATA with COCO, which is trained on, and Flickr30k, to which the prompts go on."""
    for put in (put_coco, put_flickr):
        put(tmp_path / "data")
    return tmp_path


def result_of(folder):
    return json.loads(only(folder, "result.json").read_text())


def test_two_ranks_are_one_rank(cli, run_here, trees):
    every = [*EVERY, "trainer.log_every_n_steps=1"]
    run = cli(*every, "trainer=ddp_cpu", "output=two")
    assert run.returncode == 0, run.stderr
    run_here(*every, "logger=csv", "output=one")
    assert curve(trees / "two") == pytest.approx(curve(trees / "one"), rel=1e-4)
    one, two = result_of(trees / "one"), result_of(trees / "two")
    assert one["metrics"] == two["metrics"]
    assert [*one["metrics"]] == ["coco", "flickr30k"]
    assert all(metrics["captions"] > metrics["images"] for metrics in one["metrics"].values())


def test_a_killed_run_goes_on_bit_for_bit(run_here, trees):
    every = [*EVERY, "save_every=0", "trainer=cpu"]
    forks = Forks()
    try:
        assert forks.run(trees, *every, "output=killed", STRIKE="last.ckpt:after:SIGKILL") == -9
        assert only(trees / "killed", "last.ckpt")
        assert forks.run(trees, *every, "output=killed") == 0
    finally:
        forks.close()
    run_here(*every, "output=whole")
    killed, whole = (load_file(only(trees / name, "prompts.safetensors")) for name in ("killed", "whole"))
    assert all(np.array_equal(killed[name], whole[name]) for name in whole)
    assert result_of(trees / "killed")["metrics"] == result_of(trees / "whole")["metrics"]
