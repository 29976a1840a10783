"""Which CLIP a name means: its architecture, where its weights are, and what is known of its activation.

A config of open_clip's may be a stranger's file: its keys, types and sizes are checked before anything is built from it.
"""

from __future__ import annotations

import dataclasses
import types
import typing
import urllib.error
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
from open_clip.factory import _find_checkpoint_in_dir
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from open_clip.pretrained import download_pretrained, download_pretrained_from_hf, get_pretrained_cfg

from files.untrusted import read_json

WAYS_OUT = (
    "give a local file (clip.weights=/path/to/weights.safetensors or OpenAI's .pt), or use clip=tiny, which needs no download"
)
RANDOM = "random"
HUB, FOLDER, FOLDER_CONFIG = "hf-hub:", "local-dir:", "open_clip_config.json"
MAX_CONFIG_BYTES = 2**20
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
MAY_BE_ZERO = ("pad_id", "eos_id", "patch_dropout", "timm_drop", "timm_drop_path")


class Source(NamedTuple):
    """A CLIP before it is built.

    `weights`: a path; None for random ones. `activation`: "quickgelu", "gelu", or None where it depends on the weights.
    """

    config: dict[str, Any]
    image: dict[str, tuple[float, ...]]
    weights: str | None
    activation: str | None


def find(model: str, weights: str | None) -> Source:
    """What `prompts.clip.load` is to build. Raises ValueError with a way out."""
    for key, value in (("model", model), ("weights", weights)):
        if not isinstance(value, str) and not (key == "weights" and value is None):
            raise ValueError(f"clip.{key}={value} is no text: give a name or a path.")
    own = None  # the weights that the model brings
    if model.startswith(HUB):
        data, own = _from_hub(model.removeprefix(HUB), fetch=weights is None)
    elif model.startswith(FOLDER):
        data, own = _from_folder(Path(model.removeprefix(FOLDER)).expanduser())
    elif model.endswith(".json"):
        data = read_json(Path(model).expanduser(), "the CLIP model config", MAX_CONFIG_BYTES)
    elif (data := open_clip.get_model_config(model)) is None:
        raise ValueError(
            f"open_clip knows no architecture {model!r}: see open_clip.list_models(), for example ViT-B-16-quickgelu."
        )
    config, image = _checked(data, model)
    known = _activation(config) if model.endswith(".json") and "quick_gelu" in config else None
    if isinstance(data, dict) and "model_cfg" in data:
        known = _activation(config)  # in files of this kind no word means GELU
    if weights is None and own is None:
        raise ValueError(
            f"clip.model={model} brings no weights: give clip.weights=FILE, a tag of open_clip's such as openai, or random for "
            "random numbers."
        )
    if weights and (tag := get_pretrained_cfg(model, weights)):
        config["quick_gelu"] = bool(tag.get("quick_gelu", False))  # the weights decide; a wrong activation fails silently
        path = _download(tag, f"{model} with weights {weights!r}")
        return Source(config, {"image_mean": tag["mean"], "image_std": tag["std"]}, path, _activation(config))
    if weights and weights != RANDOM and not Path(weights).expanduser().is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ValueError(
            f"CLIP weights {weights!r} are neither a file nor a tag of {model} (its tags: {tags}), and not the word random."
        )
    return Source(config, image, None if weights == RANDOM else weights or own, known)


def activation(said: str | None, source: Source, is_openai: bool, model: str) -> str:
    """The activation of the towers, by the user or by the files; ValueError where they differ or nobody says it."""
    if said not in (None, "quickgelu", "gelu"):
        raise ValueError(f"clip.activation={said}: choose quickgelu or gelu, or null where the model or its weights say.")
    if source.weights is None:
        return said or _activation(source.config)
    known = source.activation
    if is_openai and known == "gelu":
        raise ValueError(f"{source.weights} is OpenAI's, with QuickGELU, but {model} says GELU: choose a model that fits it.")
    known = "quickgelu" if is_openai else known
    if said and known and said != known:
        raise ValueError(f"clip.activation={said}, but {source.weights if is_openai else model} has {known}: leave it out.")
    if not (said or known):
        raise ValueError(
            f"CLIP weights {source.weights} do not say whether they were trained with QuickGELU or GELU, and the wrong one "
            "fails silently: add clip.activation=quickgelu (OpenAI's weights) or clip.activation=gelu (most others)."
        )
    return said or known


def _activation(config: dict[str, Any]) -> str:
    return "quickgelu" if config.get("quick_gelu") else "gelu"


def _download(tag: dict[str, Any], what: str) -> str:
    try:
        return download_pretrained(tag)
    except (OSError, urllib.error.URLError, RuntimeError) as error:
        raise ValueError(f"{what} cannot be downloaded, the hub is out of reach: {WAYS_OUT}.") from error


def _from_hub(hub_id: str, fetch: bool) -> tuple[Any, str | None]:
    try:
        path = download_pretrained_from_hf(hub_id, filename=FOLDER_CONFIG)
        weights = download_pretrained_from_hf(hub_id) if fetch else None
    except (OSError, urllib.error.URLError, RuntimeError) as error:
        raise ValueError(
            f"the CLIP hf-hub:{hub_id} cannot be downloaded, the hub is out of reach or has no such id: {WAYS_OUT}."
        ) from error
    return _whole_config(path), weights


def _from_folder(folder: Path) -> tuple[Any, str | None]:
    return _whole_config(folder / FOLDER_CONFIG), _find_checkpoint_in_dir(folder)


