"""The frozen CLIP: open_clip's weights and modules in the towers of this project. No other file uses open_clip's modules.

Shapes: B images, C classes, S image size in pixels, d width of the shared embedding.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from prompts.engine import architecture
from prompts.engine.blocks import Block, layer_norm
from prompts.engine.clip_config import TOKENS
from prompts.engine.fitting import fill, set_activation
from prompts.engine.hub import optional_file
from prompts.engine.identity import Identity, identify
from prompts.engine.image_tower import ImageTower
from prompts.engine.rows import NO_PROMPTS, TowerPrompts
from prompts.engine.text_plan import TextPlan
from prompts.engine.text_tower import TextTower
from prompts.engine.tokenizer_files import make_tokenizer
from prompts.engine.weights import read_weights

IMAGENET_TEMPLATES: list[str] = [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
EMBEDDED = ("tiny_clip", "tiny_large")  # folders of the CLIPs in the repository
MAX_RANDOM_PARAMETERS = 4_000_000_000  # 16 GB; the largest published CLIP has 2.5 billion


class FrozenCLIP(nn.Module):
    """CLIP whose weights never change and never leave eval mode; prompts enter as data (`prompts.engine.rows`).

    With no prompts `encode_text` and `encode_image` equal open_clip's own. Features are un-normalised and float32.
    `text_rows` bounds how many text rows are in flight at once (None: all); `recompute` trades time for memory in training.
    """

    def __init__(
        self,
        model: CLIP,
        image_mean: tuple[float, ...] = open_clip.OPENAI_DATASET_MEAN,
        image_std: tuple[float, ...] = open_clip.OPENAI_DATASET_STD,
        tokenizer: SimpleTokenizer | None = None,
        text_rows: int | None = 16384,
        recompute: bool = False,
        interpolation: str = "bicubic",
        resize_mode: str = "shortest",
    ):
        super().__init__()
        if text_rows is not None and text_rows < 1:
            raise ValueError(f"clip.text_rows={text_rows}: give a number of rows, 1 or more, or null for all at once.")
        _check_architecture(model)
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer or SimpleTokenizer(context_length=model.context_length)
        self.text_rows, self.recompute = text_rows, recompute
        visual = model.visual
        size = visual.image_size
        self.image_spec = {
            "size": size[0] if isinstance(size, tuple) else size,
            "mean": tuple(image_mean),
            "std": tuple(image_std),
            "interpolation": interpolation,
            "resize_mode": resize_mode,
        }
        self.is_vit = isinstance(visual, VisionTransformer)
        self.embed_dim: int = model.visual.output_dim
        self.text_width: int = model.token_embedding.embedding_dim
        self.image_width: int | None = visual.class_embedding.shape[0] if self.is_vit else None
        self.text_blocks = len(model.transformer.resblocks)
        self.image_blocks = len(visual.transformer.resblocks) if self.is_vit else 0
        self.text_tower = TextTower(
            [Block(b) for b in model.transformer.resblocks], self.embed_tokens, model.positional_embedding, self._project_text
        )
        if self.is_vit:
            blocks = [Block(b) for b in visual.transformer.resblocks]
            self.image_tower = ImageTower(blocks, self._embed_patches, self._enter_image, self._project_image)

    def train(self, mode: bool = True) -> FrozenCLIP:
        """Stays in eval mode whatever `mode` is: the towers are frozen."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.positional_embedding.device

    @cached_property
    def identity(self) -> Identity:
        """Which CLIP this is, independent of where its weights lie (`prompts.engine.identity`). The first call takes a second
        for ViT-L."""
        return identify(self.model)

    def store_bf16(self) -> None:
        """Keeps the blocks' matrices and the patch and token embeddings in bf16 for good, so that autocast need not cast them
        at every call; LayerNorms, positions and final projections stay float32. For GPUs. ResNets stay as they are."""
        self.identity  # noqa: B018 - computed now, from the weights as they were loaded
        towers = [self.model.transformer] + ([self.model.visual.transformer, self.model.visual.conv1] if self.is_vit else [])
        for module in (m for tower in towers for m in tower.modules()):
            if isinstance(module, nn.Linear | nn.MultiheadAttention | nn.Conv2d):
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.bfloat16()
        self.model.token_embedding.to(torch.bfloat16)

    # ---------------------------------------------------------------- features

    def encode_text(self, plan: TextPlan, prompts: TowerPrompts = NO_PROMPTS, classes: Tensor | None = None) -> Tensor:
        """(C,d), or (B,C,d) when any prompt rows differ by image; of the classes with ids `classes` (K,) only, if given."""
        plan = plan.to(self.device)
        return self.text_tower.encode(plan, prompts, classes, max_rows=self.text_rows, recompute=self.recompute)

    def encode_image(self, images: Tensor, prompts: TowerPrompts = NO_PROMPTS) -> Tensor:
        """(B,3,S,S) -> (B,d)"""
        if self.is_vit:
            return self.image_tower.encode(images, prompts, recompute=self.recompute)
        if prompts != NO_PROMPTS:
            raise ValueError(
                "visual prompts need the blocks of a vision transformer, but this CLIP's image tower is a ResNet: use a ViT."
            )
        return self.model.visual(images).float()

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """exp(logit_scale) x cosine, float32: (B,d) with (C,d) or (B,C,d) -> (B,C)."""
        with torch.autocast(image.device.type, enabled=False):
            image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
            cosine = image @ text.T if text.dim() == 2 else torch.einsum("bd,bcd->bc", image, text)
            return self.model.logit_scale.exp() * cosine

    # ---------------------------------------------------------------- embeddings and projections

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token embeddings without positions, float32: (N,) -> (N,text_width)."""
        return self.model.token_embedding(ids.to(self.device)).float()

    def _project_text(self, x: Tensor) -> Tensor:
        return _project(layer_norm(self.model.ln_final, x), self.model.text_projection)

    def _embed_patches(self, images: Tensor) -> Tensor:
        visual = self.model.visual
        patches = visual.conv1(images.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2).float()
        cls = visual.class_embedding.float().expand(len(images), 1, -1)
        return torch.cat([cls, patches], 1) + visual.positional_embedding.float()

    def _enter_image(self, x: Tensor) -> Tensor:
        norm = self.model.visual.ln_pre
        return layer_norm(norm, x) if isinstance(norm, nn.LayerNorm) else norm(x)

    def _project_image(self, cls: Tensor) -> Tensor:
        return _project(layer_norm(self.model.visual.ln_post, cls), self.model.visual.proj)


def _project(x: Tensor, projection: nn.Linear | Tensor | None) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        if isinstance(projection, nn.Linear):
            return projection(x)
        return x if projection is None else x @ projection


def _check_architecture(model: nn.Module) -> None:
    """ValueError for an architecture that this project's towers do not compute exactly as open_clip does."""
    visual = getattr(model, "visual", None)
    odd = None
    if not isinstance(model, CLIP):
        odd = f"it is a {type(model).__name__}, not open_clip's CLIP"
    elif model.text_pool_type != "argmax" or model.attn_mask is None:
        odd = "its text tower is not causal with a feature at EOT"
    elif isinstance(visual, VisionTransformer) and (visual.attn_pool is not None or visual.pool_type != "tok"):
        odd = "its image feature is not the CLS row"
    else:
        towers = [model.transformer, *([visual.transformer] if isinstance(visual, VisionTransformer) else [])]
        if not all(isinstance(b, ResidualAttentionBlock) for tower in towers for b in tower.resblocks):
            odd = "its blocks are not CLIP's residual attention blocks"
    if odd:
        raise ValueError(f"this CLIP architecture cannot take prompts here: {odd}. Use a ViT-B/32, B/16, L/14 or ResNet CLIP.")


