"""Checks of a config in open_clip's format, which anyone may have made: its keys, types and sizes."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from open_clip.model import CLIPTextCfg, CLIPVisionCfg

TOKENS = 49408  # of CLIP's vocabulary; a model for another tokenizer has another number
# the most that a number of an architecture can be: several times what any published CLIP has
LIMITS = {
    "embed_dim": 8192,
    "width": 8192,
    "layers": 256,
    "heads": 256,
    "head_width": 1024,
    "mlp_ratio": 32,
    "patch_size": 1024,
    "image_size": 4096,
    "context_length": 2048,
    "vocab_size": 2**21,
}
MAX_POSITIONS = 2**25  # elements of the image tower's positional embedding
OPTIONS = {"norm_kwargs": ("eps",), "act_kwargs": ("approximate",), "tokenizer_kwargs": ("clean",)}
FRACTIONS = ("mlp_ratio", "ls_init_value", "patch_dropout", "timm_drop", "timm_drop_path")
IMAGE_KEYS = ("image_mean", "image_std")
MAY_BE_ZERO = ("pad_id", "eos_id", "patch_dropout", "timm_drop", "timm_drop_path")


def checked(data: Any, model: str) -> tuple[dict[str, Any], dict[str, tuple[float, ...]]]:
    """The config of an architecture (embed_dim, vision_cfg, text_cfg, perhaps quick_gelu), and `image_mean` and `image_std`
    where the file says them.

    Raises:
        ValueError: one sentence, where it is no config of a plain CLIP.
    """
    try:
        config, pixels = _parts(data)
        _check_keys(config)
        for name, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
            _check_tower(name, config[name], kind)
        _check_sizes(CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"]))
        return config, _image_numbers(pixels)
    except _Unfit as why:
        raise ValueError(f"the architecture of clip.model={model} cannot be used: {why}.") from None


class _Unfit(Exception):
    """The reason, as a phrase, why a config does not describe a plain CLIP."""


def _parts(data: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The towers' part of a config and the part about images, in either of open_clip's two layouts."""
    if not isinstance(data, dict):
        raise _Unfit("its config is no object")
    if "model_cfg" in data:
        config, pixels = data["model_cfg"], data.get("preprocess_cfg") or {}
        if not isinstance(config, dict) or not isinstance(pixels, dict):
            raise _Unfit("its model_cfg or preprocess_cfg is no object")
    else:
        config, pixels = data, {key.removeprefix("image_"): data[key] for key in IMAGE_KEYS if key in data}
    return {key: value for key, value in config.items() if key not in IMAGE_KEYS}, pixels


def _check_keys(config: dict[str, Any]) -> None:
    """Checks the keys beside those of the two towers."""
    known = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
    if missing := known - {"quick_gelu"} - set(config):
        raise _Unfit(f"its config lacks {', '.join(sorted(missing))}")
    if unknown := [key for key in config if key not in known]:
        raise _Unfit(f"its config has the key {unknown[0][:80]!r}, which a plain CLIP does not have")
    if type(config.get("quick_gelu", False)) is not bool:
        raise _Unfit("quick_gelu is neither true nor false")
    if wrong := _wrong_number("embed_dim", config["embed_dim"]):
        raise _Unfit(wrong)


def _check_tower(name: str, tower: Any, kind: type) -> None:
    """Checks one tower's config: its keys, their types and sizes."""
    if not isinstance(tower, dict):
        raise _Unfit(f"{name} is no object")
    if tower.get("timm_model_name") or tower.get("hf_model_name"):
        raise _Unfit("a tower is not open_clip's own transformer or ResNet")
    hints = typing.get_type_hints(kind)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    for key, value in tower.items():
        if key not in hints:
            raise _Unfit(f"{name}.{key[:80]} is no key of open_clip's")
        if value is None and (defaults[key] is None or key == "patch_size"):  # a ResNet has none
            continue
        if wrong := _wrong_value(key, value, hints[key]):
            raise _Unfit(f"{name}.{wrong}")


def _wrong_value(key: str, value: Any, hint: Any) -> str | None:
    """What is wrong with the value of a tower's key, whose type in open_clip is `hint`; "" where nothing is."""
    allowed = {typing.get_origin(h) or h for h in (typing.get_args(hint) if _is_union(hint) else (hint,))}
    allowed |= {int} if float in allowed else set()
    kind = tuple if isinstance(value, list) else type(value)
    if kind not in allowed:
        return f"{key} is a {type(value).__name__}"
    for number in value if isinstance(value, list) else [value] if kind in (int, float) else []:
        if wrong := _wrong_number(key, number):
            return wrong
    for name, option in value.items() if isinstance(value, dict) else ():
        if name not in OPTIONS[key] or not (isinstance(option, str) or (name == "eps" and type(option) is float)):
            return f"{key} has {name[:80]!r}, which is not understood here"
    return None


def _image_numbers(pixels: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    """`image_mean` and `image_std`, three numbers each, as far as the config has them."""
    image = {}
    for key in ("mean", "std"):
        if key in pixels:
            if not _is_colour(pixels[key]) or (key == "std" and min(pixels[key]) <= 0):
                raise _Unfit(f"image {key} is not three numbers")
            image[f"image_{key}"] = tuple(map(float, pixels[key]))
    return image


def _is_colour(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(type(v) in (int, float) and abs(v) < 1e6 for v in value)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _wrong_number(key: str, value: Any) -> str | None:
    """What is wrong with a number of an architecture."""
    most = LIMITS.get(key, 4096)
    if type(value) not in (int, float) or (type(value) is float and key not in FRACTIONS):
        return f"{key} is no {'number' if key in FRACTIONS else 'integer'}"
    if not 0 <= value <= (2**21 if key in ("pad_id", "eos_id") else most) or (value == 0 and key not in MAY_BE_ZERO):
        return f"{key} is not between 0 and {most:,}"
    return None


def _check_sizes(vision: CLIPVisionCfg, text: CLIPTextCfg) -> None:
    """Checks that the sizes, each of which is allowed, also fit together."""
    if text.hf_tokenizer_name or text.vocab_size < TOKENS:
        raise _Unfit(f"its text tower is not made for CLIP's tokenizer ({TOKENS:,} tokens)")
    is_resnet = isinstance(vision.layers, list)
    if is_resnet and len(vision.layers) != 4:
        raise _Unfit("vision_cfg.layers is neither an integer nor four")
    sides = vision.image_size if isinstance(vision.image_size, list) else [vision.image_size] * 2
    if len(sides) != 2 or sides[0] != sides[1]:
        raise _Unfit("vision_cfg.image_size is not that of a square")
    patch = 32 if is_resnet else vision.patch_size
    if patch is None or patch > sides[0]:
        raise _Unfit("vision_cfg.patch_size is larger than the image")
    if (sides[0] // patch) ** 2 * vision.width > MAX_POSITIONS:
        raise _Unfit("its image tower has too many patches")
    clean = (text.tokenizer_kwargs or {}).get("clean", "lower")
    if clean not in ("lower", "canonicalize", "whitespace"):
        raise _Unfit("text_cfg.tokenizer_kwargs.clean is neither lower nor canonicalize nor whitespace")
