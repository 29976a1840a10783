from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from small_runs import SGD, parts, trainer
from toys import NAMES, Toy

from lightning_modules import optimizers
from lightning_modules.optimizers import CombinedOptimizer, make_optimizer, set_rates
from lightning_modules.schedule import cosine_after_warmup
from prompts.aape import AAPE

ADAM = partial(torch.optim.AdamW, lr=0.01, betas=(0.5, 0.9))


class TwoOptimisers(Toy):
    def parameter_groups(self):
        return [{"params": [self.up], "optimizer": ADAM, "scheduled": False}, {"params": [self.down]}]


def tensors():
    return [torch.full((3,), float(i + 1), requires_grad=True) for i in range(3)]


def groups(a, b, c):
    return [{"params": [b], "optimizer": ADAM, "scheduled": False}, {"params": [a]}, {"params": [c], "span": (0.5, 1.0)}]


def step(optimizer, a, b, c):
    optimizer.zero_grad()
    (a.square() * b + c.exp()).sum().backward()
    optimizer.step()


def test_each_group_is_stepped_by_its_own_optimiser():
    (a, b, c), (x, y, z) = tensors(), tensors()
    together, sgd, adam = make_optimizer(SGD, groups(a, b, c)), SGD([x, z]), ADAM([y])
    for _ in range(3):
        step(together, a, b, c)
        sgd.zero_grad(), adam.zero_grad()
        (x.square() * y + z.exp()).sum().backward()
        sgd.step(), adam.step()
    assert all(torch.equal(p, q) for p, q in zip((a, b, c), (x, y, z), strict=True))


def test_without_optimisers_of_their_own_the_configured_one_is_returned():
    assert type(make_optimizer(SGD, [{"params": tensors()}])) is torch.optim.SGD


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (SGD, True),
        (torch.optim.AdamW, True),
        (partial(SGD, fused=False), False),
        (partial(SGD, foreach=True), None),
        (partial(torch.optim.RMSprop, lr=0.1), None),  # has no fused kernel
        (lambda groups: torch.optim.SGD(groups, lr=0.1), None),  # somebody's own, which may take no such argument
    ],
)
def test_only_a_gpu_gets_the_fused_optimisers_of_torch(make, expected, monkeypatch):
    assert not any(make_optimizer(make, [{"params": tensors()}]).defaults.get("fused") for make in (SGD, torch.optim.AdamW))
    monkeypatch.setattr(optimizers, "FUSED_ON", ("cpu",))
    made = make_optimizer(make, [{"params": tensors()}])
    assert made.defaults.get("fused") is expected
    together = make_optimizer(SGD, groups(*tensors()))
    assert [part.defaults["fused"] for part in together.parts] == [True, True]


@pytest.mark.parametrize(("options", "expected"), [({}, True), ({"gradient_clip_val": 1.0}, None)])
def test_clipped_gradients_have_no_fused_optimiser(options, expected, monkeypatch):
    monkeypatch.setattr(optimizers, "FUSED_ON", ("cpu",))
    data, model, module = parts(epochs=1)
    trainer(1, precision="bf16-mixed", **options).fit(module)
    assert module.trainer.optimizers[0].defaults["fused"] is expected


def test_rates_are_scheduled_kept_or_zero():
    (a, b, c) = tensors()
    optimizer = make_optimizer(SGD, groups(a, b, c))
    rates = []
    for epoch in range(8):
        set_rates(optimizer, epoch, 8)
        before = c.detach().clone()
        step(optimizer, a, b, c)
        assert torch.equal(before, c) == (epoch < 4)
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert [row[0] for row in rates] == [cosine_after_warmup(e, 8, 0.1) for e in range(8)]  # the configured one stands first
    assert [row[1] for row in rates] == [0.0] * 4 + [cosine_after_warmup(e, 4, 0.1) for e in range(4)]
    assert [row[2] for row in rates] == [0.01] * 8


def test_state_dict_round_trip(tmp_path):
    ours = tensors()
    optimizer = make_optimizer(SGD, groups(*ours))
    set_rates(optimizer, 5, 8)
    step(optimizer, *ours)
    torch.save(optimizer.state_dict(), tmp_path / "state")
    again = [p.detach().clone().requires_grad_() for p in ours]
    other = make_optimizer(SGD, groups(*again))
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for epoch in (6, 7):
        for one, params in ((optimizer, ours), (other, again)):
            set_rates(one, epoch, 8)
            step(one, *params)
    assert all(torch.equal(p, q) for p, q in zip(ours, again, strict=True))


class Save(Callback):
    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 3:  # within the second epoch
            trainer.save_checkpoint(self.path)


def two_stages():
    prompts = {name: [name, f"a {name} outside"] for name in NAMES}
    return AAPE(prompts, schedule="two_stage")


@pytest.mark.parametrize("learner", [TwoOptimisers, two_stages])
def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path, learner):
    data, whole, module = parts(learner=learner())
    trainer(callbacks=[Save(tmp_path / "ckpt")]).fit(module)
    assert isinstance(module.trainer.optimizers[0], CombinedOptimizer)
    data, resumed, module = parts(learner=learner())
    trainer().fit(module, ckpt_path=tmp_path / "ckpt", weights_only=True)
    for p, q in zip(whole.learner.parameters(), resumed.learner.parameters(), strict=True):
        assert torch.equal(p, q)