# ---------------------------------------------------------------- architecture and weights


def build(config: dict[str, Any], empty: bool = False) -> CLIP:
    """An open_clip model from its config (embed_dim, vision_cfg, text_cfg, quick_gelu): randomly initialised, always with the
    same numbers, or without any (`empty`, on the meta device) for weights that are about to be assigned."""
    known = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")
    if config.get("custom_text") or "hf_model_name" in config["text_cfg"] or "timm_model_name" in config["vision_cfg"]:
        raise ValueError(
            "this CLIP architecture cannot take prompts here: a tower is not open_clip's own transformer or ResNet."
        )
    arguments = {k: config[k] for k in known if k in config}
    if not empty:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return CLIP(**arguments)
    with torch.device("meta"):
        model = CLIP(**arguments)
    if model.attn_mask is not None:  # a buffer that no checkpoint holds
        model.attn_mask = torch.full(model.attn_mask.shape, float("-inf")).triu_(1)
    return model


def load_clip(
    model: str,
    weights: str | None = None,
    text_rows: int | None = 16384,
    recompute: bool = False,
    activation: str | None = None,
    tokenizer: str | None = None,
) -> FrozenCLIP:
    """The frozen CLIP of an architecture and its weights. Raises ValueError with a way out when either cannot be had.

    `model`: an open_clip name ("ViT-B-16-quickgelu"), the path of a json with open_clip's model config, or what brings its
    weights: a hub id ("hf-hub:org/name") or a folder in open_clip's or transformers' format ("local-dir:PATH").
    `weights`: an open_clip tag ("openai"), a local file, "random", or None for those that the model brings.
    `activation`: "quickgelu" or "gelu", of a local file whose model does not say it.
    `tokenizer`: a folder or a hub id with another tokenizer than the model's own, or "simple" for CLIP's.
    """
    source = architecture.find(model, weights, tokenizer)
    config = source.config
    state, is_openai = None, False
    if source.weights:
        state, is_openai = read_weights(source.weights, config["text_cfg"].get("vocab_size", TOKENS))
    config["quick_gelu"] = architecture.activation(activation, source, is_openai, model) == "quickgelu"
    try:
        towers = build(config, empty=True)
        if state is None and sum(p.numel() for p in towers.parameters()) > MAX_RANDOM_PARAMETERS:
            raise ValueError(f"it has more than {MAX_RANDOM_PARAMETERS:,} parameters")
        towers = build(config) if state is None else towers
        set_activation(towers, config["vision_cfg"])
    except Exception as error:  # for sizes that do not fit, torch raises many types
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"the architecture of clip.model={model} cannot be built: {why}.") from error
    if state is not None:
        fill(towers, state, str(source.weights), model)
    activations = {type(m) for m in towers.modules() if isinstance(m, QuickGELU | nn.GELU)}
    assert activations == {QuickGELU if config["quick_gelu"] else nn.GELU}, activations
    made = make_tokenizer(source.tokenizer, optional_file)
    return FrozenCLIP(towers, tokenizer=made, text_rows=text_rows, recompute=recompute, **source.image)


def load_tiny(text_rows: int | None = 16384, recompute: bool = False, folder: str = "tiny_clip") -> FrozenCLIP:
    """A CLIP that comes with the repository, trained by `tools.tiny_clip`: tiny_clip, or tiny_large, a teacher for it.

    Raises:
        ValueError: the repository has no such model.
    """
    if folder not in EMBEDDED:
        raise ValueError(f"clip.folder={folder}: the CLIPs in the repository are {' and '.join(EMBEDDED)}.")
    home = Path(__file__).parent / folder
    return load_clip(str(home / "config.json"), str(home / "weights.safetensors"), text_rows, recompute)
