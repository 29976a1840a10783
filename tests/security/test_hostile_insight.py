"""insight on the folder of a run that a stranger made: nothing in it runs, resolves or reads the environment."""

import json
import sys
from copy import deepcopy

import numpy as np
import pytest
from strangers import SECRET, composed, payloads, save
from toys import TESTS

import run as entry
from reports.insight.__main__ import main
from reports.insight.finished import TAKEN
from runs import launch


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of an honest evaluation."""
    folder = tmp_path_factory.mktemp("finished")
    cfg, names = deepcopy(composed("coop"))
    cfg.ckpt = str(save(folder / "prompts", "coop", {}))
    cfg.output = str(folder / "outputs")
    entry.run(cfg, names)
    (result,) = folder.rglob("result.json")
    return result.parent


@pytest.fixture
def insight(finished, tmp_path, monkeypatch, capsys):
    def call(change, arrays=None, only=("words", "calibration")):
        result = json.loads((finished / "result.json").read_text())
        change(result)
        folder = tmp_path / "stranger"
        folder.mkdir(exist_ok=True)
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "predictions.npz").write_bytes((finished / "predictions.npz").read_bytes())
        if arrays is not None:
            np.savez(folder / "predictions.npz", **{f"test/{part}": array for part, array in arrays.items()})
        command = ["insight", str(folder), "--only", *only, "--config-dir", str(TESTS / "conf")]
        monkeypatch.setattr(sys, "argv", command)
        return launch.exit_status_of(main), capsys.readouterr()

    return call


def test_an_honest_folder_is_read(insight):
    status, output = insight(lambda result: None)
    assert (status, output.err) == (0, "")
    assert "as result.json says: " not in output.out


@pytest.mark.parametrize("places", [["method", "init"], ["data", "name"], ["data", "source", "x"], ["clip", "model"]])
def test_a_results_config_runs_nothing(insight, tmp_path, monkeypatch, places):
    monkeypatch.setenv("SECRET", SECRET)
    harm = tmp_path / "harm"
    for payload in list(payloads(harm))[::2]:

        def change(result, payload=payload):
            node = result["config"]
            for key in places[:-1]:
                node = node[key]
            node[places[-1]] = payload

        status, output = insight(change)
        assert SECRET not in output.out + output.err
        assert not harm.exists()
        assert status == 1
        assert output.err.startswith("error: ")
        assert len(output.err.splitlines()) == 1
        assert not (tmp_path / "stranger" / "insight").exists()


@pytest.mark.parametrize(
    "names",
    [
        {"+method.x": "{_target_: os.mkdir, path: HARM}"},
        {"../conf/method": "coop"},
        {"method": "coop +callbacks.x._target_=os.mkdir"},
        {"method": "../../method/coop"},
        {"method": "_base"},
        {"data": "toy,shapes"},
        {"data": "${oc.env:SECRET}"},
        {"clip": "{a: b}"},
        {"clip": ""},
        {"protocol": None},
        {"protocol": ["few_shot"]},
    ],
)
def test_names_are_options_that_are_here(insight, tmp_path, monkeypatch, names):
    monkeypatch.setenv("SECRET", SECRET)
    names = {
        key: value.replace("HARM", str(tmp_path / "harm")) if isinstance(value, str) else value for key, value in names.items()
    }
    status, output = insight(lambda result: result["names"].update(names))
    assert not (tmp_path / "harm").exists()
    assert SECRET not in output.out + output.err
    assert status == 1
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("error: ")


@pytest.mark.parametrize(
    "config",
    [
        {"shots": "16"},
        {"shots": True},
        {"seed": [1]},
        {"data_root": 5},
        {"method": {"n_ctx": "two"}},
        {"clip": {"_target_": "os.mkdir"}, "shots": {}},
        {"data": {"templates": "a {}"}},
        {"ckpt": ["a"]},
        {"ckpt": "/nowhere/" + 300 * "x"},
        {"ckpt": "/nowhere\x1b[2J"},
    ],
)
def test_a_results_config_is_typed(insight, config):
    status, output = insight(lambda result: result["config"].update(config))
    assert status == 1
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("error: ")
    assert "\x1b" not in output.err


def test_the_screen_says_which_places_a_result_names(insight):
    status, output = insight(lambda result: result["config"].update(data_root="/some/where", data_index="/etc/write-here"))
    assert status == 0
    assert "as result.json says: data_root=/some/where" in output.out
    assert "write-here" not in output.out


def test_a_run_of_another_task_is_one_sentence(insight):
    figure = {"key": "recall", "title": "recall", "unit": "%", "higher_is_better": True}
    another = {"task": "retrieval", "figure": figure, "metrics": {"test": {"recall": 50.0}}, "summary": {}, "history": []}
    status, output = insight(lambda result: result.update(another))
    assert status == 1
    assert "task=retrieval" in output.err
    assert len(output.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["../../../x", "/etc/x", ".hidden", "a\\b"])
def test_evaluations_name_no_path(insight, name):
    status, output = insight(lambda result: result["metrics"].update({name: result["metrics"]["test"]}))
    assert status == 1
    assert "no name of a dataset" in output.err


def arrays(images, pred=0, confidence=0.5):
    label = np.arange(images) % 5
    return {"pred": np.full(images, pred), "label": label, "confidence": np.full(images, confidence, np.float16)}


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (arrays(35, pred=5), "class number"),
        (arrays(35, confidence=0.0), "no image that could be read"),
        (arrays(35, confidence=2.0), "between 0 and 1"),
        (arrays(40), "not of the images that are here"),
        (arrays(35) | {"pred": np.array([print], object)}, "no list of the numbers"),
    ],
)
def test_predictions_that_are_none(insight, stored, message):
    status, output = insight(lambda result: None, stored, ["calibration", "images"])
    assert status == 1
    assert message in output.err
    assert len(output.err.splitlines()) == 1


def test_the_folder_of_what_insight_writes_is_no_link(insight, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "insight").symlink_to(tmp_path / "outside")
    status, output = insight(lambda result: None)
    assert (status, list((tmp_path / "outside").iterdir())) == (1, [])
    assert "is a link" in output.err


def test_a_result_does_not_say_how_many_images_are_in_memory():
    """All test images at once, in a batch of four billion."""
    assert "eval_batch_size" not in TAKEN
