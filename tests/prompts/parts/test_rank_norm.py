"""Normalisation of maps: over the batch as torch's own BatchNorm, and over groups of channels."""

import pytest
import torch
import torch.nn.functional as F
from dense_models import step
from torch import nn

from prompts.parts.rank_norm import MapNorm, RankBatchNorm, groups_of
from prompts.parts.training_draws import Draws


def draws_of(*weight):
    return Draws(step(len(weight), weight=torch.tensor(weight)), torch.device("cpu"))


def two_layers(channels=3):
    """Ours and torch's, with the same scales and shifts."""
    ours, theirs = RankBatchNorm(channels), nn.BatchNorm2d(channels)
    with torch.no_grad():
        for a, b, values in ((ours.weight, theirs.weight, [0.5, 1, 2]), (ours.bias, theirs.bias, [-1, 0.0, 3])):
            a.copy_(torch.tensor(values))
            b.copy_(a)
    return ours, theirs


def test_it_is_torch_s_own():
    """Outputs, gradients and running statistics of several steps, then the evaluation; maps of a small spread show eps."""
    ours, theirs = two_layers()
    for seed in range(3):
        x = (
            0.01 * torch.randn(4, 3, 5, 2, generator=torch.Generator().manual_seed(seed))
            + torch.tensor([1.0, -2, 5])[:, None, None]
        )
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        for x_, out in ((a, ours(a, draws_of(0.25, 0.25, 0.25, 0.25))), (b, theirs(b))):
            (out * torch.linspace(-1, 1, out.numel()).reshape(out.shape)).sum().backward()
            x_.out = out
        torch.testing.assert_close(a.out, b.out, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_images_of_weight_0_are_left_out():
    ours, theirs = two_layers()
    x = torch.randn(3, 3, 4, 4)
    found = ours(x, draws_of(0.5, 0.0, 0.5))
    torch.testing.assert_close(found[[0, 2]], theirs(x[[0, 2]]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    before = ours.running_mean.clone(), ours.running_var.clone()
    assert ours(x, draws_of(0.0, 0.0, 0.0)).isfinite().all()
    assert torch.equal(ours.running_mean, before[0])  # where no image counts, there are no statistics
    assert torch.equal(ours.running_var, before[1])


@pytest.mark.parametrize("channels", [2, 3, 4, 8, 16, 32, 48, 64, 256])
def test_groups_leave_something_of_a_map_of_one_position(channels):
    """torch refuses one image whose groups have one number each."""
    layer = MapNorm("group", channels)
    x = torch.randn(1, channels, 1, 1, requires_grad=True)
    found = layer(x)
    assert found.abs().max() > 0.5
    torch.testing.assert_close(found, F.group_norm(x, layer.layer.num_groups, eps=1e-5))


def test_there_are_32_groups_where_that_leaves_several_channels_in_each():
    assert {channels: groups_of(channels) for channels in (64, 256, 512, 48, 8, 32, 33)} == {
        64: 32,
        256: 32,
        512: 32,
        48: 16,
        8: 2,
        32: 8,
        33: 1,
    }
