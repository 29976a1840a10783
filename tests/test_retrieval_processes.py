"""Retrieval by run.py: two ranks, and a kill between two steps."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toys import curve, only

TOY = [
    "clip=toy",
    "data=toy_captions",
    "+protocol.targets.toy_captions=[]",
    "recipe=none",
    "optim.lr=0.2",
    "batch_size=5",
    "epochs=3",
]
ONE = ["trainer.log_every_n_steps=1", "eval_every=3", "eval_batch_size=4"]


def test_two_ranks_are_one_rank(cli, run_here, tmp_path):
    """13 training images in batches of 5 and 9 test images: ranks get unequal shares, and each encodes a part of the text."""
    every = [*TOY, *ONE, "method=coop", "method.n_ctx=2", "shard_classes=2"]
    run = cli(*every, "trainer=ddp_cpu", "output=two")
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    run_here(*every, "logger=csv", "output=one")
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=1e-4)
    assert len(set(curve(tmp_path / "one"))) == 6
    one, two = (json.loads(only(tmp_path / name, "result.json").read_text()) for name in ("one", "two"))
    assert one["metrics"] == two["metrics"]
    assert one["history"] == two["history"]
    assert one["metrics"]["toy_captions"]["captions"] == 22
    a, b = (load_file(only(tmp_path / name, "prompts.safetensors")) for name in ("one", "two"))
    assert torch.allclose(a["ctx"], b["ctx"], rtol=1e-3, atol=1e-5)
    samples = [json.loads(only(tmp_path / name, "samples.json").read_text())["evaluations"] for name in ("one", "two")]
    entries = [[(entry["why"], entry["index"], entry["rank"]) for entry in s["toy_captions"]] for s in samples]
    assert entries[0] == entries[1]


def test_a_run_that_stops_between_two_steps_goes_on_bit_for_bit(run_here, tmp_path, monkeypatch):
    steps = [*TOY, "method=doomed", "callbacks=default", "save_every=0"]
    run_here(*steps, "output=whole")
    monkeypatch.setenv("DOOM", "4:raise:0:13")
    with pytest.raises(ValueError, match="doomed"):
        run_here(*steps, "output=stopped")
    monkeypatch.delenv("DOOM")
    assert only(tmp_path / "stopped", "last.ckpt")
    run_here(*steps, "output=stopped")
    a, b = (load_file(only(tmp_path / name, "prompts.safetensors")) for name in ("whole", "stopped"))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    results = [json.loads(only(tmp_path / name, "result.json").read_text()) for name in ("whole", "stopped")]
    assert results[0]["train_loss"] == results[1]["train_loss"]
    assert results[0]["metrics"] == results[1]["metrics"]
