"""From the name of a CLIP to its architecture, the place of its weights, and its activation as far as it is known.

Anyone may have made a config in open_clip's format: `prompts.engine.clip_config` checks it before anything is built from it.
"""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
from open_clip.pretrained import download_pretrained, download_pretrained_from_hf, get_pretrained_cfg

from files.untrusted import read_json
from prompts.engine import weight_folder
from prompts.engine.clip_config import checked

WAYS_OUT = (
    "give a local file (clip.weights=/path/to/weights.safetensors or OpenAI's .pt), or use clip=tiny, which needs no download"
)
RANDOM = "random"
HUB, FOLDER = "hf-hub:", "local-dir:"
MAX_CONFIG_BYTES = 2**20


class Source(NamedTuple):
    """A CLIP before it is built.

    `config`: open_clip's, with embed_dim, vision_cfg and text_cfg. `image`: `image_mean` and `image_std`, where they are known.
    `weights`: a path; None for random ones. `activation`: "quickgelu", "gelu", or None where it depends on the weights.
    """

    config: dict[str, Any]
    image: dict[str, tuple[float, ...]]
    weights: str | None
    activation: str | None


def find(model: str, weights: str | None) -> Source:
    """What `prompts.engine.clip.load_clip` is to build. Downloads the weights of a tag or a hub id. ValueError with a
    way out."""
    for key, value in (("model", model), ("weights", weights)):
        if not isinstance(value, str) and not (key == "weights" and value is None):
            raise ValueError(f"clip.{key}={value} is no text: give a name or a path.")
    brought = None  # the weights that come with the model's config
    if model.startswith(HUB):
        data, brought = _from_hub(model.removeprefix(HUB), fetch=weights is None)
    elif model.startswith(FOLDER):
        data, brought = _from_folder(Path(model.removeprefix(FOLDER)).expanduser())
    elif model.endswith(".json"):
        data = read_json(Path(model).expanduser(), "the CLIP model config", MAX_CONFIG_BYTES)
    elif (data := open_clip.get_model_config(model)) is None:
        raise ValueError(
            f"open_clip knows no architecture {model!r}: see open_clip.list_models(), for example ViT-B-16-quickgelu."
        )
    config, image = checked(data, model)
    known = _activation(config) if model.endswith(".json") and "quick_gelu" in config else None
    if isinstance(data, dict) and "model_cfg" in data:
        known = _activation(config)  # a config without quick_gelu means GELU
    if weights is None and brought is None and model.startswith(FOLDER):
        raise ValueError(
            f"clip.model={model} holds no weights named {weight_folder.WEIGHTS[0]} or the like: give clip.weights=FILE."
        )
    if weights is None and brought is None:
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
    return Source(config, image, None if weights == RANDOM else weights or brought, known)


def activation(given: str | None, source: Source, is_openai: bool, model: str) -> str:
    """The activation of the towers, "quickgelu" or "gelu": as the user has `given` it, or as the files say; ValueError where
    the two differ or neither says it."""
    if given not in (None, "quickgelu", "gelu"):
        raise ValueError(f"clip.activation={given}: choose quickgelu or gelu, or null where the model or its weights say.")
    if source.weights is None:
        return given or _activation(source.config)
    known = source.activation
    if is_openai and known == "gelu":
        raise ValueError(f"{source.weights} is OpenAI's, with QuickGELU, but {model} says GELU: choose a model that fits it.")
    known = "quickgelu" if is_openai else known
    if given and known and given != known:
        raise ValueError(f"clip.activation={given}, but {source.weights if is_openai else model} has {known}: leave it out.")
    if not (given or known):
        raise ValueError(
            f"CLIP weights {source.weights} do not say whether they were trained with QuickGELU or GELU, and the wrong one "
            "fails silently: add clip.activation=quickgelu (OpenAI's weights) or clip.activation=gelu (most others)."
        )
    return given or known


def _activation(config: dict[str, Any]) -> str:
    return "quickgelu" if config.get("quick_gelu") else "gelu"


def _download(tag: dict[str, Any], what: str) -> str:
    try:
        return download_pretrained(tag)
    except (OSError, urllib.error.URLError, RuntimeError) as error:
        raise ValueError(f"{what} cannot be downloaded, the hub is out of reach: {WAYS_OUT}.") from error


def _from_hub(hub_id: str, fetch: bool) -> tuple[Any, str | None]:
    try:
        path = download_pretrained_from_hf(hub_id, filename=weight_folder.CONFIG)
        weights = download_pretrained_from_hf(hub_id) if fetch else None
    except (OSError, urllib.error.URLError, RuntimeError) as error:
        raise ValueError(
            f"the CLIP hf-hub:{hub_id} cannot be downloaded, the hub is out of reach or has no such id: {WAYS_OUT}."
        ) from error
    return _whole_config(path), weights


def _from_folder(folder: Path) -> tuple[Any, str | None]:
    files = (folder / name for name in weight_folder.WEIGHTS if (folder / name).is_file())
    return _whole_config(folder / weight_folder.CONFIG), next(map(str, files), None)


def _whole_config(path: str | Path) -> dict[str, Any]:
    data = read_json(path, "the CLIP model config", MAX_CONFIG_BYTES)
    if not isinstance(data, dict) or "model_cfg" not in data:
        raise ValueError(f"the CLIP model config {path} has no model_cfg: give a folder or an id in open_clip's format.")
    return data
