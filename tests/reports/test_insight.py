"""The insight command on small runs: its files, its output, and its refusals."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toys import NAMES, TESTS, ToySource, toy_clip

from reports.insight import parts
from reports.insight.__main__ import main
from reports.insight.finished import FinishedRun
from runs import launch

IVLP = ("method=ivlp", "method.depth_text=2", "method.depth_image=2", "epochs=1", "shots=4", "optim.lr=0.5")


@pytest.fixture
def folder(run_here, tmp_path):
    """Of a finished run."""

    def run(*overrides):
        before = set(tmp_path.rglob("result.json"))
        run_here(*overrides)
        new = set(tmp_path.rglob("result.json")) - before
        return max(new, key=lambda path: len(json.loads(path.read_text())["stages"])).parent

    return run


@pytest.fixture
def insight(monkeypatch, capsys):
    def call(*arguments):
        command = ["insight", *map(str, arguments), "--config-dir", str(TESTS / "conf")]
        monkeypatch.setattr(sys, "argv", command)
        return launch.exit_status_of(main), capsys.readouterr()

    return call


def read(folder, name):
    return json.loads((folder / "insight" / f"{name}.json").read_text())


def test_all_parts_of_a_deep_method(folder, insight):
    ivlp = folder(*IVLP)
    status, output = insight(ivlp)
    assert status == 0, output.err
    files = ["attention", "calibration", "gap", "images", "words"]
    pictures = ["attention.png", "calibration.png", "images-test.png"]
    assert sorted(p.name for p in (ivlp / "insight").iterdir()) == sorted(
        [*(f"{name}.json" for name in files), *pictures, "words.txt"]
    )
    assert all(str(path) in output.out for path in (ivlp / "insight").iterdir())
    assert not [path for path in ivlp.iterdir() if path.name.startswith(".")]

    words = read(ivlp, "words")
    assert words["vocabulary"] == 49408 - 2
    assert [entry["vector"] for entry in words["vectors"]] == [1, 2]
    assert all(len(entry["words"]) == 5 for entry in words["vectors"])

    stored = np.load(ivlp / "predictions.npz")
    right = stored["test/pred"] == stored["test/label"]
    content = read(ivlp, "calibration")["test"]
    assert content["this run"]["accuracy"] == pytest.approx(100 * right.mean())
    assert content["this run"]["confidence"] == pytest.approx(100 * stored["test/confidence"].mean(), rel=1e-3)
    assert content["baseline"]["method"] == "zeroshot"

    compared = read(ivlp, "images")["evaluations"]["test"]
    difference = content["this run"]["accuracy"] - content["baseline"]["accuracy"]
    assert len(compared["gained"]) - len(compared["lost"]) == pytest.approx(difference / 100 * len(right))
    assert len(compared["gained"]) + len(compared["lost"]) > 0
    for entry in compared["gained"]:
        assert entry["this run"] == entry["true"] != entry["baseline"]
        assert entry["image"].startswith(f"test/{NAMES.index(entry['true'])}/")
    assert all(entry["baseline"] == entry["true"] != entry["this run"] for entry in compared["lost"])

    gap = read(ivlp, "gap")["test"]
    assert gap["images"] == 35
    assert [(row["method"], row["vectors"]) for row in gap["against"]] == [
        ("ivlp", "text features"),
        ("zeroshot", "text features"),
    ]
    assert gap["against"][0]["cosine"] != gap["against"][1]["cosine"]

    attention = read(ivlp, "attention")
    assert {tower: len(shares) for tower, shares in attention.items()} == {"text": 2, "image": 2}
    assert [share["prompts"] for share in attention["image"]] == [2, 2]
    assert all(0 < share["read_out"] < 1 for shares in attention.values() for share in shares)


def test_the_run_is_made_again_as_it_was(folder, insight):
    """Its own predictions, worked out anew from prompts and config, are those that it stored; and so are zero-shot CLIP's."""
    ivlp, zeroshot = folder(*IVLP), folder("method=zeroshot", "shots=4")
    insight(ivlp, "--only", "images", "calibration")
    stored = read(ivlp, "images"), read(ivlp, "calibration")
    (ivlp / "predictions.npz").unlink()
    shutil.rmtree(zeroshot)
    _, output = insight(ivlp, "--only", "images", "calibration")
    assert "evaluating ivlp on test, 35 images" in output.out
    assert "evaluating zeroshot on test, 35 images" in output.out
    assert (read(ivlp, "images"), read(ivlp, "calibration")) == stored


