"""Arbitrary data for every reader of stored values: the result is a well-typed value, or a ValueError in one sentence."""

import json
from types import NoneType

import pytest
import torch
from arbitrary import JSON, TEXTS, dump, few, in_one_sentence
from fakes import put
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from safetensors.torch import save_file
from strangers import valid
from toys import toy_clip

from lightning_modules.checkpoints import read_prompts
from prompts.coop import CoOp
from prompts.dpl import DPL
from prompts.learner import TrainInfo
from prompts.parts.dpl_picture import heat_maps
from prompts.parts.prompt_lengths import MOST, read_lengths, read_search
from prompts.parts.transfer import rows_for
from prompts.prompted_clip import PromptedCLIP
from reports import render
from reports.collect import make_group, read_run
from reports.settings import labelled
from reports.tables import tables
from runs.arguments import fits
from runs.stored import leaves, method_settings, take_over

METHOD = OmegaConf.create(
    {
        "templates": {"a": 1},
        "name": "x",
        "method": {
            "_target_": "prompts.rpp.RPP",
            "n_text": 4,
            "init": None,
            "teacher": {"_partial_": True},
            "kd_weight": 1.0,
            "prompt_lengths": None,
            "qkv_share": "unshared",
            "num_sampled_classes": None,
            "follows": "${name}",
            "mine": [1],
        },
    }
)


@few
@given(st.dictionaries(st.sampled_from([*METHOD.method, "other"]), JSON, max_size=3) | st.dictionaries(TEXTS, JSON, max_size=2))
def test_settings_of_a_method(stored):
    accepted = in_one_sentence(method_settings, METHOD.method, stored, "the settings")
    if accepted is None:
        return
    assert set(accepted) <= set(METHOD.method) - {"_target_", "teacher", "follows"}
    assert "${" not in str(accepted)
    # RPP has no parameter kd_weight, so that its value is compared with the yaml's, where null is of any kind
    for key, kind in (("n_text", int), ("kd_weight", (int, float, NoneType)), ("qkv_share", str)):
        assert key not in accepted or (isinstance(accepted[key], kind) and not isinstance(accepted[key], bool))


@few
@given(st.dictionaries(st.sampled_from(["templates", "name", "method"]), JSON | st.dictionaries(TEXTS, JSON), max_size=3))
def test_a_config_takes_plain_values_alone(stored):
    cfg = OmegaConf.create(OmegaConf.to_container(METHOD))
    in_one_sentence(take_over, cfg, stored, "the result")
    assert cfg.method._target_ == "prompts.rpp.RPP"
    assert [value for value in leaves(OmegaConf.to_container(cfg)) if isinstance(value, str) and "${" in value] == ["${name}"]


def test_types_of_a_signature():
    assert fits(1, float)
    assert not fits(True, int)
    assert not fits(True, float)
    assert not fits(1, bool)
    assert not fits([1], str | dict[str, int])
    assert fits({"a": 1}, str | dict[str, int])


@few
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("classnames", "own_classes", "settings", "seed", "method"), JSON)))
def test_what_prompts_say(tmp_path_factory, about):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    save_file({"ctx": torch.zeros(1)}, path, {"about": json.dumps(about)})
    saved = in_one_sentence(read_prompts, path)
    if saved is not None:
        assert all(isinstance(name, str) and name for name in saved.classnames([]))
        assert isinstance(saved.about["settings"], dict)


@few
@given(JSON | st.fixed_dictionaries({"text": JSON, "image": JSON}, optional={"options": JSON, "alphas": JSON, "more": JSON}))
def test_prompt_lengths(tmp_path_factory, content):
    path = dump(tmp_path_factory.getbasetemp() / "dpl.json", content)
    accepted = in_one_sentence(read_lengths, path)
    if accepted is not None:
        assert all(type(n) is int and 0 <= n <= MOST for n in accepted.text + accepted.image)
        assert set(read_search(path)) <= {"text", "image", "options", "alphas"}


LENGTHS = {"text": [0, 2], "image": [2]}
FOUND = {"options": [0, 2], **LENGTHS, "alphas": {"text": [[0.5, 0.5], [0.1, 0.2]], "image": [[0, 1]]}}


@pytest.mark.parametrize(
    "change",
    [
        {"text": [1] * 1001},
        {"text": [10**6]},
        {"text": [True]},
        {"options": None},
        {"options": [0, 2, 2]},
        {"options": [0, 4]},
        {"options": ["a", "b"]},
        {"alphas": []},
        {"alphas": {"text": [[0, 1], [1, 0]]}},
        {"alphas": {"text": [[0, 1]], "image": [[0, 1]]}},
        {"alphas": {"text": [[0, 1], [0]], "image": [[0, 1]]}},
        {"alphas": {"text": [[0, 1], ["a", 0]], "image": [[0, 1]]}},
        {"alphas": {"text": [[0, 1], [1e300, 0]], "image": [[0, 1]]}},
    ],
)
def test_what_a_search_left_fits_together(tmp_path, change):
    heat_maps(read_search(dump(tmp_path / "dpl.json", FOUND | {"extra": "<b>"})))
    with pytest.raises(ValueError, match="prompt lengths|options|alphas"):
        DPL(str(dump(tmp_path / "dpl.json", FOUND | change)))


def places(node, at=()):
    """Every place in a result, as a path of keys."""
    yield at
    for key, child in node.items() if isinstance(node, dict) else enumerate(node[:1]) if isinstance(node, list) else ():
        yield from places(child, (*at, key))


@few
@given(st.sampled_from(sorted(places(valid()), key=str)), JSON)
def test_a_result_with_anything_anywhere(tmp_path_factory, place, value):
    result = valid()
    if place:
        node = result
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
    path = dump(tmp_path_factory.getbasetemp() / "result.json", result if place else value)
    run = in_one_sentence(read_run, path, None)
    if run is not None:
        accepted = tables(labelled([make_group(run.result["digest"], {run.result["seed"]: run})]))
        assert render.to_latex(accepted, 1)
        assert not any(character in render.to_markdown(accepted, 1) for character in "<\x1b")
        assert render.to_csv(accepted)


def test_a_long_setting_is_cut_in_a_label(tmp_path):
    from reports.collect import read

    for at in range(2):
        put(tmp_path, digest=f"d{at}", config={"method": {"templates": [f"{at} a photo of a {{}}."] * 400}})
    assert all(len(group.label) < 200 for group in read([tmp_path]))


@pytest.mark.parametrize(
    ("stream", "given"),
    [
        ("", {"q": torch.ones(1, 2), "v": torch.ones(1, 2)}),
        ("", {"q": torch.ones(1, 2), "k": torch.ones(1, 2)}),
        ("", {"k": torch.ones(2, 2), "v": torch.ones(3, 2)}),
        ("k", {"q": torch.ones(1, 2), "v": torch.ones(1, 2)}),
    ],
)
def test_streams_that_are_not_all_there(stream, given):
    with pytest.raises(ValueError, match="init_from holds the streams"):
        rows_for(stream, given)


def test_a_context_that_fits_no_text_takes_no_memory(monkeypatch):
    """Settings of saved prompts may say so: for a thousand classes it would be 60 GB with ViT-B."""
    model = PromptedCLIP(toy_clip(), CoOp(n_ctx=30_000, init=None, class_context=True))
    monkeypatch.setattr(torch, "randn", lambda *size: pytest.fail(f"{size} random numbers"))
    with pytest.raises(ValueError, match="30,?000|context"):
        model.setup(TrainInfo([f"class {i}" for i in range(50)], num_images=0, fit=False))
