"""Additions of a user, without a change to any file of the project: two methods, a protocol of stages, a kind of task.

A dataset in a folder of class folders is in tests/datamodules/test_class_folders.py. CONTRIBUTING says how long each took.
"""

import json

import pytest
from toys import ROOT, TESTS

CONF = TESTS / "additions" / "conf"


@pytest.fixture
def command(forks, tmp_path):
    """Runs one of the project's scripts with the added configs, in an empty folder: its output."""

    def run(script, *arguments, status=0):
        done = forks.complete([str(ROOT / script), "--config-dir", str(CONF), *arguments], tmp_path)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def results(folder):
    stored = [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]
    return sorted(stored, key=lambda result: len(result["stages"]))


def test_a_method_with_deep_rows_for_each_class(command, tmp_path):
    command("run.py", "method=class_deep", "epochs=4")
    [result] = results(tmp_path)
    assert result["trainable_parameters"] == 36 * 2 * 2 * 128
    assert result["metrics"]["test"]["accuracy"] > 68  # zero-shot CLIP has 60.4
    message = command("run.py", "method=class_deep", "protocol=base_to_new", "epochs=1", status=1)
    assert "ClassDeep learned tensors for each of its 18 classes and cannot serve another list of 18" in message


def test_a_visual_prompt_with_a_text_adapter(command, tmp_path):
    command("run.py", "method=visual_adapter", "protocol=base_to_new", "epochs=4")
    [result] = results(tmp_path)
    assert result["config"]["recipes"]["used"] == ["visual_adapter-base_to_new"]
    assert result["train_loss"][-1] < result["train_loss"][0]
    assert result["metrics"]["base"]["accuracy"] > 73  # zero-shot CLIP has 75.6
    assert set(result["summary"]) == {"H"}
    [folder] = [path.parent for path in tmp_path.rglob("result.json")]
    command("run.py", "method=visual_adapter", "data=digits", "fit=false", f"ckpt={folder}")


def test_groups_of_classes_learned_one_after_the_other(command, tmp_path):
    text = command("run.py", "protocol=three_groups", "epochs=6", "optim.lr=0.05")
    first, second, last = results(tmp_path)
    assert [result["config"]["protocol"]["train"] for result in (first, second, last)] == [
        ["1/3"],
        ["1/3", "2/3"],
        ["1/3", "2/3", "3/3"],
    ]
    figures = [{name: metrics["accuracy"] for name, metrics in result["metrics"].items()} for result in (first, second, last)]
    assert last["stages"] == figures[:2]
    lost = [max(figures[0][name], figures[1][name]) - figures[2][name] for name in ("group1", "group2")]
    assert last["summary"]["forgetting"]["value"] == pytest.approx(sum(lost) / 2)
    assert "forgetting" not in first["summary"]
    assert "  forgetting   " in text
    assert [len(result["classnames"]) for result in (first, second, last)] == [12, 12, 12]
    again = command("run.py", "protocol=three_groups", "epochs=6", "optim.lr=0.05")
    assert again.count("done already") == 1

    report = command("report.py", ".")
    assert "forgetting" in report
    assert f"{last['summary']['forgetting']['value']:.1f}" in report
    page = (tmp_path / "report.html").read_text()
    assert "forgetting" in page


def test_a_kind_of_task(command, tmp_path):
    command("run.py", "data=ranked_shapes", "method=coop", "epochs=4")
    command("run.py", "data=shapes", "task=ranking", "method=zeroshot", "eval_every=1")
    command("run.py", "method=zeroshot")
    trained, zeroshot = (
        next(r for r in results(tmp_path) if r["task"] == "ranking" and r["names"]["method"] == method)
        for method in ("coop", "zeroshot")
    )
    assert trained["figure"] == {"key": "mrr", "title": "mean reciprocal rank", "unit": "%", "higher_is_better": True}
    assert trained["metrics"]["test"]["mrr"] > zeroshot["metrics"]["test"]["mrr"] > 60
    assert set(trained["metrics"]["test"]) == {"mrr", "images"}
    report = command("report.py", ".")
    assert "mean reciprocal rank" in report
    assert "configurations that rank class names" in (tmp_path / "report.html").read_text()


def test_a_method_that_does_not_offer_what_a_task_needs(command):
    message = command("run.py", "task=tagging", "method=coop", "epochs=1", status=1)
    assert message == (
        "error: task=tagging needs tagged images, which neither method=coop nor data=shapes offers: choose another method or "
        "dataset.\n"
    )
