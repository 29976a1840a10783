"""The names that a CLIP's tensors have in files of different origin, turned into open_clip's.

Origins: training with several processes or `torch.compile` (prefixes module. and _orig_mod.), TinyCLIP (a prefix for each
tower), transformers' CLIPModel and SiglipModel, and open_clip itself, whose CLIP and CustomTextCLIP name the text tower
differently. The origin is told by names and shapes alone; matrices are transposed, joined and split, and nothing else is
computed.

Shapes: W width of a tower, d width of the shared embedding, N positions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]
WRAPPERS = re.compile(r"(module\.|_orig_mod\.)+")
TINYCLIP = re.compile(r"_(image_encoder|text_encoder|logit_scale)\.(module\.)?")
TINYCLIP_COPIES = re.compile(r"(image|text)_encoder_without_ddp\.|.*l0_module")  # the towers again, and masks of its pruning
NO_WEIGHTS = ("attn_mask", "position_ids")  # buffers that some versions store
TRANSFORMERS = ("text_model.", "vision_model.")
POOLING = "vision_model.head.probe"  # SigLIP's attention pooling has it
CUSTOM_TEXT = "text."  # before the names of the text tower in CustomTextCLIP and CoCa
TEXT_PARTS = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection", "cls_emb")
# transformers' name behind the block's number -> (open_clip's, timm's)
BLOCK = {
    "layer_norm1": ("ln_1", "norm1"),
    "layer_norm2": ("ln_2", "norm2"),
    "self_attn.out_proj": ("attn.out_proj", "attn.proj"),
    "mlp.fc1": ("mlp.c_fc", "mlp.fc1"),
    "mlp.fc2": ("mlp.c_proj", "mlp.fc2"),
}
TEXT = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "text_model.head.weight": "text_projection.weight",
    "text_model.head.bias": "text_projection.bias",
    "text_projection.weight": "text_projection.weight",
}
VISION = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "visual_projection.weight": "visual.proj",
}
POOLED_VISION = {
    "vision_model.embeddings.patch_embedding": "visual.trunk.patch_embed.proj",
    "vision_model.embeddings.position_embedding.weight": "visual.trunk.pos_embed",
    "vision_model.post_layernorm": "visual.trunk.norm",
    "vision_model.head.probe": "visual.trunk.attn_pool.latent",
    "vision_model.head.attention.out_proj": "visual.trunk.attn_pool.proj",
    "vision_model.head.layernorm": "visual.trunk.attn_pool.norm",
    "vision_model.head.mlp": "visual.trunk.attn_pool.mlp",
}


def unwrapped(state: Mapping[str, Tensor]) -> State:
    """The tensors without the prefixes of wrappers around the model when it was saved, and without buffers that are no
    weights."""
    names = {name: WRAPPERS.sub("", name, count=1) if WRAPPERS.match(name) else name for name in state}
    if any(TINYCLIP.match(name) for name in names.values()):
        names = {old: TINYCLIP.sub("", name, count=1) for old, name in names.items() if not TINYCLIP_COPIES.match(name)}
    return {name: state[old] for old, name in names.items() if name.rpartition(".")[2] not in NO_WEIGHTS}


def in_open_clips_names(state: State) -> State:
    """The tensors of a model of transformers' in open_clip's names, of others as they are. ValueError (a phrase) where one of
    the three parts of an attention's input is missing or differs in shape."""
    if not all(any(name.startswith(part) for name in state) for part in TRANSFORMERS):
        return state
    is_pooled = POOLING in state
    renamed = _with_joined_attention(state)
    return _of_pooled_vision(renamed) if is_pooled else renamed


def _with_joined_attention(state: State) -> State:
    """Queries, keys and values joined, and every name replaced but those of SigLIP's pooling."""
    towers = {"text_model": "transformer.resblocks.", "vision_model": "visual.transformer.resblocks."}
    is_pooled = POOLING in state
    out: State = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"(text_model|vision_model)\.encoder\.layers\.(\d{1,4})\.(.+)\.(weight|bias)", name)
        if match is None:
            table = TEXT if is_pooled else TEXT | VISION
            out[table.get(name, name)] = tensor.T if name == "visual_projection.weight" and tensor.dim() == 2 else tensor
            continue
        tower, number, part, kind = match.groups()
        is_timm = is_pooled and tower == "vision_model"
        block = f"visual.trunk.blocks.{number}." if is_timm else f"{towers[tower]}{number}."
        if part == "self_attn.q_proj":
            joined = [state.get(name.replace("q_proj", f"{x}_proj")) for x in "qkv"]
            out[block + (f"attn.qkv.{kind}" if is_timm else f"attn.in_proj_{kind}")] = _joined(joined, name)
        elif part not in ("self_attn.k_proj", "self_attn.v_proj"):
            out[f"{block}{BLOCK[part][is_timm] if part in BLOCK else part}.{kind}"] = tensor
    return out


def _joined(parts: list[Tensor | None], name: str) -> Tensor:
    if any(part is None or part.dim() == 0 or part.shape != parts[0].shape for part in parts):
        raise ValueError(f"{name} lacks its keys or values, or they have other shapes")
    return torch.cat(parts)


def _of_pooled_vision(state: State) -> State:
    """SigLIP's embedding, last LayerNorm and attention pooling in timm's names."""
    out: State = {}
    for name, tensor in state.items():
        head = next((old for old in POOLED_VISION if name == old or name.startswith(f"{old}.")), None)
        if kind := re.fullmatch(r"vision_model\.head\.attention\.in_proj_(weight|bias)", name):
            width = len(tensor) // 3 if tensor.dim() else 0
            out[f"visual.trunk.attn_pool.q.{kind[1]}"] = tensor[:width]
            out[f"visual.trunk.attn_pool.kv.{kind[1]}"] = tensor[width:]
        elif head is None:
            out[name] = tensor
        else:
            is_position = head.endswith("position_embedding.weight")
            out[POOLED_VISION[head] + name.removeprefix(head)] = tensor[None] if is_position else tensor
    return out


def as_expected(state: State, expected: Mapping[str, Tensor]) -> State:
    """The tensors with the text tower's names, the orientation of its projection, and the shapes of logit scale and bias of the
    model `expected`. Tensors that fit neither form are left as they are."""
    names = set(expected)
    if _is_custom(state) != _is_custom(names):
        state = _plain(state) if _is_custom(state) else _custom(state)
    prefix = CUSTOM_TEXT if _is_custom(names) else ""
    matrix, linear = f"{prefix}text_projection", f"{prefix}text_projection.weight"
    for had, wanted in ((matrix, linear), (linear, matrix)):
        if had in state and had not in names and wanted in names and state[had].dim() == 2:
            state = {name: tensor for name, tensor in state.items() if name != had} | {wanted: state[had].T}
    for name in ("logit_scale", "logit_bias"):
        if name in state and name in names and state[name].numel() == expected[name].numel() == 1:
            state = state | {name: state[name].reshape(expected[name].shape)}
    return state


def _is_custom(names: Iterable[str]) -> bool:
    """Whether the text tower has a name of its own, as in CustomTextCLIP."""
    return any(name.startswith(CUSTOM_TEXT) for name in names)


def plain(state: State) -> State:
    """The tensors as of open_clip's CLIP, whose text tower has no name of its own."""
    return _plain(state) if _is_custom(state) else state


def _plain(state: State) -> State:
    return {name.removeprefix(CUSTOM_TEXT): tensor for name, tensor in state.items()}


def _custom(state: State) -> State:
    return {f"{CUSTOM_TEXT}{name}" if name.startswith(TEXT_PARTS) else name: tensor for name, tensor in state.items()}
