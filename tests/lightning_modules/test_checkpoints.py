import json
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from small_runs import parts, trainer
from toys import toy_clip

from lightning_modules.callbacks import Resumable
from lightning_modules.checkpoints import (
    PROMPTS,
    begin_from,
    check_backbone,
    check_language_model,
    prompts_of,
    read_prompts,
    save_prompts,
)
from runs.jobs import LAST
from runs.signals import Interrupted

NAMES = {"method": "toy", "clip": "toy"}


class StopAt(Resumable):
    """Sends a signal to its own process after some batches."""

    def __init__(self, folder, batch, number):
        super().__init__(folder, every=1e9)
        self.batch, self.number = batch, number

    def on_train_batch_end(self, trainer, *args):
        self.batch -= 1
        if self.batch == 0:
            os.kill(os.getpid(), self.number)
        super().on_train_batch_end(trainer, *args)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("batch", range(1, 9))
def test_stopped_anywhere_and_resumed_is_the_same_as_not_stopped(tmp_path, accumulate, batch):
    data, whole, reference = parts(epochs=3, batch_size=4, vals=batch % 2 == 0)
    trainer(3, accumulate_grad_batches=accumulate).fit(reference)

    data, _, module = parts(epochs=3, batch_size=4, vals=batch % 2 == 0)
    callback = StopAt(tmp_path, batch, signal.SIGTERM if batch % 3 else signal.SIGINT)
    with pytest.raises(Interrupted, match="resumes"):
        trainer(3, accumulate_grad_batches=accumulate, callbacks=[callback]).fit(module)
    assert [path.name for path in tmp_path.iterdir()] == [LAST]

    data, model, module = parts(epochs=3, batch_size=4, vals=batch % 2 == 0)
    trainer(3, accumulate_grad_batches=accumulate).fit(module, ckpt_path=tmp_path / LAST, weights_only=True)
    assert all(torch.equal(p, q) for p, q in zip(model.learner.parameters(), whole.learner.parameters(), strict=True))
    assert module.losses == reference.losses
    assert module.history == reference.history


def test_saves_after_so_many_steps(tmp_path):
    saved = []

    class Noted(Resumable):
        def save_if_due(self, trainer, now=False):
            saved.append((trainer.global_step, now))
            super().save_if_due(trainer, now)

    data, _, module = parts(epochs=2, batch_size=2)  # 6 steps an epoch
    trainer(2, callbacks=[Noted(tmp_path, every=1e9, steps=4)]).fit(module)
    assert [step for step, now in saved if now] == [4, 8, 12]
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == 12


