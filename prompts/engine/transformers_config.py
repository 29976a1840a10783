"""transformers' `config.json` of a CLIPModel or a SiglipModel as a config of open_clip's.

Anyone may have made such a file: it is read as data, its numbers go through `prompts.engine.clip_config` like all others, and
what open_clip cannot build is refused.
"""

from __future__ import annotations

import re
from typing import Any

import timm

from prompts.engine.clip_config import TOKENS
from prompts.engine.preprocessing import PROCESSORS, Unfit

MODEL_TYPES = tuple(PROCESSORS)
# the defaults of transformers' own classes, which files of older versions leave out
CLIP_TEXT = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "vocab_size": TOKENS,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": TOKENS - 1,
}
CLIP_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
SIGLIP = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "num_hidden_layers": 12, "num_attention_heads": 12}
SIGLIP |= {"hidden_size": 768, "intermediate_size": 3072}
SIGLIP_TEXT = SIGLIP | {"vocab_size": 32000, "max_position_embeddings": 64}
SIGLIP_VISION = SIGLIP | {"image_size": 224, "patch_size": 16, "vision_use_head": True}
# (width, blocks, heads, width of the MLP) of the image towers that timm has for SigLIP
SIGLIP_SIZES = {
    (768, 12, 12, 3072): "base",
    (1024, 24, 16, 4096): "large",
    (1152, 27, 16, 4304): "so400m",
    (1536, 40, 16, 6144): "giantopt",
}
LEGACY_EOS = 2  # in CLIP's old configs: the feature is then taken at the token with the highest id
EPS = 1e-5  # default of a LayerNorm
SIZES: tuple[str, ...] = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "vocab_size",
)
SIZES += ("image_size", "patch_size", "projection_dim", "projection_size", "eos_token_id")
MOST = 2**22


def is_transformers(data: Any) -> bool:
    """Whether this is a config of a model of transformers', rather than of open_clip's."""
    return isinstance(data, dict) and "model_type" in data and "vision_cfg" not in data and "model_cfg" not in data


def of_transformers(data: dict[str, Any], model: str) -> dict[str, Any]:
    """open_clip's config (unchecked) of the towers that `data`, a `config.json` of transformers', describes.

    Raises:
        ValueError: one sentence, where it is another kind of model or one that open_clip does not have.
    """
    try:
        kind = data["model_type"]
        if kind not in MODEL_TYPES:
            raise Unfit(f"its model_type is {str(kind)[:80]!r}, where {' and '.join(MODEL_TYPES)} are known")
        return _clip(data) if kind == "clip" else _siglip(data)
    except Unfit as why:
        raise ValueError(f"the architecture of clip.model={model} cannot be used: {why}.") from None


def model_type(data: dict[str, Any]) -> str:
    """`clip` or `siglip`, of a config that `of_transformers` has taken."""
    return data["model_type"]


def _clip(data: dict[str, Any]) -> dict[str, Any]:
    text, vision = _tower(data, "text_config", CLIP_TEXT), _tower(data, "vision_config", CLIP_VISION)
    quick = [tower["hidden_act"] == "quick_gelu" for tower in (text, vision)]
    if quick[0] != quick[1]:
        raise Unfit("one of its towers has QuickGELU and the other GELU, which open_clip cannot build")
    text_cfg = _text(text)
    if text["eos_token_id"] not in (LEGACY_EOS, text["vocab_size"] - 1):
        text_cfg |= {"pool_type": "eos", "eos_id": text["eos_token_id"]}
    vision_cfg = _sizes(vision, "vision_config") | {
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "head_width": _head_width(vision, "vision_config"),
    }
    embed_dim = _number(data.get("projection_dim", 512), "projection_dim")
    return {"embed_dim": embed_dim, "vision_cfg": vision_cfg, "text_cfg": text_cfg, "quick_gelu": quick[0]}


