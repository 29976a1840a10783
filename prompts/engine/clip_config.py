"""Checks of a config in open_clip's format, which anyone may have made: its keys, types, sizes and names.

Accepted are the arguments of `open_clip.model.CLIP`, `CustomTextCLIP` and `open_clip.coca_model.CoCa`, within bounds. None of
them makes open_clip fetch weights: towers of timm and of transformers are given by name, never by an address, and without
weights.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

import timm
from open_clip.coca_model import MultimodalCfg
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from prompts.engine.preprocessing import Unfit, of_open_clip

TOKENS = 49408  # of CLIP's vocabulary; a model for another tokenizer has another number
# the most that a number of an architecture can be: several times what any published CLIP has
LIMITS = {
    "embed_dim": 8192,
    "width": 8192,
    "layers": 256,
    "heads": 256,
    "head_width": 1024,
    "dim_head": 1024,
    "mlp_ratio": 32,
    "patch_size": 1024,
    "image_size": 4096,
    "context_length": 2048,
    "vocab_size": 2**21,
    "pad_id": 2**21,
    "eos_id": 2**21,
    "init_logit_scale": 100,
    "init_logit_bias": 1000,
}
MAX_POSITIONS = 2**25  # elements of the image tower's positional embedding
MAX_NAME = 200  # characters
# the options of each mapping with their types
OPTIONS: dict[str, dict[str, type]] = {
    "norm_kwargs": {"eps": float},
    "act_kwargs": {"approximate": str},
    "tokenizer_kwargs": {"clean": str, "strip_sep_token": bool, "language": str},
}
CLEANINGS = ("lower", "canonicalize", "whitespace")
FRACTIONS = (
    "mlp_ratio",
    "ls_init_value",
    "patch_dropout",
    "timm_drop",
    "timm_drop_path",
    "init_logit_scale",
    "init_logit_bias",
)
MAY_BE_ZERO = ("pad_id", "eos_id", "patch_dropout", "timm_drop", "timm_drop_path", "init_logit_scale", "init_logit_bias")
MAY_BE_NEGATIVE = ("init_logit_scale", "init_logit_bias")
MAY_BE_NULL = ("patch_size", "timm_proj", "hf_proj_type", "hf_pooler_type")  # beside those whose default is null
FLAGS = ("quick_gelu", "custom_text", "nonscalar_logit_scale")
NUMBERS = ("embed_dim", "init_logit_scale", "init_logit_bias")
TOWERS = {"vision_cfg": CLIPVisionCfg, "text_cfg": CLIPTextCfg, "multimodal_cfg": MultimodalCfg}
NEEDED = ("embed_dim", "vision_cfg", "text_cfg")
IMAGE_KEYS = ("image_mean", "image_std")
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def checked(data: Any, model: str, brings_tokenizer: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config of an architecture, in open_clip's keys, and what it says about images: `image_mean`, `image_std`,
    `interpolation` and `resize_mode`, as far as it says them.

    Args:
        brings_tokenizer: whether a tokenizer is known that the config does not name.

    Raises:
        ValueError: one sentence, where it is no config of open_clip's.
    """
    try:
        config, pixels = _parts(data)
        _check_keys(config)
        for name, kind in TOWERS.items():
            if name in config:
                _check_tower(name, config[name], kind)
        vision, text = CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"])
        _check_image_tower(vision)
        _check_text_tower(text, brings_tokenizer)
        return _without_downloads(config), of_open_clip(pixels, vision.image_size)
    except Unfit as why:
        raise ValueError(f"the architecture of clip.model={model} cannot be used: {why}.") from None


