"""The report's sections of grounding and of relations: by kind, against shots, and a picture for each method."""

import importlib
import json
import re

import pytest
from fakes import put
from PIL import Image

from reports.collect import read
from reports.page import page
from reports.samples import read_samples
from reports.tasks import TaskReport

FIGURE = {"key": "accuracy", "title": "accuracy at IoU > 0.5", "unit": "%", "higher_is_better": True}
SAMPLE = {"expression": "the <b>star", "iou": 0.25, "score": 21.5, "proposals": 3, "box": [1, 2, 3.5, 4], "gold": [0, 0, 9, 9]}


def run(folder, method, shots, accuracy, seed=1, sample=None):
    metrics = {"accuracy": accuracy, "chance": 27.5, "upper_bound": 98.25, "expressions": 8}
    about = {"task": "grounding", "figure": FIGURE, "protocol": "grounding", "data": "scenes_refer"}
    path = put(folder, method, seed, shots, {"here": metrics, "there": {"accuracy": 12.0}}, targets=["there"], **about)
    (path.parent / "samples").mkdir()
    Image.new("RGB", (9, 9), "red").save(path.parent / "samples" / "here-0.png")
    entry = {"why": "random", "image": "samples/here-0.png", "index": 0, **SAMPLE, **(sample or {})}
    path.with_name("samples.json").write_text(json.dumps({"task": "grounding", "evaluations": {"here": [entry]}}))
    return path


def text_of(folder, task):
    report = TaskReport(importlib.import_module(f"reports.{task}"))
    return page(read([folder]), "Boxes", (), {task: report})


def test_sections_of_grounding(tmp_path):
    run(tmp_path, "cpt", 0, 25.0)
    for shots in (1, 4):
        for seed in (1, 2):
            run(tmp_path, "cpt_learned", shots, 30.0 + shots + seed, seed, {"iou": 0.75})
    text = text_of(tmp_path, "grounding")
    headings = {"Accuracy beside chance", "Accuracy by the number of expressions learned", "Chosen boxes"}
    assert headings <= set(re.findall(r"<h2>(.*?)</h2>", text))
    assert all(word in text for word in ("98.25", "27.50", "the &lt;b&gt;star", "IoU 0.25", "IoU 0.75", "score 21.50"))
    assert text.count('<img src="data:image/png;base64,') == 2  # a picture for each method, which draws into it
    assert "0 shots" in text
    assert "expressions learned" in text


def test_one_number_of_shots_has_no_line(tmp_path):
    run(tmp_path, "cpt", 0, 25.0)
    assert "Accuracy by the number of expressions learned" not in text_of(tmp_path, "grounding")


@pytest.mark.parametrize("wrong", [{"iou": 2}, {"box": ["a"]}, {"gold": [1] * 5}, {"expression": "a\x1b"}, {"proposals": 0}])
def test_samples_that_no_run_writes_are_refused(tmp_path, wrong):
    path = run(tmp_path, "cpt", 0, 25.0, sample=wrong)
    with pytest.raises(ValueError, match=r"samples.json: here\[0\]"):
        read_samples(path.with_name("samples.json"), "here")


def test_sections_of_relations(tmp_path):
    metrics = {"accuracy": 25.0, "mean_recall_1": 26.0, "by_relation": {"left of": 20.5}, "pairs": 9}
    put(tmp_path, "cpt_relation", 1, 0, {"here": metrics}, task="relation", figure=FIGURE | {"title": "accuracy"})
    text = text_of(tmp_path, "relation")
    assert "By relation" in text
    assert "left of in %" in text
    assert "20.50" in text
