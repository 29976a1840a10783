"""The identity of a CLIP, to which prompts belong: architecture, activation and a digest of the weights."""

from __future__ import annotations

import hashlib
from typing import TypedDict

import torch
from torch import nn

DIGITS = 16  # of the weights' digest


class Identity(TypedDict):
    """`architecture`: the sizes of both towers in words; `activation`: quickgelu or gelu; `weights`: hexadecimal digits."""

    architecture: str
    activation: str
    weights: str


@torch.no_grad()
def identify(model: nn.Module) -> Identity:
    """The identity of open_clip's model. Weights are rounded to float16 first, so that OpenAI's float16 archive and a float32
    copy of it are the same CLIP."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_floating_point():  # BatchNorm's counter of batches is no weight
            digest.update(f"{name} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.half().cpu().contiguous().numpy().data)
    is_quick = any(type(module).__name__ == "QuickGELU" for module in model.modules())
    return {
        "architecture": _sizes(model),
        "activation": "quickgelu" if is_quick else "gelu",
        "weights": digest.hexdigest()[:DIGITS],
    }


def _sizes(model: nn.Module) -> str:
    """What the shapes of the weights depend on, and the heads, which no shape shows."""
    visual, blocks = model.visual, model.transformer.resblocks
    side = visual.image_size if isinstance(visual.image_size, int) else visual.image_size[0]
    if hasattr(visual, "class_embedding"):
        heads = visual.transformer.resblocks[0].attn.num_heads
        image = (
            f"ViT/{visual.patch_size[0]} of {len(visual.transformer.resblocks)} x {visual.conv1.out_channels}, {heads} heads"
        )
    else:
        layers = [len(layer) for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4)]
        image = f"ResNet of {layers} x {visual.conv1.out_channels * 2}, {visual.attnpool.num_heads} heads"
    text = f"{len(blocks)} x {model.token_embedding.embedding_dim}, {blocks[0].attn.num_heads} heads"
    positions = model.positional_embedding.shape[0]
    return f"{image}, {side} pixels; text {text}, {positions} positions; features {visual.output_dim}"
