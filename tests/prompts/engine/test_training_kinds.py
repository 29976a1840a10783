"""Models of every kind learn from the embedded pictures, and give back what they learned."""

import pytest
import torch
from test_every_architecture import clip_of
from test_methods import make

from datamodules.module import FewShotData
from datamodules.shapes import Shapes
from lightning_modules.checkpoints import read_prompts, save_prompts
from lightning_modules.classification import Classification
from lightning_modules.trainer import make_trainer
from prompts.coop import CoOp
from prompts.learner import TrainInfo, sigmoid_loss
from prompts.prompted_clip import PromptedCLIP

SIGLIP, EVA = "ViT-B-16-SigLIP2", "EVA02-B-16"
RUNS = [(name, "coop") for name in (SIGLIP, EVA, "MobileCLIP-S1", "coca_ViT-B-32", "ViT-L-14-worldwide", "RN50")]
RUNS += [(SIGLIP, "maple"), (SIGLIP, "ivlp"), (EVA, "maple"), (EVA, "ivlp"), ("xlm-roberta-base-ViT-B-32", "coop")]


def learner(method, **settings):
    return make(method, **({"n_ctx": 4} if method == "coop" else {}), **settings)


def model_of(clip, method, data, **settings):
    torch.manual_seed(0)
    model = PromptedCLIP(clip, learner(method, **settings))
    model.setup(TrainInfo(data.classnames, len(data.train_items)))
    return model


def data_of(clip):
    return FewShotData("shapes", Shapes(), clip.image_spec, shots=1, seed=1, subset="1/4", batch_size=9, eval_batch_size=9)


@pytest.mark.parametrize(("name", "method"), RUNS)
def test_trains_on_the_embedded_pictures_and_gives_back_its_prompts(name, method, tmp_path):
    clip = clip_of(name)
    data = data_of(clip)
    model = model_of(clip, method, data)
    optimiser = lambda parameters: torch.optim.SGD(parameters, lr=0.01)  # noqa: E731
    module = Classification(model, data, optimiser, 2, 1, [data.evaluation("all", "test", "1/4")], [])
    start = {name: tensor.clone() for name, tensor in model.learner.state_dict().items()}
    make_trainer(devices=1, strategy="auto", max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False).fit(
        module
    )
    assert any(not torch.equal(tensor, start[name]) for name, tensor in model.learner.state_dict().items())
    save_prompts(tmp_path / "prompts.safetensors", model, {"method": method})
    saved, again = read_prompts(tmp_path / "prompts.safetensors"), model_of(clip, method, data)
    assert saved.about["backbone"] == dict(clip.identity)
    again.load_prompt_state(saved.tensors)
    images = torch.randn(2, 3, clip.image_spec["size"], clip.image_spec["size"])
    with torch.no_grad():
        assert torch.equal(again.eval()(images).logits, model.eval()(images).logits)


def test_the_sigmoid_loss_is_that_of_the_paper():
    """-log sigmoid(z (t cos + b)), summed over classes."""
    logits, labels = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]]), torch.tensor([0, 2])
    z = torch.tensor([[1.0, -1, -1], [-1, -1, 1]])
    theirs = -(1 / (1 + (-z * logits).exp())).log().sum(1)
    torch.testing.assert_close(sigmoid_loss(logits, labels), theirs)


@pytest.mark.parametrize("method", ["coop", "cocoop", "maple", "ivlp", "vpt"])
def test_a_sigmoid_model_trains_with_either_loss(method):
    clip = clip_of(SIGLIP)
    data = data_of(clip)
    images, labels = torch.randn(4, 3, clip.image_spec["size"], clip.image_spec["size"]), torch.arange(4)
    softmax, sigmoid = (model_of(clip, method, data, loss=loss) for loss in ("softmax", "sigmoid"))
    out = sigmoid(images)
    assert torch.equal(out.logits, softmax(images).logits)  # evaluation does not depend on the loss
    assert out.logit_bias == clip.model.logit_bias
    losses = sigmoid.losses(out, labels, labels)
    torch.testing.assert_close(losses["sigmoid"], sigmoid_loss(out.logits + clip.model.logit_bias, labels))
    losses["sigmoid"].mean().backward()
    assert all(p.grad.abs().max() > 0 for p in sigmoid.learner.parameters())
    assert set(softmax.losses(softmax(images), labels, labels)) == {"ce"}


def test_the_sigmoid_loss_needs_a_bias():
    clip = clip_of("ViT-B-16")
    with pytest.raises(ValueError, match="loss=sigmoid needs a CLIP that was trained with the sigmoid loss.*softmax"):
        model_of(clip, "coop", data_of(clip), loss="sigmoid")
    with pytest.raises(ValueError, match="method.loss='hinge' is none of softmax, sigmoid"):
        CoOp(loss="hinge")
