"""Grounding by run.py, on RefCOCO's files as they are laid out: two ranks, a kill, a search for colours, refusals."""

import json

import pytest
import torch
from refer_trees import put_reclip, put_refcoco
from safetensors.torch import load_file
from toys import curve, only

EVERY = ["clip=toy", "data_root=data", "precision=32-true", "features.store=null", "eval_batch_size=2", "data=refcoco"]
LEARNED = [*EVERY, "method=cpt_learned", "method.n_before=1", "shots=5", "batch_size=3", "epochs=3", "optim.lr=0.05"]
FILES = ("boxes_refcoco.json", "boxes_refcoco_testb.json")


@pytest.fixture
def tree(tmp_path):
    """$DATA with RefCOCO in `data`."""
    put_refcoco(tmp_path / "data")
    return tmp_path


def result_of(folder):
    return json.loads(only(folder, "result.json").read_text())


def boxes_of(folder):
    return [json.loads(only(folder, name).read_text()) for name in FILES]


def test_two_ranks_are_one_rank(cli, run_here, tree):
    """Five expressions in batches of three, and three in each test: a rank's share is filled up, and one rank has less."""
    every = [*LEARNED, "method.none=logit", "trainer.log_every_n_steps=1"]
    run = cli(*every, "trainer=ddp_cpu", "output=two")
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    run_here(*every, "logger=csv", "output=one")
    assert curve(tree / "two") == pytest.approx(curve(tree / "one"), rel=1e-4)
    assert len(set(curve(tree / "one"))) == 3
    one, two = result_of(tree / "one"), result_of(tree / "two")
    assert one["digest"] == two["digest"]
    assert [*one["metrics"]] == ["refcoco", "refcoco_testb"]
    assert one["metrics"] == two["metrics"]
    assert one["metrics"]["refcoco"]["expressions"] == 3
    assert [(entry["list"], entry["undetected"]) for entry in one["metrics"].values()] == [("testA", 0), ("testB", 1)]
    for ours, theirs in zip(boxes_of(tree / "one"), boxes_of(tree / "two"), strict=True):
        assert [line.pop("score") for line in ours] == pytest.approx([line.pop("score") for line in theirs], rel=1e-4)
        assert ours == theirs
    a, b = (load_file(only(tree / name, "prompts.safetensors")) for name in ("one", "two"))
    assert all(torch.allclose(a[name], b[name], rtol=1e-3, atol=1e-5) for name in a)


def test_a_killed_run_goes_on_bit_for_bit(cli, tree, run_here):
    every = [*LEARNED, "save_every=0", "trainer=cpu"]
    assert cli(*every, "output=killed", STRIKE="last.ckpt:after:SIGKILL").returncode == -9
    assert only(tree / "killed", "last.ckpt")
    resumed = cli(*every, "output=killed")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from" in resumed.stdout
    run_here(*every, "output=whole")
    a, b = (load_file(only(tree / name, "prompts.safetensors")) for name in ("whole", "killed"))
    assert set(a) == {"ctx", "look"}
    assert all(torch.equal(a[name], b[name]) for name in a)
    whole, killed = result_of(tree / "whole"), result_of(tree / "killed")
    assert whole["train_loss"] == killed["train_loss"]
    assert whole["metrics"] == killed["metrics"]
    assert boxes_of(tree / "whole") == boxes_of(tree / "killed")


def test_zero_shots(tree, run_here, capsys):
    result = run_here(*EVERY, "method=cpt", "output=out")
    assert "cpt on refcoco (clip toy, protocol grounding), 0 shots, seed 1" in (said := capsys.readouterr().out)
    assert "no training expressions" in said
    assert "3 expressions of testA)" in said
    assert "4 expressions of testB, 1 image without a detected box)" in said
    assert result["selected"]["train"] == []
    assert result["metrics"]["refcoco_testb"]["proposals"] == 1.25  # nothing was detected in one: the whole image
    with pytest.raises(ValueError, match="shots=0 gives LearnedCPT no expression to learn from"):
        run_here(*EVERY, "method=cpt_learned", "epochs=1", "output=out")
    run_here(*EVERY, "method=cpt", "shots=-1", "+protocol.targets.refcoco=[]", "output=out")
    assert "all images, seed 1" in capsys.readouterr().out


def test_val_is_the_same_list_in_the_official_files_and_in_those_of_reclip(tree, run_here):
    put_reclip(tree / "data")
    every = [*EVERY[:-1], "data=refcoco_val", "method=cpt"]
    disk = run_here(*every, "output=disk")["metrics"]
    reclip = run_here(*every, "source=reclip", "data.source.reclip.text=sent", "output=reclip")["metrics"]
    assert [*disk] == [*reclip] == ["refcoco_val"]
    assert (disk["refcoco_val"].pop("list"), reclip["refcoco_val"].pop("list")) == ("val", "refcoco_val.jsonl")
    assert disk == reclip
    boxes = [json.loads(only(tree / name, "boxes_refcoco_val.json").read_text()) for name in ("disk", "reclip")]
    assert boxes[0] == boxes[1]
    assert [line["image_id"] for line in boxes[0]] == [30]


def test_reclips_files_train_and_test(tmp_path, run_here):
    """A step on expressions of the list that ReCLIP's authors have no file of, then testA and testB."""
    put_reclip(tmp_path / "data")
    train = ["source=reclip", "data.source.reclip.train=refcoco_train.jsonl", "shots=-1", "batch_size=6", "epochs=1"]
    result = run_here(*LEARNED, *train, "output=out")
    tested = {name: (entry["list"], entry["expressions"]) for name, entry in result["metrics"].items()}
    assert tested == {"refcoco": ("refcoco_testa.jsonl", 3), "refcoco_testb": ("refcoco_testb.jsonl", 4)}
    assert (len(result["selected"]["train"]), len(result["train_loss"])) == (6, 1)


def test_colours_are_searched_for_and_used(tree, run_here):
    small = ["method.levels=[0,255]", "method.alphas=[127]", "method.words=[red,green,blue]", "method.count=2"]
    search = run_here(*EVERY, "method=cpt_colors", *small, "shots=2", "output=search")
    path = only(tree / "search", "colours-*.json")
    found = json.loads(path.read_text())
    assert path.stem == f"colours-{found['backbone']['weights'][:8]}"
    assert search["found"]["probability"] == {word: found["probability"][word] for word in found["colours"]}
    assert (search["found"]["images"], len(found["colours"]), found["tried"]) == (2, 2, 12)
    assert only(tree / "search", "colours.png").read_bytes()[1:4] == b"PNG"
    used = run_here(*EVERY, "method=cpt", "method.form=colours", f"method.colours={path}", "output=used")
    assert used["metrics"] == search["metrics"]
    saved = run_here(*EVERY, "method=cpt_colors", "fit=false", f"ckpt={path.parent}", "output=again")
    assert saved["metrics"] == search["metrics"]
    with pytest.raises(ValueError, match="CPTColors looks at training images, and there is none: give shots=N"):
        run_here(*EVERY, "method=cpt_colors", *small, "output=out")
