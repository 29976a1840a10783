"""PromptSRC's average over epochs (spec H5.6) survives an interruption; the published one does not."""

import signal

import pytest
import torch
from small_runs import SGD, parts, trainer
from test_checkpoints import StopAt

from prompts.promptsrc import PromptSRC
from runs.jobs import LAST
from runs.signals import Interrupted


def make():
    return parts(epochs=3, learner=PromptSRC(2, 2, 2, 2, mu=2, sigma=1), optimizer=SGD)


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_a_resumed_average_is_the_same(tmp_path, batch):
    data, whole, reference = make()
    trainer(3).fit(reference)
    data, _, module = make()
    with pytest.raises(Interrupted):
        trainer(3, callbacks=[StopAt(tmp_path, batch, signal.SIGTERM)]).fit(module)
    data, model, module = make()
    trainer(3).fit(module, ckpt_path=tmp_path / LAST, weights_only=True)
    assert all(torch.equal(p, q) for p, q in zip(model.learner.parameters(), whole.learner.parameters(), strict=True))
    assert torch.equal(model.learner.averaged, whole.learner.averaged)
    final = torch.cat([p.detach().flatten() for p in whole.learner.parameters()])
    assert torch.equal(final, whole.learner.averaged)
