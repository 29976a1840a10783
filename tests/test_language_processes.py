"""Captioning and questions by run.py, on files as the official ones are laid out and with a random language model: two ranks, a
kill, and an earlier run that h(x) comes from."""

import json

import pytest
import torch
from caption_trees import put_coco, put_flickr, put_nocaps, put_vqa
from forked import Forks
from safetensors.torch import load_file
from small_lms import write_lm
from toys import curve, only

pytest.importorskip("transformers")
pytest.importorskip("pycocoevalcap.cider.cider")

EVERY = ["clip=toy", "lm=hub", "lm.model=lm", "data_root=data", "precision=32-true", "features.store=null", "batch_size=3"]
EVERY += ["epochs=3", "optim.lr=0.01", "task.module.generation.max_tokens=6", "eval_batch_size=2"]
CAPTIONING = ["data=coco", "task=captioning", "+protocol.targets.coco=[nocaps]"]
QUESTIONS = ["data=vqa2", "task.module.shots=[0,2]", "task.module.examples=5"]
TASKS = {"captioning": (CAPTIONING, "captions_coco.json"), "vqa": (QUESTIONS, "answers_vqa2_2.json")}


@pytest.fixture
def trees(tmp_path):
    """$DATA with COCO, Flickr30k, NoCaps and VQA v2 in `data`, and a random language model in `lm`."""
    for put in (put_coco, put_flickr, put_nocaps, put_vqa):
        put(tmp_path / "data")
    write_lm(tmp_path / "lm", "llama", max_position_embeddings=400)
    return tmp_path


def results_of(folder):
    return json.loads(only(folder, "result.json").read_text())


def numbers(value, name=""):
    """(dotted name, number) of all numbers in nested mappings."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from numbers(entry, f"{name}.{key}")
    elif isinstance(value, int | float):
        yield name, value


@pytest.mark.parametrize("task", TASKS)
def test_two_ranks_are_one_rank(task, cli, run_here, trees):
    """Ranks get unequal shares of the training and the test images."""
    options, file = TASKS[task]
    every = [*EVERY, *options, "method=limber", "trainer.log_every_n_steps=1"]
    run = cli(*every, "trainer=ddp_cpu", "output=two")
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    run_here(*every, "logger=csv", "output=one")
    assert curve(trees / "two") == pytest.approx(curve(trees / "one"), rel=1e-4)
    assert len(set(curve(trees / "one"))) >= 3
    one, two = results_of(trees / "one"), results_of(trees / "two")
    assert one["digest"] == two["digest"]
    assert json.loads(only(trees / "one", file).read_text()) == json.loads(only(trees / "two", file).read_text())
    ours, theirs = (dict(numbers(result["metrics"])) for result in (one, two))
    assert theirs == pytest.approx(ours, rel=1e-4)
    assert len(ours) > 8
    if task == "captioning":
        assert [*one["metrics"]["nocaps"]["domains"]] == ["in-domain", "near-domain", "out-domain"]
        answers = json.loads(only(trees / "one", file).read_text())
        assert [entry["image_id"] for entry in answers] == [104, 105]
    else:
        assert one["metrics"]["vqa2"]["questions"] == 6
        assert [*one["metrics"]["vqa2"]["by_answer_type"]["2"]] == ["number", "other", "yes/no"]


@pytest.mark.parametrize("task", TASKS)
def test_a_killed_run_goes_on_bit_for_bit(task, trees, run_here):
    options, file = TASKS[task]
    every = [*EVERY, *options, "method=limber", "save_every=0", "trainer=cpu"]
    forks = Forks()
    try:
        assert forks.run(trees, *every, "output=killed", STRIKE="last.ckpt:after:SIGKILL") == -9
        assert only(trees / "killed", "last.ckpt")
        assert forks.run(trees, *every, "output=killed") == 0
        assert "resuming from" in (trees / "log").read_text()
    finally:
        forks.close()
    run_here(*every, "output=whole")
    a, b = (load_file(only(trees / name, "prompts.safetensors")) for name in ("whole", "killed"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    whole, killed = results_of(trees / "whole"), results_of(trees / "killed")
    assert whole["train_loss"] == killed["train_loss"]
    assert whole["metrics"] == killed["metrics"]
    assert only(trees / "whole", file).read_text() == only(trees / "killed", file).read_text()


def test_h_learns_on_from_its_own_run_with_the_captions_of_the_questions_images(trees, run_here):
    options = [*EVERY, *QUESTIONS, "method=limber_aape_finetuned", "earlier.epochs=1", "earlier.batch_size=2"]
    run_here(*options, "data.source.disk.captions='annotations/captions_{}.json'", "output=out")
    results = [json.loads(path.read_text()) for path in sorted((trees / "out").rglob("result.json"))]
    assert sorted(result["task"] for result in results) == ["retrieval", "vqa"]
    [learned] = [path for path in (trees / "out").rglob("prompts.safetensors") if "vqa2" in str(path)]
    assert {"h_map.weight", "image_map.weight"} < load_file(learned).keys()


def test_answers_of_the_test_server_are_written(trees, run_here):
    run_here(*EVERY, *QUESTIONS, "method=limber", "epochs=1", "data.source.disk.test=test-dev2015", "output=out")
    assert [entry["question_id"] for entry in json.loads(only(trees / "out", "answers_vqa2_2.json").read_text())] == [
        1000,
        2000,
    ]
    assert results_of(trees / "out")["metrics"]["vqa2"] == {"questions": 2, "shots": 2}
