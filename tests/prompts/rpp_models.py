"""RPP on the small CLIP, for several test files."""

import torch
import torch.nn.functional as F

from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP
from prompts.rpp import RPP

NAMES = ["cat", "golden_retriever", "sea or lake", "rose", "(shop)", "dog"]
LABELS, INDEX = torch.tensor([1, 0, 5, 1]), torch.arange(4)
N, L = 2, 3  # slots; blocks of each tower of the small CLIP


def rpp(depth=2, **settings):
    return RPP(**({"n_text": N, "n_image": N, "depth_text": depth, "depth_image": depth} | settings))


def model_of(clip, learner, names=NAMES, seed=0):
    torch.manual_seed(seed)
    model = PromptedCLIP(clip, learner)
    model.setup(TrainInfo(names, 0))
    with torch.no_grad():  # larger than they start, so that every effect shows
        for tensor in learner.parameters():
            tensor.mul_(20)
    return model


def pictures():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def gradients(model, images, loss=None):
    out = model(images)
    total = F.cross_entropy(out.logits, LABELS) if loss is None else loss(out)
    grads = torch.autograd.grad(total, list(model.learner.parameters()))
    return {name: g for (name, _), g in zip(model.learner.named_parameters(), grads, strict=True)}
