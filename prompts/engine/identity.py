"""The identity of a CLIP, which is stored with prompts trained on it: architecture, activation and a digest of the weights."""

from __future__ import annotations

import hashlib
from typing import Any, TypedDict

import torch
from torch import nn

from prompts.engine.untyped import AnyModule

DIGITS = 16  # of the weights' digest


class Identity(TypedDict):
    """`architecture`: the sizes of both towers in words; `activation`: quickgelu or gelu; `weights`: hexadecimal digits."""

    architecture: str
    activation: str
    weights: str


@torch.no_grad()
def identify(model: AnyModule) -> Identity:
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


@torch.no_grad()
def identify_images(model: AnyModule, tower: Any) -> list[Any]:
    """All that image features depend on in open_clip's model and the tower that runs it, as plain data: every bit of the
    weights, the modules, and their plain settings, such as a LayerNorm's epsilon."""
    visual, digest = model.visual, hashlib.sha256()
    for name, tensor in sorted(visual.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    settings = [[name, type(module).__qualname__, _plain_settings(module)] for name, module in visual.named_modules()]
    return [digest.hexdigest(), repr(visual), settings, type(tower).__qualname__, _plain_settings(tower)]


def _plain_settings(holder: Any) -> dict[str, str]:
    return {name: repr(value) for name, value in vars(holder).items() if isinstance(value, bool | int | float | str | tuple)}


def _sizes(model: AnyModule) -> str:
    """The sizes of both towers, and their heads and poolings, which the shapes of weights do not show, in words."""
    visual, text = model.visual, getattr(model, "text", model)
    side = visual.image_size if isinstance(visual.image_size, int) else visual.image_size[0]
    return f"{_image_sizes(visual)}, {side} pixels; text {_text_sizes(text)}; features {feature_width(visual, text)}"


def _image_sizes(visual: AnyModule) -> str:
    """The sizes of an image tower in words: open_clip's ViT or ResNet, or one of timm's."""
    if hasattr(visual, "class_embedding"):
        blocks = visual.transformer.resblocks
        pool = {"tok": ""}.get(visual.pool_type, f", {visual.pool_type} pooling")
        pool = ", attention pooling" if visual.attn_pool is not None else pool
        heads = blocks[0].attn.num_heads
        return f"ViT/{visual.patch_size[0]} of {len(blocks)} x {visual.conv1.out_channels}, {heads} heads{pool}"
    if hasattr(visual, "layer4"):
        layers = [len(layer) for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4)]
        return f"ResNet of {layers} x {visual.conv1.out_channels * 2}, {visual.attnpool.num_heads} heads"
    trunk, blocks = visual.trunk, getattr(visual.trunk, "blocks", None)
    if blocks is None:
        return f"timm {type(trunk).__name__} of {sum(p.numel() for p in trunk.parameters()):,} numbers"
    sizes = f"{len(blocks)} x {trunk.embed_dim}, {blocks[0].attn.num_heads} heads, {trunk.global_pool} pooling"
    return f"timm {type(trunk).__name__} of {sizes}"


def _text_sizes(text: AnyModule) -> str:
    """The sizes of a text tower in words: open_clip's or Hugging Face's."""
    if hasattr(text, "pooler"):
        config = text.config
        heads = getattr(config, "num_attention_heads", None)
        sizes = f"{config.num_hidden_layers} x {config.hidden_size}, {heads} heads, {type(text.pooler).__name__}"
        return f"{config.model_type} of {sizes}"
    blocks, positions = text.transformer.resblocks, text.positional_embedding.shape[0]
    pool = text.text_pool_type if hasattr(text, "text_pool_type") else text.pool_type
    pool = "cls" if getattr(text, "cls_emb", None) is not None else pool
    kind = "" if text.attn_mask is not None else ", not causal"
    kind += "" if pool == "argmax" else f", {pool} pooling"
    width = text.token_embedding.embedding_dim
    return f"{len(blocks)} x {width}, {blocks[0].attn.num_heads} heads, {positions} positions{kind}"


def feature_width(visual: AnyModule, text: AnyModule) -> int:
    """The width of the shared embedding."""
    for module in (visual, text):
        if isinstance(size := getattr(module, "output_dim", None), int):
            return size
    projection = text.text_projection
    if isinstance(projection, nn.Linear):
        return projection.out_features
    return text.ln_final.normalized_shape[0] if projection is None else projection.shape[1]
