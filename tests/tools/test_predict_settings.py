"""A finished run is opened with the settings that it had; what contradicts them, or has no effect, is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from toys import TESTS, ToySource, only

from tools.classifier import device_for, load, opened

CONF = TESTS / "conf"
IMAGES = [ToySource().open(item) for item in ToySource().splits(1).test]


def open_again(path, *overrides):
    return load(path, overrides, CONF, "cpu")


@pytest.mark.parametrize(
    "settings",
    [
        ['data.templates=["zzz photo of a {} in the dark rain."]'],
        ["method.templates=selected", "data.name=imagenet"],  # which has no templates of its own there
        ['method.dataset_templates=["drawn by hand: a {}."]'],
    ],
)
def test_texts_are_those_of_the_run(run_here, tmp_path, settings):
    run_here("method=zeroshot", *settings)
    prompts = only(tmp_path, "prompts.safetensors")
    stored = np.load(prompts.with_name("predictions.npz"))
    (alone := tmp_path / "alone").mkdir()
    shutil.copy(prompts, alone)
    for path in (prompts.parent, alone):
        found = open_again(path).probabilities(IMAGES).max(1)
        np.testing.assert_allclose(found.values, stored["test/confidence"].astype(float), atol=1e-3)
        assert found.indices.tolist() == stored["test/pred"].tolist()
    run_here("method=zeroshot", "output=plain")
    plain = open_again(only(tmp_path / "plain", "prompts.safetensors")).probabilities(IMAGES).max(1).values
    assert (plain - torch.from_numpy(stored["test/confidence"].astype(np.float32))).abs().max() > 0.01


def test_texts_of_the_data_can_be_set(run_here, tmp_path):
    run_here("method=zeroshot", 'data.templates=["a drawing of a {}."]')
    classifier = open_again(only(tmp_path, "prompts.safetensors"), 'data.templates=["a {}, or not."]')
    assert classifier.model.learner.templates == ["a {}, or not."]


def test_texts_of_strangers_are_plain(run_here, tmp_path):
    run_here("method=zeroshot")
    path = only(tmp_path, "prompts.safetensors")
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
    for templates, said in ((["${oc.env:HOME} {}"], "an interpolation"), ([1], "says templates=")):
        about["settings"]["dataset_templates"] = templates
        save_file({}, tmp_path / "prompts.safetensors", {"about": json.dumps(about)})
        with pytest.raises(ValueError, match=said):
            open_again(tmp_path / "prompts.safetensors")


def test_overrides_that_contradict_or_change_nothing(run_here, tmp_path):
    run_here("method=coop", "shots=1", "epochs=1")
    prompts = only(tmp_path, "prompts.safetensors")
    for override, said in {
        "method.n_ctx=9": "those that the prompts were trained with",
        "clip=rn50": "which clip it is stands in the prompts",
        "shots=4": "shots has no effect here",
        "fit=true": "fit has no effect here",
        "clip.weights": "give KEY=VALUE",
        "=1": "give KEY=VALUE",
        "data.templates=[1": "give KEY=VALUE",
    }.items():
        with pytest.raises(ValueError, match=said):
            open_again(prompts, override)


def test_a_folder_of_configs_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="--config-dir .*nope: there is no such folder"):
        opened(tmp_path, config_dir=tmp_path / "nope")


@pytest.mark.parametrize("device", ["tpu", "meta", "cuda:99", "cpu:x"])
def test_devices_that_are_not_there(device):
    with pytest.raises(ValueError, match=f"--device {device}: there is no such device here"):
        device_for(device)
    assert device_for("cpu") == torch.device("cpu")
