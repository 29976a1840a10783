"""Small DenseCLIPs, and what the tests of several of their parts share."""

import torch

from lightning_modules.optimizers import check_gradients, make_optimizer
from prompts.denseclip import DenseCLIP
from prompts.learner import TrainInfo
from prompts.parts.training_draws import Step
from prompts.prompted_clip import PromptedCLIP

NAMES = ["rose", "cat", "sea or lake"]
K = len(NAMES)
SMALL = {"channels": 16, "decoder_width": 32, "decoder_layers": 2}


def model_of(clip, names=NAMES, **settings):
    """In evaluation."""
    torch.manual_seed(0)
    model = PromptedCLIP(clip, DenseCLIP(**SMALL | settings))
    model.setup(TrainInfo(names, num_images=4))
    return model.eval()


def step(count, seed=0, weight=None):
    return Step(seed, torch.arange(count), torch.full((count,), 1 / count) if weight is None else weight)


def pictures(count=2, height=32, width=32):
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def label_maps(count=2, height=32, width=32, classes=K):
    return torch.randint(0, classes, (count, height, width), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


def loss_of(model, clip, pixels, masks, **given):
    """The mean loss of a batch, whatever the mode of the model."""
    out = model.learner.segment(clip, pixels, **given)
    return torch.stack([loss.mean() for loss in model.learner.dense_losses(out, masks).values()]).sum()


def taught():
    """Two images of areas whose brightness is their class, and their label maps."""
    masks = label_maps(2, 4, 4).repeat_interleave(8, 1).repeat_interleave(8, 2)
    return (90 * masks)[:, None].repeat(1, 3, 1, 1), masks


def train(model, clip, steps=3, lr=1e-2, pixels=None, masks=None):
    """The losses of some steps of AdamW, and the optimiser."""
    model.train()
    pixels, masks = taught() if pixels is None else (pixels, masks)
    groups = model.learner.parameter_groups()
    of_clip = [{"params": list(group.tensors.values()), "factor": group.rate} for group in clip.trained]
    optimizer = make_optimizer(lambda groups: torch.optim.AdamW(groups, lr=lr), groups + of_clip)
    losses = []
    for i in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, clip, pixels, masks, step=step(len(pixels), seed=i))
        loss.backward()
        check_gradients("DenseCLIP", model.learner.named_parameters())
        optimizer.step()
        losses.append(loss.item())
    return losses, optimizer


def check_saved(clip, settings):
    """A trained model is the same after its tensors and settings were saved and read."""
    model = model_of(clip, **settings)
    train(model, clip, 2)
    model.eval()
    state, own = model.prompt_state()
    again = PromptedCLIP(clip, DenseCLIP(**SMALL | settings | dict(model.learner.found_settings)))
    torch.manual_seed(9)
    again.setup(TrainInfo(NAMES, 0, fit=False))
    again.load_prompt_state(state, own)
    again.eval()
    with torch.no_grad():
        expected = model.learner.segment(clip, pictures()).logits
        assert torch.equal(again.learner.segment(clip, pictures()).logits, expected)
