"""Runs that train a part of the CLIP: what moves, what is saved, and that all of it comes back."""

import json
import signal

import pytest
import torch
from safetensors.torch import save
from small_runs import SGD, trainer
from test_checkpoints import StopAt
from toys import ToySource, other_clip, toy_clip

from datamodules.module import FewShotData
from lightning_modules.checkpoints import ABOUT, PROMPTS, TRAINED, begin_from, check_backbone, read_prompts, save_prompts
from lightning_modules.classification import Classification
from prompts.coop import CoOp
from prompts.engine.trainable import PREFIX
from prompts.kgcoop import KgCoOp
from prompts.learner import TrainInfo
from prompts.parts.teacher import Teacher
from prompts.prompted_clip import PromptedCLIP
from prompts.zeroshot import ZeroShot
from runs.jobs import LAST
from runs.signals import Interrupted

BOTH = {"image": {"layer_norm": 0.1}, "text": {"last_1_block": 0.5, "bias": 1}}


def parts(trainable=None, learner=None, epochs=2, **options):
    clip = toy_clip(trainable, **options)
    data = FewShotData("toy", ToySource(), clip.image_spec, shots=4, seed=1, subset="base", batch_size=4, eval_batch_size=4)
    torch.manual_seed(0)
    model = PromptedCLIP(clip, learner or CoOp(n_ctx=2))
    model.setup(TrainInfo(data.classnames, len(data.train_items)))
    return model, Classification(model, data, SGD, epochs, 1, [data.evaluation("base", "test", "base")])


def fitted(trainable, **options):
    model, module = parts(trainable)
    trainer(2, **options).fit(module)
    return model, module


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("trainable", ["layer_norm", "bias", {"image": "last_1_block"}, {"text": "all"}, "all", BOTH])
def test_what_is_named_moves_and_nothing_else(trainable):
    model, module = fitted(trainable)
    before, trained = toy_clip().model.state_dict(), model.clip.trained_tensors()
    moved = {name for name, t in model.clip.model.state_dict().items() if not torch.equal(t, before[name])}
    assert moved <= set(trained)
    still = {name for name in set(trained) - moved if "in_proj_bias" not in name}
    assert not still
    assert set(module.trainable) == {f"clip.model.{name}" for name in trained} | {"learner.ctx"}


def test_without_it_nothing_of_the_clip_is_trained_or_saved(tmp_path):
    model, module = fitted(None)
    assert equal(model.clip.model, toy_clip().model)
    assert set(module.state_dict()) == {"model.learner.ctx"}
    save_prompts(tmp_path / PROMPTS, model, {})
    saved = read_prompts(tmp_path / PROMPTS)
    assert set(saved.tensors) == {"ctx"}
    assert "trained_clip" not in saved.about


def test_rates_are_factors_of_the_learner_s():
    _, module = parts(BOTH)
    rates = [group["lr"] for group in module.configure_optimizers().param_groups]
    assert rates == pytest.approx([0.1, 0.01, 0.05, 0.1])


@pytest.mark.parametrize("batch", [1, 3])
def test_stopped_and_resumed_is_the_same_as_not_stopped(tmp_path, batch):
    whole, reference = fitted(BOTH)
    _, module = parts(BOTH)
    with pytest.raises(Interrupted):
        trainer(2, callbacks=[StopAt(tmp_path, batch, signal.SIGTERM)]).fit(module)
    model, module = parts(BOTH)
    trainer(2).fit(module, ckpt_path=tmp_path / LAST, weights_only=True)
    assert equal(model.clip.model, whole.clip.model)
    assert equal(model.learner, whole.learner)
    assert module.losses == reference.losses


@pytest.mark.parametrize("trainable", [None, BOTH])
def test_saved_prompts_bring_the_trained_tensors_to_a_fresh_clip(tmp_path, trainable):
    model, _ = fitted(BOTH)
    save_prompts(tmp_path / PROMPTS, model, {})
    saved, images = read_prompts(tmp_path / PROMPTS), torch.randn(2, 3, 32, 32)
    assert saved.about["backbone"] == toy_clip().identity == model.clip.identity
    assert saved.about["trained_clip"]["tensors"] == len(saved.of_clip) == len(model.clip.trained_tensors())
    fresh, _ = parts(trainable)
    saved.into(fresh)
    with torch.no_grad():
        assert torch.equal(fresh(images).logits, model(images).logits)
    started, _ = parts(trainable)
    line = begin_from(str(tmp_path), "toy", started, other_clip=False)
    assert PREFIX in line
    assert equal(started.clip.model, model.clip.model)
    assert started.clip.identity == toy_clip().identity
    with pytest.raises(ValueError, match="another CLIP .*: give that CLIP, as the tensors of it that were trained fit"):
        check_backbone(saved, other_clip(), "toy", other_clip=True)


def test_what_a_file_says_of_trained_tensors_is_what_it_holds(tmp_path):
    model, _ = parts("layer_norm")
    save_prompts(path := tmp_path / PROMPTS, model, {})
    saved = read_prompts(path)
    for count, why in (({"tensors": 1, "numbers": 1}, "does not count"), ("all", "does not count"), (None, None)):
        about = {key: value for key, value in saved.about.items() if key != TRAINED} | ({TRAINED: count} if count else {})
        path.write_bytes(save(saved.tensors, {ABOUT: json.dumps(about)}))
        if why:
            with pytest.raises(ValueError, match=why):
                read_prompts(path)
    with pytest.raises(ValueError, match=r"clip\.\S+ is .* in the checkpoint and absent here"):  # they pass for no CLIP's
        read_prompts(path).into(parts()[0])


