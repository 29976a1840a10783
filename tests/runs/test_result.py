"""The schema of result.json: what version 1 holds, and what it makes of version 0."""

import json
import subprocess
import sys
from copy import deepcopy

import pytest
from toys import ROOT

from runs.result import VERSION, load_result, targets

NAMES = {"method": "coop", "data": "shapes", "clip": "tiny", "protocol": "mine"}
FIGURE = {"key": "recall", "title": "recall at 1", "unit": "%", "higher_is_better": True}
RESULT = {
    "version": 1,
    "task": "retrieval",
    "digest": "d",
    "names": NAMES,
    "seed": 1,
    "shots": 16,
    "figure": FIGURE,
    "metrics": {"text": {"recall": 40.0, "at": {"5": 70.0}, "images": 10}, "image": {"recall": 60.0}},
    "summary": {"R": {"function": "harmonic_mean", "evaluations": ["text", "image"], "value": 48.0}},
    "stages": [{"text": 50.0}],
    "config": {"targets": {}},
}
OLD = {
    "digest": "d",
    "names": NAMES,
    "seed": 1,
    "shots": 16,
    "metrics": {"base": {"accuracy": 40.0}, "new": {"accuracy": 60.0}},
}


def write(folder, result):
    path = folder / "result.json"
    path.write_text(json.dumps(result))
    return path


def changed(key, value):
    result = deepcopy(RESULT)
    node, keys = result, key.split(".")
    for part in keys[:-1]:
        node = node[int(part) if isinstance(node, list) else part]
    node[keys[-1]] = value
    return result


def test_a_result_of_another_task_is_read_as_it_stands(tmp_path):
    assert load_result(write(tmp_path, RESULT)) == RESULT


WRONG = [
    *(("version", value) for value in (2, -1, True, "1", None)),
    *(("task", value) for value in ("", 5, None)),
    *(("figure", value) for value in (None, [], {}, FIGURE | {"higher_is_better": 1}, FIGURE | {"unit": 5})),
    *(("figure.key", value) for value in ("absent", "at", [])),
    *(("metrics.text.recall", value) for value in ("40", None, 1e300, True)),
    *(("metrics.text.at", value) for value in ({"5": 10**20}, {"": 1})),
    ("metrics.text.images", 0),
    ("metrics.text.other", 1e300),
    *(("summary", value) for value in (None, [], {"R": 5}, {"text": RESULT["summary"]["R"]})),
    *(("summary.R.function", value) for value in ("median", "__import__", None, ["mean"])),
    *(("summary.R.evaluations", value) for value in ([], ["absent"], "text", [["text"]])),
    *(("summary.R.value", value) for value in (None, "48", 1e300)),
    *(("stages", value) for value in (None, {}, [5], [{"text": None}], [{"text": 1e300}], [{"": 5.0}])),
    ("config", {"targets": ["text"]}),
    ("history", [{"epoch": 1, "text": {"accuracy": 50.0}}]),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=[f"{key}={value!r}"[:50] for key, value in WRONG])
def test_what_no_run_writes_is_refused(tmp_path, key, value):
    with pytest.raises(ValueError, match=f"{tmp_path}/result.json") as caught:
        load_result(write(tmp_path, changed(key, value)))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("key", ["task", "figure", "summary", "stages"])
def test_version_1_says_all_of_it(tmp_path, key):
    with pytest.raises(ValueError, match=f"has no {key}"):
        load_result(write(tmp_path, {k: v for k, v in RESULT.items() if k != key}))


def test_a_later_version_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="is of version 2, and this project reads results up to version 1: read it with"):
        load_result(write(tmp_path, RESULT | {"version": 2}))


def test_a_summary_that_cannot_be_computed_is_refused(tmp_path):
    negative = changed("metrics.text.recall", -5.0)
    with pytest.raises(ValueError, match="numbers of 0 or more"):
        load_result(write(tmp_path, negative))
    never_learned = {"F": {"function": "forgetting", "evaluations": ["image"], "value": 0.0}}
    with pytest.raises(ValueError, match="an earlier stage"):
        load_result(write(tmp_path, RESULT | {"summary": never_learned}))


def test_version_0_gets_its_task_figure_and_summaries(tmp_path):
    upgraded = load_result(write(tmp_path, OLD | {"task": "a stranger's word"}))
    assert (upgraded["version"], upgraded["task"], upgraded["stages"]) == (VERSION, "classification", [])
    assert upgraded["figure"] == {"key": "accuracy", "title": "accuracy", "unit": "%", "higher_is_better": True}
    assert upgraded["summary"] == {"H": {"function": "harmonic_mean", "evaluations": ["base", "new"], "value": 48.0}}


def test_version_0_averages_the_targets_of_its_config(tmp_path):
    metrics = {name: {"accuracy": value} for name, value in (("shapes", 90.0), ("digits", 30.0), ("dark", 50.0))}
    old = OLD | {"metrics": metrics, "config": {"targets": {"digits": {}, "dark": {}, "absent": {}}}}
    upgraded = load_result(write(tmp_path, old))
    assert upgraded["summary"] == {"average": {"function": "mean", "evaluations": ["digits", "dark"], "value": 40.0}}
    assert targets(upgraded) == ["digits", "dark"]


@pytest.mark.parametrize("name", ["H", "average"])
def test_version_0_with_an_evaluation_of_a_summarys_name(tmp_path, name):
    old = OLD | {"metrics": OLD["metrics"] | {name: {"accuracy": 1.0}}, "config": {"targets": {"new": {}}}}
    assert name not in load_result(write(tmp_path, old))["summary"]


def test_reading_a_result_imports_no_torch():
    code = "import sys, runs.result; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
