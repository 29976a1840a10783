"""Layers written out as papers have them, on the tensors of a state dict: second implementations for tests to compare with."""

import math

import torch
import torch.nn.functional as F


def randomise(module, seed=0):
    """Every tensor of a module gets numbers of a usual size, so that no part of it is the identity or adds nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim > 1:
                tensor.copy_(noise / math.sqrt(tensor[0].numel()))
            else:
                tensor.copy_(0.5 * noise if name.endswith(("bias", "mean")) else noise.abs() + 0.5)
    return module


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def layer_norm(x, state, name):
    mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    return (x - mean) / torch.sqrt(var + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x, state, name):
    out = x @ state[f"{name}.weight"].T
    return out + state[f"{name}.bias"] if f"{name}.bias" in state else out


def attention(x, memory, state, name, heads):
    """Head by head: (N,D) with (M,D)."""
    q, k, v = (
        linear(x, state, f"{name}.q_proj"),
        linear(memory, state, f"{name}.k_proj"),
        linear(memory, state, f"{name}.v_proj"),
    )
    parts = []
    for own in torch.arange(q.shape[-1]).chunk(heads):
        weights = torch.softmax(q[:, own] @ k[:, own].T / math.sqrt(len(own)), -1)
        parts.append(weights @ v[:, own])
    return linear(torch.cat(parts, -1), state, f"{name}.proj")


def batch_norm(x, state, name, training):
    """With the statistics of the batch, or the running ones."""
    own = {key: state[f"{name}.layer.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
    mean, var = own["running_mean"], own["running_var"]
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    scaled = (x - mean[:, None, None]) / torch.sqrt(var + 1e-5)[:, None, None]
    return scaled * own["weight"][:, None, None] + own["bias"][:, None, None]


def conv_norm_relu(x, state, name, training, padding):
    x = F.conv2d(x, state[f"{name}.conv.weight"], padding=padding)
    return batch_norm(x, state, f"{name}.bn", training).clamp(min=0)


def bilinear(x, size):
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