def test_signals_are_handled_as_before_once_training_is_over(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    data, _, module = parts(epochs=1)
    trainer(1, callbacks=[Resumable(tmp_path)]).fit(module)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_the_resume_state_holds_no_frozen_weight_and_no_code(tmp_path):
    data, model, module = parts(epochs=1)
    trainer(1, callbacks=[Resumable(tmp_path)]).fit(module)
    state = torch.load(tmp_path / LAST, weights_only=True)
    assert set(state["state_dict"]) == {"model.learner.down", "model.learner.up"}
    assert (tmp_path / LAST).stat().st_size < 20_000
    _, _, other = parts(epochs=1)
    result = other.load_state_dict(state["state_dict"], strict=False)
    assert not result.unexpected_keys
    assert set(result.missing_keys) == {f"model.clip.{key}" for key in model.clip.state_dict()}
    state["state_dict"]["model.learner.gate"] = state["state_dict"].pop("model.learner.up")
    with pytest.raises(ValueError, match=r"lacks \['model.learner.up'\] and has \['model.learner.gate'\]"):
        other.on_load_checkpoint(state)


def save(path, **about):
    _, model, _ = parts()
    save_prompts(path, model, {"method": "toy", "clip": "toy", "settings": {"rank": 4}, **about})
    return model


def test_saved_prompts_come_back(tmp_path):
    model = save(tmp_path / PROMPTS)
    again = (tmp_path / PROMPTS).read_bytes()
    assert save(tmp_path / PROMPTS) is not model
    assert (tmp_path / PROMPTS).read_bytes() == again  # equal prompts, equal files
    assert [path.name for path in tmp_path.iterdir()] == [PROMPTS]
    for path in (tmp_path, tmp_path / PROMPTS):
        saved = prompts_of(str(path), NAMES)
        assert all(torch.equal(saved.tensors[name], p) for name, p in model.learner.named_parameters())
        assert saved.classnames([]) == model.classnames
        assert saved.about["own_classes"] is None


def test_settings_are_values_of_known_keys_that_the_data_does_not_decide(tmp_path):
    settings = {"rank": 2, "_target_": "os.system", "clip": {"_target_": "os.system"}, "new": 1, "dataset": "a"}
    save(tmp_path / PROMPTS, settings=settings)
    method = OmegaConf.create({"method": {"rank": 4, "_target_": "toys.Toy", "clip": None, "dataset": "${name}"}, "name": "b"})
    assert read_prompts(tmp_path / PROMPTS).settings(method.method) == {"rank": 2}


def test_what_is_no_prompts_file_is_named(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="does not say what it was trained on"):
        read_prompts(path)
    path.write_bytes(b"12345678" * 10)
    with pytest.raises(ValueError, match="damaged"):
        read_prompts(path)
    save_file({}, path, {"about": json.dumps([])[:1]})
    with pytest.raises(ValueError, match="damaged"):
        read_prompts(path)


@pytest.mark.parametrize(
    ("ckpt", "names", "message"),
    [
        (None, NAMES, "name them with ckpt="),
        ("nowhere", NAMES, "there is no nowhere"),
        (".", NAMES | {"method": "coop"}, "trained with method=toy, this run has method=coop: add method=toy"),
    ],
)
def test_prompts_of_another_run_are_refused(tmp_path, monkeypatch, ckpt, names, message):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / PROMPTS)
    with pytest.raises(ValueError, match=message):
        prompts_of(ckpt, names)


def other_clip(model):
    """The model's CLIP with one weight changed."""
    clip = toy_clip()
    clip.model.visual.proj.data[0, 0] += 1
    assert clip.identity != model.clip.identity
    return clip


def test_prompts_of_another_clip_are_refused(tmp_path):
    model = save(tmp_path / PROMPTS)
    saved = prompts_of(str(tmp_path), NAMES)
    assert saved.about["backbone"] == model.clip.identity
    check_backbone(saved, model.clip, "another_name", other_clip=False)  # the same CLIP under whatever name
    other = other_clip(model)
    with pytest.raises(
        ValueError, match=r"trained on another CLIP \(weights '\w{16}' there and '\w{16}' here\): give that CLIP"
    ):
        check_backbone(saved, other, "toy", other_clip=False)
    with pytest.raises(ValueError, match="add clip=toy, or other_clip=true"):
        check_backbone(saved, other, "vit_b16", other_clip=False)
    check_backbone(saved, other, "toy", other_clip=True)

    _, begun, _ = parts()
    begun.clip = other
    with pytest.raises(ValueError, match="trained on another CLIP"):
        begin_from(str(tmp_path), "toy", begun, other_clip=False)


@pytest.mark.parametrize("backbone", [None, "toy", ["x"], {}, {"weights": {"a": "\n" * 9000}}])
def test_prompts_that_do_not_say_their_clip_are_refused(tmp_path, backbone):
    model = save(tmp_path / PROMPTS, backbone=backbone, clip="a toy")
    saved = prompts_of(str(tmp_path), NAMES)
    with pytest.raises(ValueError, match="does not say on which CLIP|trained on another CLIP") as caught:
        check_backbone(saved, model.clip, "toy", other_clip=False)
    assert "other_clip=true" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    check_backbone(saved, model.clip, "toy", other_clip=True)


def test_prompts_of_another_language_model_are_refused(tmp_path):
    """Its rows mean nothing to another; where prompts do not say for which they were trained, too."""
    here = SimpleNamespace(identity={"architecture": "gpt2", "weights": "12", "tokenizer": "34"})
    save(tmp_path / PROMPTS, language_model=here.identity)
    check_language_model(read_prompts(tmp_path / PROMPTS), here)
    for there in (here.identity | {"weights": "99"}, None, {}, "gpt2"):
        save(tmp_path / PROMPTS, language_model=there)
        with pytest.raises(ValueError, match="another language model .*weights .* and '12' here.*lm=NAME"):
            check_language_model(read_prompts(tmp_path / PROMPTS), here)
