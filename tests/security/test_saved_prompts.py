"""Settings of saved prompts and of results, made by a stranger: nothing in them runs, resolves or reads the environment."""

import json
import sys

import pytest
from safetensors.torch import load_file, save_file
from toys import NAMES, TESTS, toy_clip

from lightning_modules import launch
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


def save(folder, method, settings, **about):
    make, own, _ = MADE[method]
    model = PromptedCLIP(toy_clip(), make())
    model.setup(TrainInfo(NAMES, 4, fit=False))
    own = own | settings
    save_prompts(folder / PROMPTS, model, {"method": method, "clip": "toy", "settings": own, "shots": 4, "seed": 1, **about})
    return folder


@pytest.mark.parametrize("method", MADE)
def test_settings_run_nothing_and_read_no_environment(run_here, tmp_path, monkeypatch, capsys, method):
    monkeypatch.setenv("SECRET", SECRET)
    harm = tmp_path / "harm"
    for at, payload in enumerate(payloads(harm)):
        for key in MADE[method][2]:
            folder = save(tmp_path / f"{at}{key}", method, {key: payload})
            try:
                run_here(f"method={method}", "fit=false", f"ckpt={folder}", "shots=4")
            except Exception as error:
                assert SECRET not in str(error), (key, payload)
                message = launch.told(error)
                assert message is not None, (key, payload, error)
                assert "an interpolation" in message
                assert len(message.splitlines()) == 1
            else:
                pytest.fail(f"{key}={payload} was taken")
            assert not harm.exists(), (key, payload)
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    assert not any(SECRET in path.read_text() for path in tmp_path.rglob("result.json"))


@pytest.mark.parametrize("method", MADE)
def test_honest_settings_are_taken(run_here, tmp_path, method):
    assert run_here(f"method={method}", "fit=false", f"ckpt={save(tmp_path / 'good', method, {})}", "shots=4")["metrics"]


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
def test_settings_of_another_type_are_refused_in_a_sentence(run_here, tmp_path, method, settings):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - each has a sentence of its own
        run_here(f"method={method}", "fit=false", f"ckpt={save(tmp_path / 'bad', method, settings)}")
    message = launch.told(caught.value)
    assert message is not None
    assert len(message.splitlines()) == 1
    assert next(iter(settings)) in message


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
def test_what_prompts_say_about_themselves_is_typed(run_here, tmp_path, key, value):
    folder = save(tmp_path / "bad", "coop", {})
    about = json.loads(json.dumps({"classnames": NAMES, "own_classes": None, "method": "coop", "clip": "toy", "settings": {}}))
    tensors = load_file(folder / PROMPTS)
    save_file(tensors, folder / PROMPTS, {"about": json.dumps(about | {key: value})})
    with pytest.raises(ValueError, match=key) as caught:
        run_here("method=coop", "fit=false", f"ckpt={folder}")
    assert launch.told(caught.value) is not None


@pytest.mark.parametrize("about", ["[" * 100_000, "{", '{"a": 1, "a": 2}', '{"seed": ' + 5000 * "9" + "}", "[]", "null", "NaN"])
def test_metadata_that_is_no_description(run_here, tmp_path, about):
    folder = save(tmp_path / "bad", "coop", {})
    save_file(load_file(folder / PROMPTS), folder / PROMPTS, {"about": about})
    with pytest.raises(ValueError, match="is no prompts file"):
        run_here("method=coop", "fit=false", f"ckpt={folder}")


# ---------------------------------------------------------------- insight on a stranger's folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of an honest evaluation."""
    from lightning_modules import jobs

    folder = tmp_path_factory.mktemp("finished")
    saved = save(folder / "prompts", "coop", {})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        import run as entry

        groups = ["clip=toy", "data=toy", "method=coop", "trainer=cpu", "callbacks=none", "logger=none", "shots=4"]
        search = f"hydra.searchpath=[file://{TESTS / 'conf'}]"
        entry.run(*jobs.compose_job([search, *groups, "fit=false", f"ckpt={saved}"], TESTS.parent / "conf"))
    (result,) = folder.rglob("result.json")
    return result.parent


@pytest.fixture
def insight(finished, tmp_path, monkeypatch, capsys):
    def call(change):
        result = json.loads((finished / "result.json").read_text())
        change(result)
        folder = tmp_path / "stranger"
        folder.mkdir(exist_ok=True)
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "predictions.npz").write_bytes((finished / "predictions.npz").read_bytes())
        command = ["insight", str(folder), "--only", "words", "calibration", "--config-dir", str(TESTS / "conf")]
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
    for payload in payloads(harm):

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
        {"+hydra.callbacks.x": "{_target_: os.mkdir, path: HARM}"},
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
    if "+hydra.callbacks.x" not in names:  # which is no group, and not read
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
