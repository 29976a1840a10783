"""A DPL search by the trainer: alternating steps, an interruption, accumulation. See also prompts/test_dpl_supernet.py."""

import signal
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from small_runs import parts, trainer
from test_checkpoints import StopAt

from prompts.dpl_search import DPLSearch
from runs.jobs import LAST
from runs.signals import Interrupted

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=5e-4)
EPOCHS, STEPS = 3, 6  # of an epoch: half of them on the alphas


def search():
    return parts(EPOCHS, DPLSearch([0, 2], alpha_lr=0.05), batch_size=4, optimizer=SGD, alternating_batch_size=5)


def state(model):
    return {name: p.detach().clone() for name, p in model.learner.named_parameters()}


def same(a, b):
    return all(torch.equal(p, b[name]) for name, p in a.items())


def test_alphas_and_prompts_move_in_turn():
    data, model, module = search()
    states = [state(model)]

    class Look(Callback):
        def on_train_batch_end(self, *args):
            states.append(state(model))

    trainer(EPOCHS, callbacks=[Look()]).fit(module)
    assert len(states) == 1 + EPOCHS * STEPS
    for step, (before, after) in enumerate(zip(states, states[1:], strict=False)):
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == {name for name in before if ("alphas" in name) == (step % 2 == 0)}
    assert [steps for _, steps in module.losses] == [STEPS] * EPOCHS


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("batch", [1, 4, 7, 12, 13])
def test_14_a_resumed_search_is_the_same(tmp_path, batch, accumulate):
    data, whole, reference = search()
    trainer(EPOCHS, accumulate_grad_batches=accumulate).fit(reference)
    data, stopped, module = search()
    callbacks = [StopAt(tmp_path, batch, signal.SIGTERM)]
    with pytest.raises(Interrupted):
        trainer(EPOCHS, accumulate_grad_batches=accumulate, callbacks=callbacks).fit(module)
    assert not same(state(stopped), state(whole))
    data, model, module = search()
    again = trainer(EPOCHS, accumulate_grad_batches=accumulate)
    again.fit(module, ckpt_path=tmp_path / LAST, weights_only=True)
    assert same(state(model), state(whole))
    assert model.learner.configuration() == whole.learner.configuration()
    assert module.losses == reference.losses
    for p, q in zip(whole.learner.parameters(), model.learner.parameters(), strict=True):
        ours, theirs = again.optimizers[0].state[q], reference.trainer.optimizers[0].state[p]
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(torch.as_tensor(ours[key]), torch.as_tensor(theirs[key])) for key in ours)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulation_changes_nothing(accumulate):
    models = []
    for count in (1, accumulate):
        data, model, module = search()
        trainer(EPOCHS, accumulate_grad_batches=count).fit(module)
        models.append(model)
    for p, q in zip(*(model.learner.parameters() for model in models), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