def _whole_config(path: str | Path) -> dict[str, Any]:
    data = read_json(path, "the CLIP model config", MAX_CONFIG_BYTES)
    if not isinstance(data, dict) or "model_cfg" not in data:
        raise ValueError(f"the CLIP model config {path} has no model_cfg: give a folder or an id in open_clip's format.")
    return data


# ---------------------------------------------------------------- what a config may say


def _checked(data: Any, model: str) -> tuple[dict[str, Any], dict[str, tuple[float, ...]]]:
    """open_clip's config of an architecture, and the images' mean and deviation where it says them."""

    def refuse(why: str) -> typing.NoReturn:
        raise ValueError(f"the architecture of clip.model={model} cannot be used: {why}.")

    if not isinstance(data, dict):
        refuse("its config is no object")
    config, pixels = data, {key.removeprefix("image_"): data[key] for key in ("image_mean", "image_std") if key in data}
    if "model_cfg" in data:
        config, pixels = data["model_cfg"], data.get("preprocess_cfg") or {}
    if not isinstance(config, dict) or not isinstance(pixels, dict):
        refuse("its model_cfg or preprocess_cfg is no object")
    known = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
    config = {key: value for key, value in config.items() if key not in ("image_mean", "image_std")}
    if missing := known - {"quick_gelu"} - set(config):
        refuse(f"its config lacks {', '.join(sorted(missing))}")
    if unknown := [key for key in config if key not in known]:
        refuse(f"its config has the key {unknown[0][:80]!r}, which a plain CLIP does not have")
    if type(config.get("quick_gelu", False)) is not bool:
        refuse("quick_gelu is neither true nor false")
    if wrong := _wrong_number("embed_dim", config["embed_dim"]):
        refuse(wrong)
    for name, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        if not isinstance(config[name], dict):
            refuse(f"{name} is no object")
        if config[name].get("timm_model_name") or config[name].get("hf_model_name"):
            refuse("a tower is not open_clip's own transformer or ResNet")
        if wrong := _wrong_tower(config[name], kind):
            refuse(f"{name}.{wrong}")
    if wrong := _wrong_sizes(CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"])):
        refuse(wrong)
    image = {}
    for key in ("mean", "std"):
        if key in pixels:
            if not _is_colour(pixels[key]) or (key == "std" and min(pixels[key]) <= 0):
                refuse(f"image {key} is not three numbers")
            image[f"image_{key}"] = tuple(map(float, pixels[key]))
    return config, image


def _is_colour(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(type(v) in (int, float) and abs(v) < 1e6 for v in value)


def _wrong_tower(tower: dict[str, Any], kind: type) -> str | None:
    """The first key of a tower's config that has a wrong name, type or size, and why."""
    hints = typing.get_type_hints(kind)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    for key, value in tower.items():
        if key not in hints:
            return f"{key[:80]} is no key of open_clip's"
        hint = hints[key]
        allowed = {typing.get_origin(h) or h for h in (typing.get_args(hint) if _is_union(hint) else (hint,))}
        allowed |= {int} if float in allowed else set()
        if value is None and (defaults[key] is None or key == "patch_size"):  # a ResNet has none
            continue
        found = tuple if isinstance(value, list) else type(value)
        if found not in allowed:
            return f"{key} is a {type(value).__name__}"
        numbers = value if isinstance(value, list) else [value] if found in (int, float) else []
        for number in numbers:
            if wrong := _wrong_number(key, number):
                return wrong
        for name, option in value.items() if isinstance(value, dict) else ():
            if name not in OPTIONS[key] or not (isinstance(option, str) or (name == "eps" and type(option) is float)):
                return f"{key} has {name[:80]!r}, which is not understood here"
    return None


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _wrong_number(key: str, value: Any) -> str | None:
    most = LIMITS.get(key, 4096)
    if type(value) not in (int, float) or (type(value) is float and key not in FRACTIONS):
        return f"{key} is no {'number' if key in FRACTIONS else 'integer'}"
    if not 0 <= value <= (2**21 if key in ("pad_id", "eos_id") else most) or (value == 0 and key not in MAY_BE_ZERO):
        return f"{key} is not between 0 and {most:,}"
    return None


def _wrong_sizes(vision: CLIPVisionCfg, text: CLIPTextCfg) -> str | None:
    """What each key allows and all of them together do not."""
    if text.hf_tokenizer_name or text.vocab_size < TOKENS:
        return f"its text tower is not made for CLIP's tokenizer ({TOKENS:,} tokens)"
    is_resnet = isinstance(vision.layers, list)
    if is_resnet and len(vision.layers) != 4:
        return "vision_cfg.layers is neither an integer nor four"
    sides = vision.image_size if isinstance(vision.image_size, list) else [vision.image_size] * 2
    if len(sides) != 2 or sides[0] != sides[1]:
        return "vision_cfg.image_size is not that of a square"
    patch = 32 if is_resnet else vision.patch_size
    if patch is None or patch > sides[0]:
        return "vision_cfg.patch_size is larger than the image"
    if (sides[0] // patch) ** 2 * vision.width > MAX_POSITIONS:
        return "its image tower has too many patches"
    clean = (text.tokenizer_kwargs or {}).get("clean", "lower")
    if clean not in ("lower", "canonicalize", "whitespace"):
        return "text_cfg.tokenizer_kwargs.clean is neither lower nor canonicalize nor whitespace"
    return None
