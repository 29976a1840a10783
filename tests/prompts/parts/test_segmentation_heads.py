"""Semantic FPN and UPerNet as mmsegmentation has them, written out a second time."""

import pytest
import torch
import torch.nn.functional as F
from dense_models import step
from plain_layers import bilinear, conv_norm_relu, randomise

from prompts.parts.segmentation_heads import SemanticFPN, UPerNet
from prompts.parts.training_draws import Draws

INPUTS, CHANNELS, CLASSES = [3, 4, 5, 6], 8, 3
SIZES = {"even": [(16, 24), (8, 12), (4, 6), (2, 3)], "odd": [(12, 20), (6, 10), (3, 5), (2, 3)]}


def fpn(levels, state, training):
    """1x1 convolutions, sums from the coarsest level down by the nearest pixel, 3x3 convolutions; each level then has as many
    convolutions as it is doubled, but one at least; the sum of all levels is classified."""
    own = "fpn.inner_blocks.{}.0", "fpn.layer_blocks.{}.0"
    lateral, smooth = ([(state[f"{name.format(i)}.weight"], state[f"{name.format(i)}.bias"]) for i in range(4)] for name in own)
    inner = [F.conv2d(x, *weights) for x, weights in zip(levels, lateral, strict=True)]
    for i in (3, 2, 1):
        inner[i - 1] = inner[i - 1] + F.interpolate(inner[i], inner[i - 1].shape[-2:], mode="nearest")
    maps = [F.conv2d(x, *weights, padding=1) for x, weights in zip(inner, smooth, strict=True)]
    sizes = [x.shape[-2:] for x in levels]
    total = conv_norm_relu(maps[0], state, "towers.0.0", training, 1)
    for level, places in ((1, [0]), (2, [1, 0]), (3, [2, 1, 0])):
        x = maps[level]
        for number, place in enumerate(places):
            x = bilinear(conv_norm_relu(x, state, f"towers.{level}.{number}", training, 1), sizes[place])
        total = total + x
    return F.conv2d(total, state["classifier.conv_seg.weight"], state["classifier.conv_seg.bias"])


def upernet(levels, state, training):
    """Pools of 1, 2, 3 and 6 on the coarsest level, sums from it down, 3x3 convolutions, all levels fused at the finest."""
    top, size = levels[3], levels[3].shape[-2:]
    pooled = [top]
    for i, side in enumerate((1, 2, 3, 6)):
        pool = conv_norm_relu(F.adaptive_avg_pool2d(top, side), state, f"pooled.{i}", training, 0)
        pooled.append(bilinear(pool, size))
    maps = [conv_norm_relu(levels[i], state, f"lateral.{i}", training, 0) for i in range(3)]
    maps.append(conv_norm_relu(torch.cat(pooled, 1), state, "bottleneck", training, 1))
    for i in (2, 1, 0):
        maps[i] = maps[i] + bilinear(maps[i + 1], maps[i].shape[-2:])
    out = [conv_norm_relu(maps[i], state, f"smooth.{i}", training, 1) for i in range(3)] + [maps[3]]
    fused = torch.cat([bilinear(x, out[0].shape[-2:]) for x in out], 1)
    fused = conv_norm_relu(fused, state, "fuse", training, 1)
    return F.conv2d(fused, state["classifier.conv_seg.weight"], state["classifier.conv_seg.bias"])


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("head", "plain"), [(SemanticFPN, fpn), (UPerNet, upernet)])
def test_it_is_mmsegmentation_s(head, plain, sizes, training):
    """All its tensors are used: the second implementation names each."""
    made = randomise(head(INPUTS, CLASSES, CHANNELS, dropout=0.0)).train(training)
    state = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    levels = [torch.randn(2, width, *size) for width, size in zip(INPUTS, SIZES[sizes], strict=True)]
    found = made(levels, Draws(step(2), torch.device("cpu")) if training else None)
    assert found.shape == (2, CLASSES, *SIZES[sizes][0])
    used = Noted(state)
    torch.testing.assert_close(found, plain(levels, used, training), rtol=1e-3, atol=1e-3)
    assert used.names == set(state)


class Noted(dict):
    """Notes which tensors are asked for."""

    def __init__(self, state):
        super().__init__(state)
        self.names = set()

    def __getitem__(self, name):
        self.names.add(name)
        return super().__getitem__(name)


@torch.no_grad()
@pytest.mark.parametrize(("head", "width"), [(SemanticFPN, 256), (UPerNet, 512)])
def test_the_last_layer_starts_small_and_whole_channels_are_dropped_before_it(head, width):
    made = head(INPUTS, CLASSES)
    last = made.classifier.conv_seg
    assert last.weight.shape == (CLASSES, width, 1, 1)
    assert last.weight.std().item() == pytest.approx(0.01, rel=0.15)
    assert not last.bias.any()
    last.weight.fill_(1.0)
    x = torch.ones(1, width, 3, 3)
    dropped = made.classifier(x, Draws(step(1), x.device))
    torch.testing.assert_close(dropped, dropped[:, :1, :1, :1].expand_as(dropped))  # the same at every position
    kept = dropped[0, 0, 0, 0].item() * 0.9  # how many channels are left
    assert kept == pytest.approx(round(kept), abs=1e-2)
    assert 0.8 * width < kept < width
