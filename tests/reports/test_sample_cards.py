"""Sections of the tasks with texts: numbers, plots against K, and images with what each method made of them."""

import json
import os
import re

import pytest
from fakes import put
from PIL import Image

from reports.collect import read
from reports.numbers import numbers
from reports.page import page
from reports.samples import read_samples
from reports.tasks import TaskReport

FIGURES = {
    "retrieval": {"key": "image_to_text_r1", "title": "image to text, R@1", "unit": "%", "higher_is_better": True},
    "captioning": {"key": "cider_d", "title": "CIDEr-D", "unit": "", "higher_is_better": True},
    "vqa": {"key": "accuracy", "title": "accuracy", "unit": "%", "higher_is_better": True},
    "segmentation": {"key": "miou", "title": "mIoU", "unit": "%", "higher_is_better": True},
}
METRICS = {
    "retrieval": {"image_to_text_r1": 20.0, "image_to_text_r5": 40.0, "image_to_text_r10": 60.5, "images": 9},
    "captioning": {"cider_d": 80.0, "bleu_4": 20.0, "domains": {"in-domain": {"cider_d": 81.25}}, "images": 9},
    "vqa": {"accuracy": 50.0, "by_shots": {"0": 30.0, "4": 50.0}, "images": 9},
    "segmentation": {
        "miou": 43.5,
        "aacc": 80.25,
        "per_class": [
            {"class": "sky", "iou": 61.5, "accuracy": 70.0, "pixels": 12345},
            {"class": "boat", "iou": None, "accuracy": None, "pixels": 0},
        ],
        "images": 9,
    },
}
SAMPLE = {
    "retrieval": {"captions": ["a red star"], "retrieved": [["a blue star", 31.5, False], ["a red star", 30, True]], "rank": 2},
    "captioning": {"caption": "a star \x1b[2J", "references": ["a red star"], "scores": {"cider_d": 51.5}},
    "vqa": {"question": "what colour?", "answer": "red", "answers": ["red", "pink"], "accuracy": 90.0, "shots": 4},
    "segmentation": {
        "miou": 50.5,
        "classes": [["sky", 61.4, "#00ff00"]],
        "truth": "samples/test-0.png",
        "prediction": "samples/test-0.png",
    },
}


def with_samples(folder, task, method="coop", samples=None, size=(32, 32)):
    path = put(folder, method, metrics={"test": METRICS[task]}, task=task, figure=FIGURES[task])
    (path.parent / "samples").mkdir()
    Image.new("RGB", size, "red").save(path.parent / "samples" / "test-0.png")
    entry = {"why": "random", "image": "samples/test-0.png", "index": 0, **SAMPLE[task]}
    content = {"task": task, "evaluations": {"test": [entry] if samples is None else samples}}
    path.with_name("samples.json").write_text(json.dumps(content))
    return path


def sections(folder, task, left_out=None):
    import importlib

    report = TaskReport(importlib.import_module(f"reports.{task}"))
    return page(read([folder], left_out), "Samples", left_out or (), {task: report})


@pytest.mark.parametrize(
    ("task", "headings", "words"),
    [
        ("retrieval", {"Recall", "Recall against K", "Retrieved captions"}, {"60.50", "a blue star (31.50)", "at rank 2"}),
        ("captioning", {"All metrics", "Captions"}, {"BLEU-4", "81.25", "CIDEr-D 51.5", "a star �[2J"}),
        ("vqa", {"Accuracy by the number of examples", "Questions and answers"}, {"30.00", "what colour?", "90 %, 4 examples"}),
    ],
)
def test_a_task_has_its_numbers_and_its_images(tmp_path, task, headings, words):
    for method in ("coop", "maple"):
        with_samples(tmp_path, task, method)
    text = sections(tmp_path, task)
    assert headings <= set(re.findall(r"<h2>(.*?)</h2>", text))
    assert all(word in text for word in words), words
    assert text.count('<img src="data:image/png;base64,') == 1  # a random image of both methods is one card
    assert "<dt>coop</dt>" in text
    assert "<dt>maple</dt>" in text
    assert "<script" not in text


def test_markup_in_texts_is_text(tmp_path):
    entry = {"why": "worst", "index": 1} | SAMPLE["vqa"] | {"answer": "<script>alert(1)</script>"}
    with_samples(tmp_path, "vqa", samples=[entry])
    text = sections(tmp_path, "vqa")
    assert "worst of coop" in text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": "../../secret.png"}, "leads out of its folder"),
        ({"image": "samples/large.png"}, "200 x 200"),
        ({"image": "samples/link.png"}, "link"),
        ({"image": "samples/text.png"}, "cannot be shown"),
        ({"image": 5}, "not text"),
        ({"why": "because"}, "none of random, best, worst"),
        ({"index": -1}, "not an integer"),
        ({"accuracy": 1e9}, "not a number from 0"),
        ({"answer": "x" * 5000}, "at most 2,000"),
        ({"answers": "red"}, "not a list"),
    ],
)
def test_what_no_run_writes_is_left_out_and_said_so(tmp_path, change, said):
    outputs = tmp_path / "outputs"
    path = with_samples(outputs, "vqa", samples=[{"why": "best", "index": 0, **SAMPLE["vqa"], **change}])
    folder = path.parent / "samples"
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    Image.new("RGB", (200, 200)).save(folder / "large.png")
    os.symlink(tmp_path / "secret.png", folder / "link.png")
    (folder / "text.png").write_text("no picture")
    left_out = []
    text = sections(outputs, "vqa", left_out)
    assert len(left_out) == 1
    assert said in left_out[0]
    assert left_out[0].startswith(f"Without its samples: {path.with_name('samples.json')}")
    assert "50.0" in text  # the figures stay
    with pytest.raises(ValueError, match=re.escape(str(path.with_name("samples.json")))):
        read_samples(path.with_name("samples.json"), "test")


def test_numbers_within_numbers_have_both_names():
    metrics = {"cider_d": 1, "domains": {"in-domain": {"cider_d": 2.5, "images": 3}}, "flag": True, "names": ["a"], "images": 3}
    assert numbers(metrics) == {"cider_d": 1.0, "domains in-domain cider_d": 2.5}