def _siglip(data: dict[str, Any]) -> dict[str, Any]:
    text, vision = _tower(data, "text_config", SIGLIP_TEXT), _tower(data, "vision_config", SIGLIP_VISION)
    for tower in (text, vision):
        if tower["hidden_act"] == "quick_gelu":
            raise Unfit("its towers have QuickGELU, which no SigLIP of open_clip's has")
    if vision["vision_use_head"] is not True:
        raise Unfit("its image tower has no attention pooling (vision_use_head), so that it has no image feature")
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    size = tuple(vision[key] for key in keys)
    name = f"vit_{SIGLIP_SIZES.get(size, '')}_patch{vision['patch_size']}_siglip_{vision['image_size']}"
    if size not in SIGLIP_SIZES or not timm.is_model(name):
        numbers = ", ".join(f"{key}={vision[key]}" for key in (*keys, "patch_size", "image_size"))
        raise Unfit(f"timm has no image tower of SigLIP's with {numbers}")
    vision_cfg = {"image_size": vision["image_size"], "timm_model_name": name, "timm_pool": "map", "timm_proj": "none"}
    if "act_kwargs" in (tower := _sizes(vision, "vision_config")):
        vision_cfg["act_kwargs"] = tower["act_kwargs"]
    text_cfg = _text(text) | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    embed_dim = _number(text.get("projection_size", text["hidden_size"]), "text_config.projection_size")
    if embed_dim != vision["hidden_size"]:
        raise Unfit(f"its text features have {embed_dim} numbers, its image features {vision['hidden_size']}")
    # no file of transformers' says how a SigLIP's text is cleaned: all of them were trained as here
    text_cfg["tokenizer_kwargs"] = {"clean": "canonicalize"}
    logits = {"init_logit_bias": -10, "custom_text": True}
    return {"embed_dim": embed_dim, "vision_cfg": vision_cfg, "text_cfg": text_cfg, "quick_gelu": False} | logits


def _tower(data: dict[str, Any], name: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """A tower's config with transformers' defaults where the file says nothing; numbers are numbers."""
    given = data.get(name)
    given = data.get(f"{name}_dict") if given is None else given  # of files made by very old versions
    if not isinstance(given, dict):
        raise Unfit(f"its {name} is no object")
    tower = defaults | {key: value for key, value in given.items() if value is not None}
    for key in SIZES:
        if key in tower:
            _number(tower[key], f"{name}.{key}")
    if type(tower["layer_norm_eps"]) is not float or not 0 < tower["layer_norm_eps"] < 0.1:
        raise Unfit(f"its {name}.layer_norm_eps is no small number")
    if tower["hidden_act"] not in ("quick_gelu", "gelu", "gelu_pytorch_tanh"):
        raise Unfit(f"its {name}.hidden_act is {str(tower['hidden_act'])[:80]!r}, where open_clip has QuickGELU and GELU alone")
    return tower


def _number(value: Any, what: str) -> int:
    if type(value) is not int or not 0 < value <= MOST:
        raise Unfit(f"its {what} is no number between 1 and {MOST:,}")
    return value


def _text(text: dict[str, Any]) -> dict[str, Any]:
    sizes = _sizes(text, "text_config") | {"heads": text["num_attention_heads"]}
    return sizes | {"context_length": text["max_position_embeddings"], "vocab_size": text["vocab_size"]}


def _sizes(tower: dict[str, Any], name: str) -> dict[str, Any]:
    """The settings that both kinds of tower share."""
    width, hidden = tower["hidden_size"], tower["intermediate_size"]
    ratio = hidden / width
    if int(width * ratio) != hidden:  # open_clip rounds the product down
        ratio = (hidden + 0.5) / width
    sizes: dict[str, Any] = {"width": width, "layers": tower["num_hidden_layers"], "mlp_ratio": ratio}
    if tower["layer_norm_eps"] != EPS:
        sizes["norm_kwargs"] = {"eps": tower["layer_norm_eps"]}
    if tower["hidden_act"] == "gelu_pytorch_tanh":
        sizes["act_kwargs"] = {"approximate": "tanh"}
    _head_width(tower, name)
    return sizes


def _head_width(tower: dict[str, Any], name: str) -> int:
    width, heads = tower["hidden_size"], tower["num_attention_heads"]
    if width % heads:
        raise Unfit(f"its {name} has a width of {width}, which {heads} heads do not divide")
    return width // heads


def is_clip_vocabulary(data: dict[str, Any]) -> bool:
    """Whether such a config is one for CLIP's own tokenizer, by the size of its vocabulary and the id of its last token."""
    text = _tower(data, "text_config", CLIP_TEXT)
    return model_type(data) == "clip" and text["vocab_size"] == TOKENS and text["eos_token_id"] in (LEGACY_EOS, TOKENS - 1)


def tensor_files(index: Any, what: str) -> dict[str, list[str]]:
    """The files of a checkpoint in several parts, each with the names of its tensors, from its `*.index.json`.

    Raises:
        ValueError: it is none, or names a file outside the folder.
    """
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{what} has no weight_map: is it the index of a model in several files?")
    files: dict[str, list[str]] = {}
    for tensor, file in names.items():
        if not isinstance(file, str) or not re.fullmatch(r"[\w-][\w.-]{0,199}\.(safetensors|bin)", file):
            raise ValueError(f"{what} has {str(file)[:80]!r} in its weight_map, which is no file of the folder.")
        files.setdefault(file, []).append(tensor)
    return files
