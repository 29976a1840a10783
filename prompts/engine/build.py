"""open_clip models from checked configs."""

from __future__ import annotations

from typing import Any

import torch
from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CustomTextCLIP
from torch import nn

from prompts.engine.hf_config import checked_folder

KNOWN = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_bias")


def is_plain(config: dict[str, Any]) -> bool:
    """Whether both towers are open_clip's own, so that everything they compute with is among their weights."""
    return not (config["text_cfg"].get("hf_model_name") or config["vision_cfg"].get("timm_model_name"))


def build(config: dict[str, Any], empty: bool = False) -> nn.Module:
    """An open_clip model from its config: randomly initialised, always with the same numbers, or without any (`empty`, on the
    meta device) for weights that are about to be assigned. Nothing is downloaded but the config of a text tower on the hub.

    The model is a CLIP, a CustomTextCLIP (`custom_text`, or a text tower of Hugging Face's) or a CoCa (`multimodal_cfg`), as in
    open_clip's factory.

    Raises:
        ValueError: a tower needs a package that is not installed, or its config is not that of a text tower.
    """
    if name := config["text_cfg"].get("hf_model_name"):
        _check_transformers()
        with checked_folder(name) as folder:
            text = config["text_cfg"] | {"hf_model_name": folder, "hf_model_pretrained": False}
            return _built(config | {"text_cfg": text}, empty)
    return _built(config, empty)


def _built(config: dict[str, Any], empty: bool) -> nn.Module:
    """The model of a config whose text tower is open_clip's, or whose name is a folder."""
    text, vision = dict(config["text_cfg"]), dict(config["vision_cfg"])
    kind: type[nn.Module] = CLIP
    if config.get("custom_text") or text.get("hf_model_name"):
        kind = CoCa if "multimodal_cfg" in config else CustomTextCLIP
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    arguments = {k: config[k] for k in KNOWN if k in config} | {"text_cfg": text, "vision_cfg": vision}
    if kind is CoCa:
        arguments["multimodal_cfg"] = config["multimodal_cfg"]
    if not empty:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return kind(**arguments)
    with torch.device("meta"):
        model = kind(**arguments)
    for part in (model, getattr(model, "text", None)):
        if (mask := getattr(part, "attn_mask", None)) is not None:  # a buffer that no checkpoint holds
            part.attn_mask = torch.full(mask.shape, float("-inf")).triu_(1)
    return model


def _check_transformers() -> None:
    """ValueError where the package of Hugging Face's text towers is missing."""
    try:
        import transformers  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise ValueError("this CLIP's text tower needs the package transformers: pip install transformers") from error
