"""Settings of saved prompts and of results, made by a stranger: nothing in them runs, resolves or reads the environment."""

import json
import sys
from contextlib import suppress
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from toys import NAMES, ROOT, TESTS, toy_clip

import run as entry
from lightning_modules import jobs, launch
from lightning_modules.checkpoints import PROMPTS, save_prompts
from lightning_modules.insight.__main__ import main
from prompts.coop import CoOp
from prompts.dpl import DPL
from prompts.learner import PromptedCLIP, TrainInfo
from prompts.maple import MaPLe
from prompts.rpp import RPP

SECRET = "open-sesame-4711"
LENGTHS = {"text": [1, 1], "image": [1, 0]}
MADE = {
    "coop": (lambda: CoOp(n_ctx=2), {"n_ctx": 2, "init": None}, ("init", "position")),
    "maple": (lambda: MaPLe(n_ctx=2, depth=2), {"n_ctx": 2, "depth": 2, "init": None}, ("init", "prompt_lengths")),
    "dpl": (
        lambda: DPL("train", prompt_lengths=LENGTHS),
        {"phase": "train", "prompt_lengths": LENGTHS},
        ("template", "lengths"),
    ),
    "rpp": (
        lambda: RPP(2, 2, 2, 2),
        {"n_text": 2, "n_image": 2, "depth_text": 2, "depth_image": 2, "init": None},
        ("teacher", "init"),
    ),
}


def payloads(harm):
    call = f"${{oc.create:{{_target_: os.mkdir, path: {harm}}}}}"
    yield from (call, [call], {"text": call}, {"text": [call], call: 1})
    yield from ("${oc.env:SECRET}", ["${oc.env:SECRET}"], {"image": "a ${oc.env:SECRET}"})


@cache
def model_of(method):
    model = PromptedCLIP(toy_clip(), MADE[method][0]())
    model.setup(TrainInfo(NAMES, 4, fit=False))
    return model


def save(folder, method, settings, **about):
    own = MADE[method][1] | settings
    about = {"method": method, "clip": "toy", "settings": own, "shots": 4, "seed": 1, **about}
    save_prompts(folder / PROMPTS, model_of(method), about)
    return folder


@cache
def composed(method):
    groups = ["clip=toy", "data=toy", "trainer=cpu", "callbacks=none", "logger=none", "fit=false", "shots=4", "ckpt=x"]
    search = f"hydra.searchpath=[file://{TESTS / 'conf'}]"
    return jobs.compose_job([search, *groups, f"method={method}"], ROOT / "conf")


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """`python run.py fit=false ckpt=FOLDER`, composed once for each method, which takes the most time."""
    monkeypatch.chdir(tmp_path)

    def run(method, folder):
        cfg, names = deepcopy(composed(method))
        cfg.ckpt = str(folder)
        return entry.run(cfg, names)

    return run