def test_zero_shot_of_another_template_is_not_the_baseline(folder, insight):
    ivlp = folder(*IVLP)
    folder("method=zeroshot", "method.templates=selected")
    assert "evaluating zeroshot" in insight(ivlp, "--only", "images")[1].out
    folder("method=zeroshot", "shots=2")
    assert "evaluating zeroshot" not in insight(ivlp, "--only", "images")[1].out


def test_class_specific_context_is_told_by_class(folder, insight):
    coop = folder("method=coop", "method.class_context=true", "method.n_ctx=3", "epochs=1", "shots=3")
    status, output = insight(coop, "--words", "2")
    assert status == 0, output.err
    content = read(coop, "words")["vectors"]
    assert [(entry["class"], entry["vector"]) for entry in content] == [(name, at) for name in NAMES for at in (1, 2, 3)]
    ctx = load_file(coop / "prompts.safetensors")["ctx"]
    assert ctx.shape[:2] == (5, 3)
    assert (coop / "insight" / "words.txt").read_text().count("sea or lake") == 3
    assert "sea or lake 2" in output.out


def test_every_evaluation_of_a_protocol_or_those_asked_for(folder, insight):
    both = folder(*IVLP, "protocol=base_to_new")
    _, output = insight(both, "--only", "images", "calibration")
    assert set(read(both, "calibration")) == set(read(both, "images")["evaluations"]) == {"base", "new"}
    shutil.rmtree(both / "insight")
    insight(both, "--only", "images", "--evaluations", "new")
    assert {path.name for path in (both / "insight").iterdir()} == {"images-new.png", "images.json"}
    insight(both, "--only", "gap", "attention")
    assert list(read(both, "gap")) == ["base", "new"]
    attention = read(both, "attention")
    (both / "predictions.npz").unlink()
    _, output = insight(both)
    assert output.out.count("evaluating ivlp on new") == 1
    assert read(both, "attention") == attention  # of the classes trained on, whichever was evaluated last


def test_context_that_depends_on_the_image(folder, insight):
    cocoop = folder("method=cocoop", "epochs=1", "shots=1", "batch_size=1")
    _, output = insight(cocoop, "--only", "words", "attention")
    assert "mean over 35 test images" in output.out
    assert [entry["vector"] for entry in read(cocoop, "words")["vectors"]] == [1, 2, 3, 4]
    assert [share["prompts"] for share in read(cocoop, "attention")["text"]] == [4, 4]


def test_words_and_stored_calibration_need_no_images(folder, insight, monkeypatch):
    ivlp, _ = folder(*IVLP), folder("method=zeroshot")
    monkeypatch.setattr(ToySource, "splits", lambda *_: 1 / 0)
    assert insight(ivlp, "--only", "words", "calibration")[0] == 0
    assert set(read(ivlp, "calibration")["test"]) == {"this run", "baseline"}
    assert insight(ivlp)[0] == 1


def test_what_a_method_does_not_have_is_said(folder, insight):
    zeroshot = folder("method=zeroshot")
    status, output = insight(zeroshot)
    assert status == 0
    for sentence in ("zeroshot has no context vectors", "zero-shot CLIP itself", "puts no prompts into the towers"):
        assert sentence in output.out
    assert {path.name for path in (zeroshot / "insight").iterdir()} == {"calibration.json", "calibration.png", "gap.json"}


