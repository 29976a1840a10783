"""Numbers that are not finite: nothing of them is saved, resumed from or reported."""

import math

import pytest
import torch
from safetensors.torch import load_file
from small_runs import parts, trainer
from toys import Toy

from lightning_modules.callbacks import BestOnValidation, Resumable
from lightning_modules.checkpoints import BEST
from prompts.learner import TrainingHooks
from runs.jobs import LAST

LAST_STEP = 4  # two epochs of two steps


class Exploding(Toy, TrainingHooks):
    """A learner whose numbers are no longer finite after some steps (counted from 1)."""

    def __init__(self, step=LAST_STEP, value=float("nan")):
        super().__init__()
        self.step, self.value, self.steps = step, value, 0

    def before_step(self):
        self.steps += 1
        if self.steps == self.step:
            self.down.grad[0, 0] = self.value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_prompts_that_the_last_step_breaks_are_neither_saved_nor_evaluated(tmp_path, value):
    data, model, module = parts(2, Exploding(value=value), vals=True)
    saving = [Resumable(tmp_path, every=0), BestOnValidation(tmp_path, "base")]
    words = r"what Exploding has learned is not finite any more \(.* in down\): lower optim.lr"
    with pytest.raises(ValueError, match=words):
        trainer(2, callbacks=saving).fit(module)
    assert sorted(path.name for path in tmp_path.iterdir()) == [BEST, LAST]
    checkpoint = torch.load(tmp_path / LAST, weights_only=True)
    assert checkpoint["global_step"] == LAST_STEP - 1
    for state in (checkpoint["state_dict"], load_file(tmp_path / BEST)):
        assert all(tensor.isfinite().all() for tensor in state.values())
    assert [entry["epoch"] for entry in module.history] == [0]
    with pytest.raises(ValueError, match=words):
        trainer().test(module, verbose=False)
    assert module.metrics == {}


def test_prompts_that_the_last_step_breaks_without_anything_saved():
    data, _, module = parts(2, Exploding())
    trainer(2).fit(module)
    with pytest.raises(ValueError, match="not finite any more .*down"):
        trainer().test(module, verbose=False)


def test_a_checkpoint_that_is_not_finite_is_not_resumed(tmp_path):
    data, model, module = parts(2)
    run = trainer(2, callbacks=[Resumable(tmp_path)])
    run.fit(module)
    state = torch.load(tmp_path / LAST, weights_only=True)
    state["state_dict"]["model.learner.up"][1] = math.inf
    torch.save(state, tmp_path / LAST)
    data, _, module = parts(3)
    with pytest.raises(ValueError, match="holds NaN or infinite numbers in model.learner.up: use force=true"):
        trainer(3).fit(module, ckpt_path=tmp_path / LAST, weights_only=True)


class Unsure(Toy):
    """A learner with finite tensors, for which the logits of some images are not finite."""

    def __init__(self, images, value):
        super().__init__()
        self.images, self.value, self.seen = images, value, 0

    def logits(self, clip, image, text):
        logits = super().logits(clip, image, text)
        for i in range(len(logits)):
            if len(text) == 2 and self.seen + i in self.images:  # the two new classes
                logits[i, 1] = self.value
        self.seen += len(logits) * (len(text) == 2)
        return logits


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("images", [{0}, {13}, {6, 9, 2}])
def test_logits_that_are_not_finite_are_no_result(images, value):
    data, _, module = parts(learner=Unsure(images, value))
    with pytest.raises(ValueError, match=f"evaluation new: the logits of image {min(images)} are not finite .* lower optim.lr"):
        trainer().test(module, verbose=False)
    assert module.metrics == {}
    assert not module.predicted
