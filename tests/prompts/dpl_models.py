"""DPL's supernet and subnet on the small CLIP, for several test files."""

import torch
from test_methods import NAMES, batch, make, model_of

LENGTHS = {"text": [2, 0, 3], "image": [0, 4, 1]}
ZEROS = {"text": [0, 0, 0], "image": [0, 0, 0]}


def wide(method, **settings):
    """Makes a model with prompts large enough to matter."""

    def model_on(clip, names=NAMES):
        model = model_of(clip, make(method, **settings), names)
        with torch.no_grad():
            for name, p in model.learner.named_parameters():
                p.mul_(1.0 if "alphas" in name else 20.0)
        return model

    return model_on


search, subnet = wide("dpl_search"), wide("dpl", prompt_lengths=LENGTHS)


@torch.no_grad()
def logits(model):
    model.bind(NAMES)  # empties the cache of text features
    return model(batch()[0]).logits


def one_hot(model, lengths):
    """Gives all weight to these lengths."""
    with torch.no_grad():
        for tower in ("text", "image"):
            alphas = getattr(model.learner, f"{tower}_alphas").zero_()
            for row, n in zip(alphas, lengths[tower], strict=True):
                row[model.learner.lengths.index(n)] = 40.0
    return model


def both(learner):
    """The prompts of the text and of the image tower."""
    return [learner.text_prompts(torch.empty(0)), learner.image_prompts()]
