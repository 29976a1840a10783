"""A LightningModule on the toys, and a trainer for it."""

from functools import partial

import torch
from toys import Toy, ToySource, toy_clip

from datamodules.module import FewShotData
from lightning_modules.classification import Classification
from lightning_modules.trainer import make_trainer
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4)


def parts(
    epochs=3,
    learner=None,
    batch_size=6,
    optimizer=SGD,
    vals=False,
    tests=(("base", "base"), ("new", "new")),
    alternating_batch_size=0,
):
    clip = toy_clip()
    data = FewShotData(
        "toy",
        ToySource(),
        clip.image_spec,
        shots=4,
        seed=1,
        subset="base",
        batch_size=batch_size,
        eval_batch_size=4,
        alternating_batch_size=alternating_batch_size,
    )
    torch.manual_seed(0)
    model = PromptedCLIP(clip, learner or Toy())
    model.setup(TrainInfo(data.classnames, len(data.train_items), alternating=bool(alternating_batch_size)))
    evaluations = [data.evaluation(name, "test", subset) for name, subset in tests]
    module = Classification(model, data, optimizer, epochs, 1, evaluations, evaluations if vals else [])
    return data, model, module


def trainer(epochs=3, **options):
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False} | options
    return make_trainer(devices=1, strategy="auto", max_epochs=epochs, **options)


def fit(epochs=3, accumulate=1, **options):
    data, model, module = parts(epochs, **options)
    trainer(epochs, accumulate_grad_batches=accumulate).fit(module)
    return data, model, module
