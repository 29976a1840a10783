"""Finds, by the name of a CLIP, its architecture, weights, preprocessing, tokenizer and activation, as far as they are known.
Builds no model.

Names of architectures, tags and downloads are open_clip's own (`open_clip.get_model_config`, `open_clip.pretrained`). The rest
of its factory is not used: it unpickles weights by `torch.load`, runs TorchScript, builds from unchecked configs, and cannot
read transformers' folders. Anyone may have made a config: `prompts.engine.clip_config` checks it before anything is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import open_clip
from open_clip.pretrained import get_pretrained_cfg

from files.untrusted import read_json
from prompts.engine import preprocessing, transformers_config, weight_folder
from prompts.engine.clip_config import TOKENS, checked
from prompts.engine.hub import hub_file, hub_weights, optional_file, tag_weights
from prompts.engine.tokenizer_files import SIMPLE, TokenizerSpec, spec_of

RANDOM = "random"
HUB, FOLDER = "hf-hub:", "local-dir:"
MAX_CONFIG_BYTES = 2**20
QUICK = "-quickgelu"  # the end of the names of architectures that open_clip has with either activation


class Source(NamedTuple):
    """A CLIP before it is built.

    `config`: open_clip's, with embed_dim, vision_cfg and text_cfg. `image`: `image_mean`, `image_std`, `interpolation` and
    `resize_mode`, where they are known (open_clip's defaults are OpenAI's, bicubic and shortest). `weights`: a path; None for
    random ones. `activation`: "quickgelu", "gelu", or None where it depends on the weights.
    """

    config: dict[str, Any]
    image: dict[str, Any]
    weights: str | None
    activation: str | None
    tokenizer: TokenizerSpec

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        size = self.config["vision_cfg"].get("image_size", 224)
        return size[0] if isinstance(size, list) else size


class _Found(NamedTuple):
    """A config as it was found, before it is checked. `weights`: those that come with it. `processor`: transformers' config of
    the images, None where the config is open_clip's. `folder`: with the files of the model, if it is a folder or a hub id."""

    data: Any
    weights: str | None = None
    processor: Any = None
    folder: Path | None = None


def find(model: str, weights: str | None, tokenizer: str | None = None) -> Source:
    """The CLIP that `prompts.engine.clip.load_clip` is to build. Downloads the weights of a tag or a hub id. ValueError where
    it cannot be found."""
    for key, value in (("model", model), ("weights", weights), ("tokenizer", tokenizer)):
        if not isinstance(value, str) and not (key != "model" and value is None):
            raise ValueError(f"clip.{key}={value} is no text: give a name or a path.")
    found = _found(model, fetch=weights is None)
    is_transformers = transformers_config.is_transformers(found.data)
    data = transformers_config.of_transformers(found.data, model) if is_transformers else found.data
    given = tokenizer not in (None, SIMPLE)
    brings_tokenizer = given or (is_transformers and not transformers_config.is_clip_vocabulary(found.data))
    config, image = checked(data, model, brings_tokenizer)
    if is_transformers:
        image = _transformers_image(found, config, model)
    if found.folder is not None and (near := found.folder / config["text_cfg"].get("hf_model_name", "?")).is_dir():
        config["text_cfg"]["hf_model_name"] = str(near)  # the text tower's own config, in the same folder
    if weights is None and found.weights is None:
        raise ValueError(_no_weights(model))
    spec = _tokenizer(found, config, is_transformers, tokenizer)
    if spec.kind == SIMPLE and config["text_cfg"].get("vocab_size", TOKENS) < TOKENS:
        raise ValueError(f"clip.model={model} has fewer tokens than CLIP's own tokenizer: give another clip.tokenizer.")
    if weights and (tag := get_pretrained_cfg(model, weights)):
        config["quick_gelu"] = bool(tag.get("quick_gelu", False))  # decided by the weights; a wrong activation fails silently
        image |= preprocessing.of_open_clip(tag, config["vision_cfg"].get("image_size", 224))
        path = tag_weights(tag, f"{model} with weights {weights!r}")
        return Source(config, image, path, _activation(config), spec)
    if weights and weights != RANDOM and not Path(weights).expanduser().is_file():
        raise ValueError(_unknown_weights(model, weights))
    path = None if weights == RANDOM else weights or found.weights
    return Source(config, image, path, _known_activation(model, data, config, is_transformers), spec)


def activation(given: str | None, source: Source, is_openai: bool, model: str) -> str:
    """The activation of the towers, "quickgelu" or "gelu": the user's choice `given`, or that of the files; ValueError where
    the two differ or neither is known."""
    if given not in (None, "quickgelu", "gelu"):
        raise ValueError(f"clip.activation={given}: choose quickgelu or gelu, or null where the model or its weights say.")
    if source.weights is None:
        return given or _activation(source.config)
    known = source.activation
    if is_openai and known == "gelu":
        twin = f"{model}{QUICK}"
        better = f"clip.model={twin}" if twin in open_clip.list_models() else "a model that fits it"
        raise ValueError(f"{source.weights} is OpenAI's, with QuickGELU, but {model} says GELU: choose {better}.")
    known = "quickgelu" if is_openai else known
    if given and known and given != known:
        raise ValueError(f"clip.activation={given}, but {source.weights if is_openai else model} has {known}: leave it out.")
    if not (given or known):
        raise ValueError(
            f"CLIP weights {source.weights} do not say whether they were trained with QuickGELU or GELU, and the wrong one "
            f"fails silently: add clip.activation=quickgelu (OpenAI's weights) or clip.activation=gelu (most others)"
            f"{_beside(source.weights)}."
        )
    return given or known


