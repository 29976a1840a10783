"""The pyramid of a vision transformer's maps is the released code's, layer by layer."""

import pytest
import torch
from dense_models import step
from plain_layers import randomise
from torch import nn

from prompts.parts.pyramid_neck import PyramidNeck
from prompts.parts.training_draws import Draws

WIDTH = 6


def up():
    return nn.ConvTranspose2d(WIDTH, WIDTH, 2, 2)


def released(patch):
    """The layers of each level, for the two sizes of patches that the released code has."""
    if patch == 16:
        levels = [[up(), nn.BatchNorm2d(WIDTH), nn.GELU(), up()], [up()], [], [nn.MaxPool2d(2)]]
    else:
        levels = [[up()], [], [nn.MaxPool2d(2)], [nn.MaxPool2d(4)]]
    return [nn.Sequential(nn.GroupNorm(1, WIDTH), *layers) for layers in levels]


@torch.no_grad()
@pytest.mark.parametrize("patch", [16, 8])
@pytest.mark.parametrize("training", [False, True])
def test_levels_are_those_of_the_released_code(patch, training):
    neck, plain = randomise(PyramidNeck(WIDTH, patch, "batch")).train(training), released(patch)
    for level, layers in zip(neck.levels, plain, strict=True):
        own = [level.enter, *level.deconvs[:1], *(norm.layer for norm in level.between), *level.deconvs[1:]]
        theirs = [layer for layer in layers if [*layer.parameters()]]
        for a, b in zip(own, theirs, strict=True):
            b.load_state_dict(a.state_dict(), strict=not isinstance(b, nn.BatchNorm2d))
        layers.train(training)
    maps = [2 * torch.randn(2, WIDTH, 4, 8) + 1 for _ in range(4)]
    found = neck(maps, Draws(step(2), torch.device("cpu")) if training else None)
    assert [x.shape[-1] for x in found] == [8 * patch // stride for stride in (4, 8, 16, 32)]
    for x, layers, level in zip(maps, plain, found, strict=True):
        torch.testing.assert_close(level, layers(x), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_larger_patches_follow_the_same_rule():
    """32 pixels: each level is doubled once more, with BatchNorm and GELU before every deconvolution but the first."""
    neck = randomise(PyramidNeck(WIDTH, 32, "batch")).eval()
    x = torch.randn(1, WIDTH, 2, 2)
    level = neck.levels[0]
    expected = level.enter(x)
    for i, deconv in enumerate(level.deconvs):
        if i:
            norm = level.between[i - 1].layer
            shape = (1, WIDTH, 1, 1)
            expected = (expected - norm.running_mean.view(shape)) / torch.sqrt(norm.running_var.view(shape) + 1e-5)
            expected = nn.functional.gelu(expected * norm.weight.view(shape) + norm.bias.view(shape))
        expected = deconv(expected)
    torch.testing.assert_close(level(x), expected, rtol=1e-4, atol=1e-4)
    assert [f.shape[-1] for f in neck([x] * 4)] == [16, 8, 4, 2]
