"""Runs as separate processes: ranks, kills, sweeps, Hydra's output. Each start takes seconds, so they are few."""

import json
import re

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file
from toys import curve, only

TOY = ["clip=toy", "data=toy", "method=doomed", "optim.lr=0.2", "shots=4", "batch_size=6", "epochs=6"]


def test_two_ranks_are_one_rank(cli, run_here, tmp_path):
    """20 training images in batches of 6, 35 test images in batches of 17: ranks get unequal shares and batch counts."""
    every = [*TOY, "trainer.log_every_n_steps=1", "eval_every=6", "eval_batch_size=17"]
    ranks = {"two": [], "four": ["accumulate=2"]}
    for name, more in ranks.items():
        run = cli(*every, *more, "trainer=ddp_cpu", f"output={name}", fresh=name == "two")  # once as a user starts it
        assert run.returncode == 0, name + run.stderr
        assert "Traceback" not in run.stderr
        assert run.stdout.count("trainable parameters") == 1  # one rank speaks
    run_here(*every, "logger=csv", "output=one")
    results = {name: json.loads(only(tmp_path / name, "result.json").read_text()) for name in ("one", *ranks)}
    one = results["one"]
    for name in ("two", "four"):
        assert results[name]["digest"] == one["digest"]
        assert curve(tmp_path / name) == pytest.approx(curve(tmp_path / "one"), rel=1e-4)
        assert results[name]["metrics"] == one["metrics"]
        assert results[name]["history"] == one["history"]
        one_npz, other_npz = (np.load(only(tmp_path / folder, "predictions.npz")) for folder in ("one", name))
        assert one_npz["test/pred"].tolist() == other_npz["test/pred"].tolist()
        assert one_npz["test/label"].tolist() == other_npz["test/label"].tolist() == sorted(one_npz["test/label"].tolist())
    assert len(curve(tmp_path / "one")) == 18
    assert one["metrics"]["test"]["images"] == 35
    assert one["metrics"]["test"]["accuracy"] > 40  # of five classes: ranks that had not learned would agree for nothing


def test_two_ranks_of_maple_are_one(cli, run_here, tmp_path):
    """Deep prompts in both towers (spec H5.10), whose LayerNorms are trained as well; each rank encodes a part of the text."""
    maple = ["clip=toy_trained", "data=toy", "method=maple", "method.depth=2", "optim.lr=0.05"]
    maple += ["shots=4", "batch_size=6", "epochs=3"]
    run = cli(*maple, "trainer.log_every_n_steps=1", "trainer=ddp_cpu", "shard_classes=2", "output=two")
    assert run.returncode == 0, run.stderr
    run_here(*maple, "trainer.log_every_n_steps=1", "logger=csv", "output=one")
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(one) == 9
    assert max(one) - min(one) > 0.1  # something moved
    assert two == pytest.approx(one, rel=1e-4)
    metrics = [json.loads(only(tmp_path / name, "result.json").read_text())["metrics"]["test"] for name in ("one", "two")]
    assert metrics[0] == metrics[1]
    a, b = (load_file(only(tmp_path / name, "prompts.safetensors")) for name in ("one", "two"))
    assert {"clip.ln_final.weight", "clip.visual.ln_post.bias"} < a.keys() == b.keys()
    assert all(torch.allclose(a[name], b[name], rtol=1e-3, atol=1e-4) for name in a)


def test_killed_in_mid_epoch_and_started_again(cli, run_here, tmp_path):
    steps = ["save_every=0", "trainer=cpu"]
    run_here(*TOY, *steps, "output=whole")
    killed = cli(*TOY, *steps, "output=killed", DOOM="8:SIGKILL:0:20")
    assert killed.returncode == -9
    assert not list((tmp_path / "killed").rglob("result.json"))
    assert only(tmp_path / "killed", "last.ckpt")
    again = cli(*TOY, *steps, "output=killed")
    assert again.returncode == 0, again.stderr
    assert "resuming from" in again.stdout
    a, b = (load_file(only(tmp_path / name, "prompts.safetensors")) for name in ("whole", "killed"))
    assert a.keys() == b.keys()
    assert all((a[key] == b[key]).all() for key in a)
    results = [json.loads(only(tmp_path / name, "result.json").read_text()) for name in ("whole", "killed")]
    assert results[0]["train_loss"] == results[1]["train_loss"]
    assert results[0]["metrics"] == results[1]["metrics"]