def _activation(config: dict[str, Any]) -> str:
    return "quickgelu" if config.get("quick_gelu") else "gelu"


def _known_activation(model: str, data: Any, config: dict[str, Any], is_transformers: bool) -> str | None:
    """The activation that the model's own config decides, whatever weights come."""
    if is_transformers or (isinstance(data, dict) and "model_cfg" in data):
        return _activation(config)  # a config of a whole model without quick_gelu means GELU
    if model.endswith(".json"):
        return _activation(config) if "quick_gelu" in config else None
    # timm's towers have one activation each, and no published weights of theirs come with another one for the text
    return _activation(config) if config["vision_cfg"].get("timm_model_name") else None


def _beside(weights: str) -> str:
    """Where a config of transformers' lies beside the weights, the way to use it, as the end of a sentence."""
    folder = Path(weights).expanduser().parent
    if (folder / weight_folder.TRANSFORMERS_CONFIG).is_file() or (folder / weight_folder.CONFIG).is_file():
        return f", or use clip=hub clip.model={FOLDER}{folder}, whose config says it"
    return ""


def _no_weights(model: str) -> str:
    if model.startswith(FOLDER):
        return f"clip.model={model} holds no weights named {weight_folder.WEIGHTS[0]} or the like: give clip.weights=FILE."
    return (
        f"clip.model={model} brings no weights: give clip.weights=FILE, a tag of open_clip's such as openai, or random for "
        "random numbers."
    )


def _unknown_weights(model: str, weights: str) -> str:
    if Path(weights).expanduser().is_dir():
        return f"clip.weights={weights} is a folder: give a file in it, or use clip=hub clip.model={FOLDER}{weights}."
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
    return f"CLIP weights {weights!r} are neither a file nor a tag of {model} (its tags: {tags}), and not the word random."


def _tokenizer(found: _Found, config: dict[str, Any], is_transformers: bool, given: str | None) -> TokenizerSpec:
    text = config["text_cfg"]
    if is_transformers and given is None:
        if transformers_config.is_clip_vocabulary(found.data):
            given = SIMPLE
        else:  # its own, which lies beside it
            text = text | {"hf_tokenizer_name": str(found.folder)}
    return spec_of(text, found.folder, given)


# ---------------------------------------------------------------- where configs lie


def _found(model: str, fetch: bool) -> _Found:
    """`fetch`: whether the weights that come with a hub id are wanted."""
    if model.startswith(HUB):
        return _from_hub(model.removeprefix(HUB), fetch)
    if model.startswith(FOLDER):
        return _from_folder(Path(model.removeprefix(FOLDER)).expanduser())
    if model.endswith(".json"):
        return _Found(read_json(Path(model).expanduser(), "the CLIP model config", MAX_CONFIG_BYTES))
    if (data := open_clip.get_model_config(model)) is None:
        raise ValueError(
            f"open_clip knows no architecture {model!r}: see open_clip.list_models(), for example ViT-B-16-quickgelu."
        )
    return _Found(data)


def _from_hub(hub_id: str, fetch: bool) -> _Found:
    path = optional_file(hub_id, weight_folder.CONFIG)
    if path is not None:
        return _Found(_whole_config(path), hub_weights(hub_id, transformers=False) if fetch else None)
    path = hub_file(hub_id, weight_folder.TRANSFORMERS_CONFIG)
    data = _whole_config(path)
    weights = hub_weights(hub_id, transformers=True) if fetch else None
    processors = (optional_file(hub_id, name) for name in weight_folder.PROCESSORS)
    return _Found(data, weights, _processor(next(filter(None, processors), None)), Path(path).parent)


def _from_folder(folder: Path) -> _Found:
    if (folder / weight_folder.CONFIG).exists() or not (folder / weight_folder.TRANSFORMERS_CONFIG).is_file():
        data, names = _whole_config(folder / weight_folder.CONFIG), list(weight_folder.WEIGHTS)
    else:
        data, names = _whole_config(folder / weight_folder.TRANSFORMERS_CONFIG), list(weight_folder.TRANSFORMERS_WEIGHTS)
    files = (folder / name for name in names if (folder / name).is_file())
    processors = (folder / name for name in weight_folder.PROCESSORS if (folder / name).exists())
    return _Found(data, next(map(str, files), None), _processor(next(processors, None)), folder)


def _whole_config(path: str | Path) -> dict[str, Any]:
    data = read_json(path, "the CLIP model config", MAX_CONFIG_BYTES)
    if not isinstance(data, dict) or not ("model_cfg" in data or transformers_config.is_transformers(data)):
        raise ValueError(
            f"the CLIP model config {path} has no model_cfg: give a folder or an id in open_clip's or transformers' format."
        )
    return data


def _processor(path: str | Path | None) -> Any:
    return None if path is None else read_json(path, "the CLIP's image processor", MAX_CONFIG_BYTES)


def _transformers_image(found: _Found, config: dict[str, Any], model: str) -> dict[str, Any]:
    kind = transformers_config.model_type(found.data)
    try:
        return preprocessing.of_transformers(found.processor, kind, config["vision_cfg"]["image_size"])
    except preprocessing.Unfit as why:
        raise ValueError(f"the images of clip.model={model} cannot be prepared: {why}.") from None
