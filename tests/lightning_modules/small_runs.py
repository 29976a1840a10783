"""A LightningModule on the toys, and a trainer for it."""

from functools import partial

import torch
from lightning_modules.prompt_module import PromptModule
from toys import Toy, ToySource, toy_clip

from datamodules.module import FewShotData
from lightning_modules.trainer import make_trainer
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4)


def parts(epochs=3, learner=None, batch_size=6, optimizer=SGD, vals=False, tests=(("base", "base"), ("new", "new"))):
    data = FewShotData("toy", ToySource(), shots=4, seed=1, subset="base", batch_size=batch_size, eval_batch_size=4)
    data.setup()
    torch.manual_seed(0)
    model = PromptedCLIP(toy_clip(), learner or Toy())
    data.image_spec = model.clip.image_spec
    model.setup(TrainInfo(data.classnames, len(data.train_items)))
    data.tests = [data.eval_set(name, "test", which) for name, which in tests]
    data.vals = data.tests if vals else []
    names = {each.name: each.classnames for each in data.tests}
    module = PromptModule(model, optimizer, epochs, 1, names, names if vals else {})
    return data, model, module


def trainer(epochs=3, **options):
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False} | options
    return make_trainer(devices=1, strategy="auto", max_epochs=epochs, **options)


def fit(epochs=3, accumulate=1, **options):
    data, model, module = parts(epochs, **options)
    trainer(epochs, accumulate_grad_batches=accumulate).fit(module, datamodule=data)
    return data, model, module
