"""The task on captioned toys, trained and tested."""

from functools import partial

import torch
from captioned_toys import captioned
from small_runs import trainer
from toys import Toy, toy_clip

from lightning_modules.retrieval import Retrieval
from prompts.engine.text_plan import Caption
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def parts(learner=None, epochs=1, vals=False, **options):
    clip = toy_clip()
    data = captioned(clip, **options)
    torch.manual_seed(0)
    model = PromptedCLIP(clip, learner or Toy())
    model.setup(TrainInfo([Caption(text) for text in data.classnames], len(data.train_items)))
    tests = [data.evaluation("toys", "test", "all")]
    return data, model, Retrieval(model, data, SGD, epochs, 1, tests, tests if vals else [])


def fit(learner=None, epochs=1, **options):
    data, model, module = parts(learner, epochs, **options)
    trainer(epochs).fit(module)
    return data, model, module


def evaluated(learner=None, **options):
    data, model, module = parts(learner, **options)
    trainer().test(module, verbose=False)
    return data, model, module
