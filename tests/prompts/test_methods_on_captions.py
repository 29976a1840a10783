"""One matrix over all methods: captions stand in the place of their class names, or are refused in one sentence."""

import math

import pytest
import torch
from captioned_toys import captioned
from lightning.pytorch import seed_everything
from test_methods import METHODS, make

from lightning_modules.retrieval import Retrieval
from lightning_modules.trainer import make_trainer
from prompts.engine.text_plan import Caption
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP

KEEPS = "keeps something for each class of its training set"
REFUSED = {
    "aape": KEEPS,
    "aape_residual": KEEPS,
    "cupl": KEEPS,
    "linear_probe": KEEPS,
    "dpl_search": "needs .*data.alternating_batch_size|give data.alternating_batch_size=16",
}
SETTINGS = {"aape": {"prompts": {}}, "aape_residual": {"prompts": {}}, "cupl": {"prompts": {}}}
BY_IMAGE = ("cocoop",)


def module_of(clip, method):
    data = captioned(clip, shots=8)
    names = [Caption(text) for text in data.classnames]
    sentences = {"prompts": {str(name): ["a thing."] for name in names}} if method in SETTINGS else {}
    seed_everything(0, verbose=False)
    model = PromptedCLIP(clip, make(method, **sentences))
    model.setup(TrainInfo(names, len(data.train_items)))
    optimizer = lambda groups: torch.optim.SGD(groups, lr=0.05)  # noqa: E731
    return Retrieval(model, data, optimizer, 2, 1, [data.evaluation("toys", "test", "all")])


def fit(module, epochs=2):
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = make_trainer(devices=1, strategy="auto", max_epochs=epochs, **options)
    if module.model.learner.uses_gradients:
        trainer.fit(module)
    trainer.test(module, verbose=False)


@pytest.mark.parametrize("method", METHODS)
def test_captions_take_the_class_names_place(small_clip, method):
    if method in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[method]):
            module_of(small_clip, method)
        return
    module = module_of(small_clip, method)
    learner, before = module.model.learner, module.model.prompt_state()[0]
    before = {name: tensor.clone() for name, tensor in before.items()}
    fit(module)
    after = module.model.prompt_state()[0]
    assert learner.uses_gradients == any(not torch.equal(before[name], after[name]) for name in after)
    if learner.uses_gradients:
        assert len(module.losses) == 2
        assert all(math.isfinite(total) for total, _ in module.losses)
    metrics = module.metrics["toys"]
    assert (metrics["images"], metrics["captions"]) == (9, 22)
    assert metrics["image_to_text_r1"] <= metrics["image_to_text_r5"] <= metrics["image_to_text_r10"]
    assert module.model.text_depends_on() == "image" or method not in BY_IMAGE