def _parts(data: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The towers' part of a config and the part about images, in either of open_clip's two layouts."""
    if not isinstance(data, dict):
        raise Unfit("its config is no object")
    if "model_cfg" in data:
        config, pixels = data["model_cfg"], data.get("preprocess_cfg") or {}
        if not isinstance(config, dict) or not isinstance(pixels, dict):
            raise Unfit("its model_cfg or preprocess_cfg is no object")
    else:
        config, pixels = data, {key.removeprefix("image_"): data[key] for key in IMAGE_KEYS if key in data}
    return {key: value for key, value in config.items() if key not in IMAGE_KEYS}, pixels


def _check_keys(config: dict[str, Any]) -> None:
    """Checks the keys beside those of the towers."""
    if missing := [key for key in NEEDED if key not in config]:
        raise Unfit(f"its config lacks {', '.join(missing)}")
    if unknown := [key for key in config if key not in (*FLAGS, *NUMBERS, *TOWERS)]:
        raise Unfit(f"its config has the key {unknown[0][:80]!r}, which no config of open_clip's has")
    for key in FLAGS:
        if type(config.get(key, False)) is not bool:
            raise Unfit(f"{key} is neither true nor false")
    for key in NUMBERS:
        if key == "init_logit_bias" and config.get(key) is None:
            continue
        if key in config and (wrong := _wrong_number(key, config[key])):
            raise Unfit(wrong)
    if "multimodal_cfg" in config and not config.get("custom_text"):
        raise Unfit("it has a multimodal_cfg without custom_text, which open_clip builds nothing from")


def _check_tower(name: str, tower: Any, kind: type) -> None:
    """Checks one tower's config: its keys, their types and sizes."""
    if not isinstance(tower, dict):
        raise Unfit(f"{name} is no object")
    hints = typing.get_type_hints(kind)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    for key, value in tower.items():
        if key not in hints:
            raise Unfit(f"{name}.{key[:80]} is no key of open_clip's")
        if value is None and (defaults[key] is None or key in MAY_BE_NULL):
            continue
        if wrong := _wrong_value(key, value, hints[key]):
            raise Unfit(f"{name}.{wrong}")


def _wrong_value(key: str, value: Any, hint: Any) -> str | None:
    """What is wrong with the value of a tower's key, whose type in open_clip is `hint`; None where nothing is."""
    allowed = {typing.get_origin(h) or h for h in (typing.get_args(hint) if _is_union(hint) else (hint,))}
    allowed |= {int} if float in allowed else set()
    kind = tuple if isinstance(value, list) else type(value)
    if kind not in allowed:
        return f"{key} is a {type(value).__name__}"
    if kind is str and (len(value) > MAX_NAME or not value.isprintable()):
        return f"{key} is longer than {MAX_NAME} characters or not printable"
    numbers = value if isinstance(value, list) else [value] if kind in (int, float) else []
    wrongs = (_wrong_number(key, number) for number in numbers)
    return next(filter(None, wrongs), None) or next(_wrong_options(key, value if isinstance(value, dict) else {}), None)


def _wrong_options(key: str, options: dict[str, Any]) -> Iterator[str]:
    for name, option in options.items():
        if name not in OPTIONS[key] or type(option) is not OPTIONS[key][name]:
            yield f"{key} has {name[:80]!r}, which is not understood here"


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _wrong_number(key: str, value: Any) -> str | None:
    """What is wrong with a number of an architecture."""
    most = LIMITS.get(key, 4096)
    least = -most if key in MAY_BE_NEGATIVE else 0
    if type(value) not in (int, float) or (type(value) is float and key not in FRACTIONS):
        return f"{key} is no {'number' if key in FRACTIONS else 'integer'}"
    if not least <= value <= most or (value == 0 and key not in MAY_BE_ZERO):
        return f"{key} is not between {least:,} and {most:,}"
    return None


def _check_image_tower(vision: CLIPVisionCfg) -> None:
    """Checks that the sizes, each of which is allowed, also fit together, and that a tower of timm's is one."""
    sides = vision.image_size if isinstance(vision.image_size, list) else [vision.image_size] * 2
    if len(sides) != 2 or sides[0] != sides[1]:
        raise Unfit("vision_cfg.image_size is not that of a square")
    if name := vision.timm_model_name:
        if not timm.is_model(name):
            raise Unfit(f"vision_cfg.timm_model_name={name[:80]!r} is no model that timm {timm.__version__} has")
        return
    is_resnet = isinstance(vision.layers, list)
    if is_resnet and len(vision.layers) != 4:
        raise Unfit("vision_cfg.layers is neither an integer nor four")
    patch = 32 if is_resnet else vision.patch_size
    if patch is None or patch > sides[0]:
        raise Unfit("vision_cfg.patch_size is larger than the image")
    if (sides[0] // patch) ** 2 * vision.width > MAX_POSITIONS:
        raise Unfit("its image tower has too many patches")


def _check_text_tower(text: CLIPTextCfg, brings_tokenizer: bool) -> None:
    """Checks the names, the tokenizer's options and that the vocabulary is the tokenizer's."""
    for key in ("hf_model_name", "hf_tokenizer_name"):
        name = getattr(text, key) or "none"
        if not HUB_ID.fullmatch(name) or ".." in name:
            raise Unfit(f"text_cfg.{key}={name[:80]!r} is no id on the hub, of the form ORGANISATION/NAME")
    has_own = bool(brings_tokenizer or text.hf_tokenizer_name or text.hf_model_name)
    if not has_own and text.vocab_size < TOKENS:
        raise Unfit(f"its text tower names no tokenizer and is not made for CLIP's own ({TOKENS:,} tokens)")
    if text.tokenizer_mode not in (None, "", "clips"):
        raise Unfit("text_cfg.tokenizer_mode is not clips")
    options = text.tokenizer_kwargs or {}
    if not has_own and set(options) - {"clean"}:
        raise Unfit("text_cfg.tokenizer_kwargs has options that CLIP's own tokenizer does not have")
    clean = options.get("clean", "lower")
    if clean not in CLEANINGS:
        raise Unfit("text_cfg.tokenizer_kwargs.clean is neither lower nor canonicalize nor whitespace")


def _without_downloads(config: dict[str, Any]) -> dict[str, Any]:
    """The config with towers that are built without fetching weights."""
    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    if text.get("hf_model_name"):
        text["hf_model_pretrained"] = False
    return config | {"vision_cfg": vision, "text_cfg": text}