def refused(call, *arguments):
    """The sentence of a mistake, as the command would show it."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - a bug is an error of any kind
        call(*arguments)
    message = launch.told(caught.value)
    assert message is not None, f"a traceback: {caught.value!r}"
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("method", MADE)
def test_settings_run_nothing_and_read_no_environment(evaluate, run_here, tmp_path, monkeypatch, capsys, method):
    monkeypatch.setenv("SECRET", SECRET)
    harm = tmp_path / "harm"
    for at, payload in enumerate(payloads(harm)):
        for key in MADE[method][2]:
            folder = save(tmp_path / f"{at}{key}", method, {key: payload})
            said = ""
            with suppress(Exception):  # whatever it is: what matters is what it did
                said = refused(evaluate, method, folder)
            assert not harm.exists(), (key, payload)
            assert "an interpolation" in said, (key, payload)
            assert SECRET not in said
    with pytest.raises(ValueError, match="an interpolation"):  # and through the command line
        run_here(f"method={method}", "fit=false", f"ckpt={folder}")
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    assert not any(SECRET in path.read_text() for path in tmp_path.rglob("result.json"))


@pytest.mark.parametrize("method", MADE)
def test_honest_settings_are_taken(evaluate, tmp_path, method):
    assert evaluate(method, save(tmp_path / "good", method, {}))["metrics"]["test"]["images"] == 35


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("coop", {"n_ctx": "2"}),
        ("coop", {"n_ctx": True}),
        ("coop", {"n_ctx": 2.0}),
        ("coop", {"n_ctx": None}),
        ("coop", {"n_ctx": 10**9}),
        ("coop", {"init": 5}),
        ("coop", {"init": ["a"]}),
        ("coop", {"init": "a\x1b[2J"}),
        ("coop", {"init": "\ud800"}),
        ("coop", {"position": "behind"}),
        ("coop", {"class_context": 1}),
        ("maple", {"prompt_lengths": [1, 2]}),
        ("maple", {"prompt_lengths": {"text": [10**9, 1], "image": [1, 1]}}),
        ("maple", {"prompt_lengths": {"text": "ab", "image": [1, 1]}}),
        ("maple", {"prompt_lengths": "~nobody-of-this-name/" + 300 * "x"}),
        ("dpl", {"lengths": "0246"}),
        ("dpl", {"lengths": [0, "2"]}),
        ("rpp", {"kd_weight": "1.0"}),
        ("rpp", {"correction_log_base": "2"}),
    ],
)
def test_settings_of_another_type_are_refused_in_a_sentence(evaluate, tmp_path, method, settings):
    message = refused(evaluate, method, save(tmp_path / "bad", method, settings))
    assert next(iter(settings)) in message.replace("prompt lengths", "prompt_lengths")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classnames", None),
        ("classnames", []),
        ("classnames", "cat"),
        ("classnames", ["cat", 5]),
        ("classnames", ["cat", ""]),
        ("classnames", ["a\x1b]0;x\x07"]),
        ("own_classes", "cat"),
        ("own_classes", [None]),
        ("settings", []),
        ("settings", "a"),
        ("seed", "<script>"),
        ("shots", 1.5),
        ("method", ["coop"]),
        ("clip", None),
    ],
)
def test_what_prompts_say_about_themselves_is_typed(evaluate, tmp_path, key, value):
    folder = save(tmp_path / "bad", "coop", {})
    about = {"classnames": NAMES, "own_classes": None, "method": "coop", "clip": "toy", "settings": {}}
    save_file(load_file(folder / PROMPTS), folder / PROMPTS, {"about": json.dumps(about | {key: value})})
    assert key in refused(evaluate, "coop", folder)


@pytest.mark.parametrize("about", ["[" * 100_000, "{", '{"a": 1, "a": 2}', '{"seed": ' + 5000 * "9" + "}", "[]", "null", "NaN"])
def test_metadata_that_is_no_description(evaluate, tmp_path, about):
    folder = save(tmp_path / "bad", "coop", {})
    save_file(load_file(folder / PROMPTS), folder / PROMPTS, {"about": about})
    assert "is no prompts file" in refused(evaluate, "coop", folder)


# ---------------------------------------------------------------- insight on a stranger's folder


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
        return launch.guarded(main), capsys.readouterr()

    return call


def test_an_honest_folder_is_read(insight):
    status, said = insight(lambda result: None)
    assert (status, said.err) == (0, "")
    assert "as result.json says: " not in said.out


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

        status, said = insight(change)
        assert SECRET not in said.out + said.err
        assert not harm.exists()
        assert status == 1
        assert said.err.startswith("error: ")
        assert len(said.err.splitlines()) == 1
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
    status, said = insight(lambda result: result["names"].update(names))
    assert not (tmp_path / "harm").exists()
    assert SECRET not in said.out + said.err
    assert status == 1
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("error: ")


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
    status, said = insight(lambda result: result["config"].update(config))
    assert status == 1
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("error: ")
    assert "\x1b" not in said.err


def test_the_screen_says_which_places_a_result_names(insight):
    status, said = insight(lambda result: result["config"].update(data_root="/some/where", data_index="/etc/write-here"))
    assert status == 0
    assert "as result.json says: data_root=/some/where" in said.out
    assert "write-here" not in said.out


@pytest.mark.parametrize("name", ["../../../x", "/etc/x", ".hidden", "a\\b"])
def test_evaluations_name_no_path(insight, name):
    status, said = insight(lambda result: result["metrics"].update({name: result["metrics"]["test"]}))
    assert status == 1
    assert "no name of a dataset" in said.err


def arrays(images, pred=0, confidence=0.5):
    label = np.arange(images) % 5
    return {"pred": np.full(images, pred), "label": label, "confidence": np.full(images, confidence, np.float16)}


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (arrays(35, pred=5), "class number"),
        (arrays(35, confidence=0.0), "no image that could be read"),
        (arrays(35, confidence=2.0), "between 0 and 1"),
        (arrays(40), "not of the images that are here"),
        (arrays(35) | {"pred": np.array([print], object)}, "no list of the numbers"),
    ],
)
def test_predictions_that_are_none(insight, stored, told):
    status, said = insight(lambda result: None, stored, ["calibration", "images"])
    assert status == 1
    assert told in said.err
    assert len(said.err.splitlines()) == 1
