import pytest
import torch
import torch.nn.functional as F
from test_methods import NAMES, batch, make, model_of

from prompts.coop import CoOp
from prompts.kgcoop import KgCoOp
from prompts.parts.context import fixed_plan


@pytest.mark.parametrize("loss", ["released", "paper"])
def test_loss_is_coops_and_the_distance_to_the_hand_written_prompts(small_clip, loss):
    methods = make("kgcoop", weight=2.0, templates=["a {}."], loss=loss), CoOp(4, "a photo of a")
    model, coop = (model_of(small_clip, method) for method in methods)
    images, labels = batch()
    out = model(images)
    losses = model.losses(out, labels, torch.arange(8))
    assert torch.equal(losses["ce"], coop.losses(coop(images), labels, torch.arange(8))["ce"])
    target = F.normalize(small_clip.encode_text(fixed_plan(small_clip, NAMES, "a {}.")), dim=-1)
    pairs = [(F.normalize(text, dim=0), other) for text, other in zip(out.text_features, target, strict=True)]
    distances = [((a - b) ** 2).sum() if loss == "paper" else 1 - a @ b for a, b in pairs]
    torch.testing.assert_close(losses["knowledge"], 2 * sum(distances) / 4)


def test_no_distance_where_it_starts_from_the_hand_written_prompt(small_clip):
    model = model_of(small_clip, make("kgcoop", templates=["a photo of a {}."]))
    images, labels = batch()
    term = model.losses(model(images), labels, torch.arange(8))["knowledge"]
    torch.testing.assert_close(term, torch.zeros(()), atol=1e-6, rtol=0)
    assert "a photo of a {}." in model.learner.teacher.templates


def test_another_loss_is_refused():
    with pytest.raises(ValueError, match="method.loss='squared' is none of released, paper"):
        KgCoOp(loss="squared")