def test_a_sweep_whose_jobs_fail_on_either_rank(cli, tmp_path):
    """Jobs of two ranks: with 2 shots the second rank fails, with 3 the first rank is killed, with 4 the job succeeds."""
    sweep = cli(
        *TOY[:4], "batch_size=6", "epochs=2", "shots=2,3,4", "trainer=ddp_cpu", "output=out",
        sweep=True, DOOM="2:raise:1:10 2:SIGKILL:0:15",
    )  # fmt: skip
    assert sweep.returncode != 0
    done = [path.parts[-3].split("-")[0] for path in (tmp_path / "out").rglob("result.json")]
    assert done == ["shots4"]
    assert "2 job(s) of the sweep failed" in sweep.stderr
    listed = sweep.stderr.split("to repeat them:")[1]
    assert re.findall(r"shots=(\d)", listed) == ["2", "3"]
    assert "doomed" in sweep.stderr  # the rank that failed says why
    for path in (tmp_path / "out").rglob("result.json"):
        assert json.loads(path.read_text())["metrics"]["test"]["images"] == 35


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["method=cooop"], ["method=cooop is not known", "Did you mean coop?", "maple"]),
        (["data=eurosats"], ["data=eurosats is not known", "Did you mean eurosat?", "imagenet"]),
        (["epocs=3"], ["no key 'epocs'", "Did you mean epochs?", "batch_size"]),
        (["optim.leaning_rate=3"], ["no key 'optim.leaning_rate'", "momentum"]),
        (["method=coop", "shots=3", "clip=toy", "data=toy"], ["no recipe for shots=3, only for 1, 2, 4, 8, 16"]),
        (["epochs=["], ["cannot read 'epochs=['"]),
    ],
)
def test_hydras_own_refusals_are_one_message(cli, tmp_path, overrides, words):
    run = cli(*overrides)
    assert run.returncode != 0
    assert run.stderr.startswith("error: ")
    assert "Traceback" not in run.stderr
    assert all(word in run.stderr for word in words), run.stderr
    assert not list(tmp_path.iterdir())


def test_evaluations_with_fewer_images_than_ranks_and_with_none_that_can_be_read(cli, tmp_path):
    rng = np.random.default_rng(0)
    for split, counts in (("train", (4, 4)), ("test", (1, 2))):
        for name, count in zip("ab", counts, strict=True):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for i in range(count):
                image = PIL.Image.fromarray(rng.integers(0, 255, (40, 40, 3)).astype("uint8"))
                image.save(tmp_path / "images" / split / name / f"{i}.png")
    line = [
        "data=folder", "data.source.root=images", "data.source.val=null", "clip=toy", "method=coop", "shots=2", "epochs=1",
        "eval_every=1", "data.on_bad_image=skip", "callbacks=none", "logger=none",
    ]  # fmt: skip
    run = cli(*line, "protocol=base_to_new", "trainer=ddp_cpu", "output=two")
    assert run.returncode == 0, run.stderr
    assert "(1 images, 1 classes)" in run.stdout
    (tmp_path / "images" / "test" / "b" / "0.png").unlink()
    (tmp_path / "images" / "test" / "b" / "1.png").unlink()
    run = cli(*line, "trainer=ddp_cpu", "output=none")
    assert run.returncode == 1
    assert "error: test has fewer images (1) than this run has ranks (2): run on fewer devices." in run.stderr
    (tmp_path / "images" / "test" / "a" / "0.png").write_bytes(b"no image")
    run = cli(*line, "trainer=cpu", "output=none")
    assert run.returncode == 1
    assert "error: evaluation test: none of its images can be read, so it has no result." in run.stderr
    assert not (tmp_path / "none").exists()
