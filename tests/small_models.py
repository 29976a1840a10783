"""Every architecture that open_clip names, built small: fewer and narrower blocks, smaller images, a small vocabulary where the
tokenizer is not CLIP's own, random weights. Nothing is downloaded.

Names whose small configs are equal share one model.
"""

from __future__ import annotations

import json
import re
import tempfile
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import open_clip
import timm
import torch
from timm.models.vision_transformer_hybrid import ConvStem
from timm.models.vitamin import VitCfg, VitConvCfg

from datamodules.shapes import CLASSES
from prompts.engine.build import build
from prompts.engine.clip import FrozenCLIP
from prompts.engine.tokenizers import ClipTokenizer, FileTokenizer

WIDTH, HEADS, LAYERS, DIM = 64, 4, 3, 64
WORDS = ["a", "photo", "of", "x", "rose", "cat", "sea", "or", "lake", "dog", "tulip", "golden", "retriever", ".", ","]
WORDS += sorted({word for name in CLASSES for word in name.split()})
VOCABULARY = 96
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
TIMM_VIT = {"embed_dim": WIDTH, "depth": LAYERS, "num_heads": HEADS}
STAGES = {"layers": (1, 1, 1, 1), "embed_dims": (8, 8, 16, 32)}
STEM = VitCfg(embed_dim=(8, 16, WIDTH), depths=(1, 1, 1), stem_width=8, conv_cfg=VitConvCfg(norm_layer="layernorm2d"))
# By the start of timm's name: the arguments that make a model small, and its image size
SMALL_TIMM = {
    "convnext": ({"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}, 32),
    "fastvit_mci3": ({"layers": (1,) * 5, "embed_dims": (8, 8, 16, 32, 32)}, 64),
    "fastvit_mci4": ({"layers": (1,) * 5, "embed_dims": (8, 8, 16, 32, 32)}, 64),
    "fastvit": (STAGES, 64),
    "swin": ({"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 4), "img_size": 56}, 56),
    "vitamin": (TIMM_VIT | {"embed_cfg": STEM, "img_size": 32}, 32),
    "": (TIMM_VIT | {"img_size": 32}, 32),
}
SMALL_HF = {
    "roberta-base": {"model_type": "roberta", "pad_token_id": 1},
    "xlm-roberta-base": {"model_type": "xlm-roberta", "pad_token_id": 1},
    "xlm-roberta-large": {"model_type": "xlm-roberta", "pad_token_id": 1},
    "google/mt5-base": {"model_type": "mt5", "pad_token_id": 0},
    "google/mt5-xl": {"model_type": "mt5", "pad_token_id": 0},
    "facebook/nllb-200-distilled-600M": {"model_type": "m2m_100", "pad_token_id": 1},
    "facebook/nllb-200-distilled-1.3B": {"model_type": "m2m_100", "pad_token_id": 1},
}
FOLDER = tempfile.TemporaryDirectory()  # of their configs, until this process ends
HF_SIZES = {
    "bert": {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": HEADS, "intermediate_size": 96},
    "mt5": {"d_model": WIDTH, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": HEADS, "is_encoder_decoder": True},
    "m2m_100": {"d_model": WIDTH, "encoder_layers": 2, "encoder_attention_heads": HEADS, "encoder_ffn_dim": 96}
    | {"decoder_layers": 1, "decoder_attention_heads": HEADS, "decoder_ffn_dim": 96, "is_encoder_decoder": True},
}


class WordCore:
    """What `FileTokenizer` uses of a `tokenizers.Tokenizer`: whole words, with these tokens in front and behind."""

    padding = None

    def __init__(self, start: list[str], end: list[str], first: list[str] = SPECIAL):
        self.tokens = [*first, *(f"▁{word}" for word in WORDS)]
        self.start, self.end = ([self.tokens.index(t) for t in part] for part in (start, end))

    def no_padding(self) -> None:
        pass

    def no_truncation(self) -> None:
        pass

    def get_vocab_size(self) -> int:
        return len(self.tokens)

    def get_vocab(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    def get_added_tokens_decoder(self) -> dict:
        return {i: SimpleNamespace(special=True) for i, token in enumerate(self.tokens) if token.startswith("<")}

    def encode(self, text: str, add_special_tokens: bool = True):
        vocabulary, unknown = self.get_vocab(), self.tokens.index("<unk>")
        ids = [vocabulary.get(f"▁{word}", unknown) for word in re.findall(r"\w+|[^\w\s]", text)]
        return SimpleNamespace(ids=[*self.start, *ids, *self.end] if add_special_tokens else ids)

    def id_to_token(self, token: int) -> str:
        return self.tokens[token]

    def decode(self, ids: list[int]) -> str:
        return " ".join(self.tokens[i].lstrip("▁") for i in ids)


@cache
def small_tokenizer(kind: str, length: int, clean: str = "whitespace"):
    """Small tokenizers that put tokens where the published ones do."""
    if kind == "clip":
        return ClipTokenizer(context_length=length)
    core, pad, without_sep = {
        "xlm": (WordCore(["<s>"], ["</s>"]), 1, False),
        "t5": (WordCore([], ["</s>"], ["<pad>", "</s>", "<unk>"]), 0, False),
        "siglip": (WordCore([], ["</s>"], ["<unk>", "</s>"]), 1, False),
        "bert": (WordCore(["<s>"], ["</s>"], ["<pad>", "<unk>", "<s>", "</s>"]), 0, True),
    }[kind]
    return FileTokenizer(core, length, pad, clean, without_sep)


def tokenizer_kind(text: dict) -> str:
    name = text.get("hf_tokenizer_name", "")
    for part, kind in (("mt5", "t5"), ("SigLIP", "siglip"), ("bert-base", "bert")):
        if part in name:
            return kind
    return "xlm" if name else "clip"


def small_config(name: str) -> tuple[dict, str, str]:
    """The small config of an architecture, its tokenizer's kind and its way to clean text."""
    config = open_clip.get_model_config(name)
    vision, text = config["vision_cfg"], config["text_cfg"]
    config["embed_dim"] = DIM
    if trunk := vision.get("timm_model_name"):
        vision["image_size"] = next(size for start, (_, size) in SMALL_TIMM.items() if trunk.startswith(start))
        vision["timm_model_name"] = _one_of_its_kind(trunk)
        if vision.get("timm_proj") == "none":  # the trunk's width is the feature's
            config["embed_dim"] = WIDTH
    elif isinstance(vision["layers"], list):
        vision.update(layers=[1, 1, 1, 1], width=8, image_size=32)
    else:
        vision.update(layers=LAYERS, width=96, head_width=48, patch_size=8, image_size=16)
        vision.pop("mlp_ratio", None)
        if vision.get("attentional_pool"):
            vision["attn_pooler_queries"] = 4
    kind, clean = tokenizer_kind(text), text.get("tokenizer_kwargs", {}).get("clean", "whitespace")
    if text.get("hf_model_name"):
        text["hf_model_name"] = str(small_hf_folder(text["hf_model_name"]))
        text["context_length"] = 24
    else:
        text.update(width=WIDTH if text.get("proj_type") != "none" else config["embed_dim"], heads=HEADS, layers=LAYERS)
        text["context_length"] = min(text["context_length"], 24)
        text.pop("mlp_ratio", None)
        if kind != "clip":
            text["vocab_size"] = VOCABULARY
    text["hf_tokenizer_name"] = text["tokenizer_kwargs"] = None
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] |= {"width": WIDTH, "heads": HEADS, "layers": 1, "context_length": text["context_length"]}
    return config, kind, clean


def _one_of_its_kind(trunk: str) -> str:
    """The name of timm's model, or of one that differs from it by sizes alone."""
    for pattern, same in (
        (r"vit_\w+_siglip_\d+", "vit_base_patch16_siglip_224"),
        (r"convnext_(tiny|small|base|large|xlarge)", "convnext_base"),
        (r"eva02_large_patch14_clip_\d+", "eva02_large_patch14_clip_224"),
        (r"vitamin_large2?_\d+", "vitamin_large_224"),
        (r"vitamin_xlarge_\d+", "vitamin_xlarge_256"),
    ):
        if re.fullmatch(pattern, trunk):
            return same
    return trunk


@cache
def small_hf_folder(name: str) -> Path:
    """A folder with the config of a small model of Hugging Face's."""
    content = SMALL_HF[name] | {"vocab_size": VOCABULARY, "max_position_embeddings": 40}
    content |= HF_SIZES.get(content["model_type"], HF_SIZES["bert"])
    folder = Path(FOLDER.name) / content["model_type"]
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def small_timm(create, name: str, **arguments):
    """timm's `create_model` of a small model."""
    small = next(small for start, (small, _) in SMALL_TIMM.items() if name.startswith(start))

    def stem(**given):  # MobileCLIP-B's has a width of its own
        return ConvStem(**given | {"channels": (8, 8, WIDTH)})

    with mock.patch("timm.models.vision_transformer_hybrid.ConvStem", stem):
        return create(name, **arguments, **small)


def build_small(config: dict) -> torch.nn.Module:
    """open_clip's model of a small config, in eval mode. No weight keeps its initial value: many are 0, 1, or so small that
    nothing behind them would be seen."""
    with mock.patch("open_clip.timm_model.timm.create_model", partial(small_timm, timm.create_model)):
        model = build(config).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() < 2:
            parameter.data = (parameter.data if parameter.abs().max() > 0.5 or "logit" in name else 0) + 0.2 * noise
        elif "token_embedding" not in name and "embeddings" not in name:
            fan_in = parameter[0].numel() if parameter.dim() > 2 or name.endswith("weight") else parameter.shape[0]
            parameter.data = noise * fan_in**-0.5
    return model


@cache
def _small_clip(key: str) -> FrozenCLIP:
    config, kind, clean = json.loads(key)
    model = build_small(config)
    return FrozenCLIP(model, tokenizer=small_tokenizer(kind, config["text_cfg"]["context_length"], clean))


def small_key(name: str) -> str:
    """Equal for names that share a small model."""
    return json.dumps(small_config(name), sort_keys=True)


def small_clip(name: str) -> FrozenCLIP:
    """The small CLIP of one of open_clip's architectures."""
    return _small_clip(small_key(name))