def test_a_file_s_tensors_that_do_not_fit_are_refused():
    model, _ = parts()
    for name, tensor, why in (
        ("visual.nothing", torch.zeros(1), "visual.nothing of the CLIP is .1,. there and absent here"),
        ("logit_scale", torch.zeros(()), "logit_scale of the CLIP is .* there and absent here"),
        ("visual.proj", torch.full((32, 32), torch.nan), "holds NaN"),
    ):
        with pytest.raises(ValueError, match=why):
            model.load_clip_state({PREFIX + name: tensor})


def test_bf16_computes_in_bf16_and_trains_in_float32():
    _, reference = fitted(BOTH)
    model, module = fitted(BOTH, precision="bf16-mixed")
    before = toy_clip().model.state_dict()
    for name, p in model.clip.trained_tensors().items():
        assert p.dtype == torch.float32
        assert p.isfinite().all()
        assert "in_proj_bias" in name or not torch.equal(p, before[name])
    assert module.losses != reference.losses
    for (a, _), (b, _) in zip(module.losses, reference.losses, strict=True):
        assert a == pytest.approx(b, rel=0.02)
    with pytest.raises(ValueError, match="precision=bf16-true: choose one of"):
        trainer(2, precision="bf16-true")


def test_gradients_do_not_depend_on_what_is_recomputed():
    def gradients(**options):
        model, _ = parts(BOTH, **options)
        model(torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))).logits.square().sum().backward()
        return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}

    once, again = gradients(), gradients(recompute=True, text_rows=8)
    assert once.keys() == again.keys()
    for name, gradient in once.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_text_is_encoded_again_after_every_step_and_once_between():
    model, _ = parts({"text": "layer_norm"})
    images = torch.randn(2, 3, 32, 32)
    model(images).logits.sum().backward()
    with torch.no_grad():
        first = model(images).logits
        count = model.text_encodings
        assert torch.equal(model(images).logits, first)
        assert model.text_encodings == count
        model.clip.model.ln_final.weight.mul_(torch.linspace(0.5, 2, 32))
        assert not torch.equal(model(images).logits, first)


def test_gradients_of_words_in_the_first_block_are_those_of_open_clip():
    clip = toy_clip({"text": "all"})
    model = PromptedCLIP(clip, CoOp(n_ctx=2, init="a photo"))
    model.setup(TrainInfo(["cat", "old dog"], 2))
    model.text_features(torch.randn(1, 32)).square().sum().backward()
    ours = {name: p.grad.clone() for name, p in clip.trained_tensors().items()}
    clip.model.zero_grad()
    tokens = clip.tokenizer(["a photo cat.", "a photo old dog."])
    clip.model.encode_text(tokens).square().sum().backward()
    name = "transformer.resblocks.0.attn.in_proj_weight"
    torch.testing.assert_close(ours[name], clip.trained_tensors()[name].grad, rtol=1e-3, atol=1e-4)


def test_methods_that_need_the_clip_as_it_was_are_refused():
    with pytest.raises(ValueError, match="clip.trainable trains the CLIP, but ZeroShot needs it as it was loaded"):
        parts("bias", learner=ZeroShot())
    with pytest.raises(ValueError, match="KgCoOp needs it as it was loaded"):
        parts("bias", learner=KgCoOp())
    trained = {PREFIX + name: p.detach() for name, p in toy_clip("layer_norm").trained_tensors().items()}
    for learner in (ZeroShot(), KgCoOp()):  # that of a file, either
        model, _ = parts(learner=learner)
        with pytest.raises(ValueError, match="these prompts bring a CLIP that was trained with them, but"):
            model.load_clip_state(trained)
        assert equal(model.clip.model, toy_clip().model)
    with pytest.raises(ValueError, match="own teacher"):
        Teacher().bind(toy_clip("bias"), ["cat"])
    teacher = Teacher(make=lambda: toy_clip("bias"))
    teacher.bind(toy_clip(), ["cat"])
    with pytest.raises(ValueError, match="a teacher is frozen"):
        teacher.text()


@pytest.mark.parametrize(
    ("trainable", "why"),
    [
        ("foo", "clip.trainable='foo' is no part of a tower: give bias, layer_norm"),
        (3, "clip.trainable=3: give bias"),
        ({"audio": "all"}, "'audio': its towers are image and text"),
        ({"image": {"bias": -1}}, "clip.trainable.image.bias=-1: give a factor"),
        ({"image": {"bias": float("nan")}}, "give a factor"),
        ({"text": "last_9_blocks"}, "this CLIP's text tower has 2 blocks"),
        ({"text": "last_0_blocks"}, "this CLIP's text tower has 2 blocks"),
        ({"text": 3}, "clip.trainable.text=3: give"),
        ({"text": {}}, "clip.trainable.text={}: give"),
    ],
)
def test_wrong_values_end_in_a_sentence(trainable, why):
    with pytest.raises(ValueError, match=why):
        toy_clip(trainable)


def test_trained_modules_stay_float32():
    clip = toy_clip({"image": "last_1_block"})
    clip.store_bf16()
    assert all(p.dtype == torch.float32 for p in clip.trained_tensors().values())
    assert clip.model.visual.transformer.resblocks[0].mlp.c_fc.weight.dtype == torch.bfloat16
