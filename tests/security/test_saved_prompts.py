"""Saved prompts that a stranger made: nothing in them runs, resolves or reads the environment."""

import json
from contextlib import suppress
from copy import deepcopy

import pytest
from safetensors.torch import load_file, save_file
from strangers import MADE, SECRET, composed, payloads, save
from toys import NAMES

import run as entry
from lightning_modules.checkpoints import PROMPTS
from runs import launch


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
    message = launch.error_message(caught.value)
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
            output = ""
            with suppress(Exception):  # whatever it is: what matters is what it did
                output = refused(evaluate, method, folder)
            assert not harm.exists(), (key, payload)
            assert "an interpolation" in output, (key, payload)
            assert SECRET not in output
    with pytest.raises(ValueError, match="an interpolation"):  # and through the command line
        run_here(f"method={method}", "fit=false", f"ckpt={folder}")
    output = capsys.readouterr()
    assert SECRET not in output.out + output.err
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
        ("dpl_search", {"lengths": "0246"}),
        ("dpl_search", {"lengths": [0, "2"]}),
        ("dpl", {"kd_weight": "1.0"}),
        ("rpp", {"residual_source": "2"}),
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
        ("category_ids", {"cat": 1}),
        ("category_ids", [1]),
        ("category_ids", [1, 2, 3, 4, -5]),
        ("category_ids", [1, 2, 3, 4, True]),
        ("category_ids", [1, 2, 3, 4, 4]),
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
