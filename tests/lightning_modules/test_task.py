from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from sklearn.metrics import accuracy_score
from small_runs import SGD, fit, parts, trainer
from torch import nn
from toys import NAMES, Toy

from lightning_modules.fitting import fit_on_features
from prompts.zeroshot import ZeroShot


def test_training_is_plain_sgd_with_the_published_rates():
    data, model, module = fit(epochs=2)
    _, other, _ = parts()
    optimizer = SGD(list(other.learner.parameters()))
    loader = data.train_loader()
    for epoch, rate in enumerate([1e-5, 0.1]):
        loader.set_epoch(epoch)
        for batch in loader:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(other(batch["image"]).logits, batch["label"]).backward()
            optimizer.step()
    for ours, plain in zip(model.learner.parameters(), other.learner.parameters(), strict=True):
        assert torch.allclose(ours, plain, atol=1e-6)
        assert ours.dtype == torch.float32


def test_the_first_step_by_hand():
    data, model, module = parts(epochs=1, batch_size=12)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    gradients = {}

    class Look(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            gradients.update({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    trainer(1, callbacks=[Look()]).fit(module)
    assert set(gradients) == {"learner.down", "learner.up"}
    for name, p in model.named_parameters():
        if name in gradients:  # momentum is empty in the first step
            assert torch.allclose(p, before[name] - 1e-5 * (gradients[name] + 5e-4 * before[name]), atol=1e-9)
        else:
            assert torch.equal(p, before[name])
            assert not p.requires_grad
    assert not any(part.training for part in model.clip.model.modules())


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_changes_nothing(accumulate):
    (_, a, one), (_, b, many) = fit(), fit(accumulate=accumulate)
    assert [steps for _, steps in one.losses] == [steps for _, steps in many.losses] == [2, 2, 2]
    assert [total for total, _ in one.losses] == pytest.approx([total for total, _ in many.losses], rel=1e-5)
    for p, q in zip(a.learner.parameters(), b.learner.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-5)


class Pulled(Toy):
    """With a term that does not depend on the batch."""

    def losses(self, out, labels, index):
        return super().losses(out, labels, index) | {"pull": 3.0 + (self.down**2).sum()}


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_term_without_a_batch_counts_once(accumulate):
    _, model, module = fit(epochs=1, accumulate=accumulate, learner=Pulled())
    _, plain_model, plain = fit(epochs=1)
    pull = 3.0 + (parts()[1].learner.down ** 2).sum().item()
    total, steps = module.losses[0]
    assert total / steps == pytest.approx(plain.losses[0][0] / steps + pull, abs=1e-3)


def test_each_evaluation_has_its_class_list_which_is_encoded_once():
    data, model, module = fit(epochs=2)
    before = model.text_encodings
    trainer().test(module, verbose=False)
    assert model.text_encodings == before + 1  # of the new classes: the fixed text of the base classes is known from training
    assert model.classnames == NAMES[:3]  # bound again to what it trains on
    for name in ("base", "new"):
        model.bind(data.class_list(name))
        model.eval()
        labels, predicted = [], []
        for batch in data.eval_loader("test", name):
            with torch.no_grad():
                predicted += model(batch["image"]).logits.argmax(1).tolist()
            labels += batch["label"].tolist()
        assert module.metrics[name]["accuracy"] == pytest.approx(100 * accuracy_score(labels, predicted))
        assert module.metrics[name]["images"] == len(labels) == 7 * len(data.class_list(name))
        assert [row["class"] for row in module.metrics[name]["per_class"]] == data.class_list(name)


def test_evaluating_during_training_does_not_change_it():
    data, model, module = fit(vals=True)
    _, other, _ = fit()
    assert [entry["epoch"] for entry in module.history] == [0, 1, 2]
    assert set(module.history[0]) == {"epoch", "base", "new"}
    assert all(torch.equal(p, q) for p, q in zip(model.learner.parameters(), other.learner.parameters(), strict=True))
    trainer().test(module, verbose=False)
    assert module.history[-1]["new"]["accuracy"] == module.metrics["new"]["accuracy"]


class Broken(Toy):
    def losses(self, out, labels, index):
        return super().losses(out, labels, index) | {"mine": out.logits.sum(1) * float("nan")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learner": Broken()}, r"not finite in epoch 0, step 0 \(mine\): the logits are finite"),
        ({"optimizer": partial(torch.optim.SGD, lr=float("inf"))}, "prompts are not finite any more .*lower optim.lr"),
        ({"optimizer": partial(torch.optim.SGD, lr=1e38)}, "the logits are not: lower optim.lr"),
    ],
)
def test_a_loss_that_is_not_finite_names_its_cause(options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options)


def test_mixed_precision_keeps_float32_prompts():
    data, model, module = parts(epochs=2)
    trainer(2, precision="bf16-mixed").fit(module)
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.learner.parameters())
    assert all(p.dtype == torch.float32 for p in model.clip.parameters())  # stored in bf16 on a GPU alone
    assert model.learner.up.abs().sum() > 0


@pytest.mark.parametrize("epochs", [0, -1, 2.5, "ten"])
def test_wrong_epochs(epochs):
    with pytest.raises(ValueError, match="epochs="):
        parts(epochs)


# ---------------------------------------------------------------- a learner that would train nothing


class Spare(Toy):
    """With tensors that no logit and no loss uses."""

    def setup(self, clip, info):
        super().setup(clip, info)
        self.spare, self.more = nn.Parameter(torch.ones(3)), nn.ModuleDict({"map": nn.Linear(2, 2)})


class Unheld(Toy):
    def parameter_groups(self):
        return [{"params": [self.down]}]


class Fixed(Toy):
    def setup(self, clip, info):
        super().setup(clip, info)
        self.requires_grad_(False)


class Useless(Toy):
    def logits(self, clip, image, text):
        return clip.logits(image, text)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("learner", "message"),
    [
        (Spare, "Spare learns nothing in spare, more.map.weight, more.map.bias: no loss of the first optimiser step"),
        (Useless, "Useless learns nothing in down, up: no loss"),
        (Unheld, "Unheld would never train up: no group of parameter_groups holds them"),
        (Fixed, "Fixed has no trainable tensor"),
    ],
)
def test_tensors_that_would_learn_nothing_are_named_before_anything_moves(learner, message, accumulate):
    data, model, module = parts(learner=learner())
    before = {name: p.detach().clone() for name, p in model.learner.named_parameters()}
    with pytest.raises(ValueError, match=message):
        trainer(3, accumulate_grad_batches=accumulate).fit(module)
    assert all(torch.equal(p, before[name]) for name, p in model.learner.named_parameters())


class Tuned(ZeroShot):
    """Inherits that nothing is trained."""

    def setup(self, clip, info):
        self.scale = nn.Parameter(torch.ones(()))


def test_a_learner_without_gradients_has_nothing_to_train():
    data, model, _ = parts(learner=Tuned("single"))
    with pytest.raises(ValueError, match="Tuned would never train scale: it has uses_gradients=False and no fit of its own"):
        fit_on_features(model, data, trainer(), seed=1)