def test_another_run_in_the_place_of_zero_shot(folder, insight):
    ivlp, coop = folder(*IVLP), folder("method=coop", "epochs=1", "shots=1")
    _, output = insight(ivlp, "--only", "images", "--against", coop)
    assert "against coop" in output.out
    _, output = insight(coop, "--only", "images", "--against", ivlp)
    mirrored = read(coop, "images")["evaluations"]["test"]
    ours = read(ivlp, "images")["evaluations"]["test"]
    assert {entry["image"] for entry in ours["gained"]} == {entry["image"] for entry in mirrored["lost"]}


def test_the_prompts_of_an_evaluation_lie_elsewhere(folder, insight):
    ivlp = folder(*IVLP)
    again = folder("fit=false", f"ckpt={ivlp}", *IVLP[:3])
    insight(ivlp, "--only", "words"), insight(again, "--only", "words")
    assert read(again, "words") == read(ivlp, "words")
    elsewhere = (ivlp, "clip._target_=toys.other_clip", "--only", "words")
    status, output = insight(*elsewhere)
    assert status == 1
    assert "was trained on another CLIP (weights" in output.err
    assert insight(ivlp, "other_clip=true", *elsewhere[1:])[0] == 0


def test_a_result_names_no_code(folder, insight, tmp_path):
    ivlp = folder(*IVLP)
    result = json.loads((ivlp / "result.json").read_text())
    for group in ("method", "data", "clip"):
        result["config"][group]["_target_"] = "os.mkdir"
        result["config"][group]["path"] = str(tmp_path / "harm")
    (ivlp / "result.json").write_text(json.dumps(result))
    assert insight(ivlp, "--only", "words", "images")[0] == 0
    assert not (tmp_path / "harm").exists()


def test_mistakes_are_one_sentence_and_leave_nothing(folder, insight, tmp_path, monkeypatch):
    ivlp, base = folder(*IVLP), folder("method=coop", "protocol=base_to_new", "epochs=1", "shots=1")
    for arguments, message in (
        ([tmp_path], "give the folder of a finished run"),
        ([ivlp, ivlp], "neither an option nor KEY=VALUE"),
        ([ivlp, "method.depth=3"], "there is no key 'method.depth'"),
        ([ivlp, "--words", 0], "--words 0: give a number"),
        ([ivlp, "--evaluations", "new"], "this run has test"),
        ([ivlp, "--against", base], "has no predictions of 'test'"),
        ([ivlp, "--against", tmp_path / "none"], "there is no result.json"),
    ):
        status, output = insight(*arguments)
        assert status == 1
        assert message in output.err
        assert output.err.startswith("error: ")
        assert len(output.err.splitlines()) == 1
    monkeypatch.setattr(parts, "calibrate", lambda *_: 1 / 0)
    assert insight(ivlp)[0] == 1
    assert {path.name for path in ivlp.iterdir()} == {"prompts.safetensors", "predictions.npz", "result.json"}


def test_the_last_of_several_stages_or_one_subset_alone(folder, insight):
    """A protocol's yaml may give one class subset where the command line gave a list, and the other way round."""
    staged = folder("protocol=base_to_new", "protocol.train=[base,base]", "epochs=1", "shots=1")
    alone = folder("protocol=base_to_new", "protocol.train=new", "epochs=1", "shots=1")
    for run in (staged, alone):
        status, said = insight(run, "--only", "calibration", "--evaluations", "new")
        assert status == 0, said.err


def test_a_clip_that_was_trained_serves_its_own_prompts_alone(folder):
    run = folder("clip=toy_trained", "method=coop", "method.n_ctx=2", "epochs=1", "shots=1", "optim.lr=0.5")
    finished = FinishedRun(run, config_dir=TESTS / "conf")
    stored = finished.predictions("test")
    (run / "predictions.npz").unlink()
    again = FinishedRun(run, config_dir=TESTS / "conf")
    assert (again.predictions("test").confidence_N == stored.confidence_N).all()
    assert again.clip.changed
    assert not again.clip.trained
    trained, loaded = again.clip.model.state_dict(), toy_clip().model.state_dict()
    assert not torch.equal(trained["ln_final.weight"], loaded["ln_final.weight"])
    again.baseline("test")
    baseline = again.baseline_parts.clip.model.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in baseline.items())
