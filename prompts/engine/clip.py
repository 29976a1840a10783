"""The frozen CLIP: the interface of a model for methods, for any kind of towers (`prompts.engine.adapt`), and its loading.

Shapes: B images, C classes, S image size in pixels, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from prompts.engine import architecture
from prompts.engine.adapt import adapt
from prompts.engine.build import build, is_plain
from prompts.engine.clip_config import TOKENS
from prompts.engine.dense import DenseFeatures, dense_features
from prompts.engine.fitting import fill, set_activation
from prompts.engine.hub import optional_file
from prompts.engine.identity import Identity, identify, identify_images
from prompts.engine.rows import NO_PROMPTS, TowerPrompts
from prompts.engine.text_plan import TextPlan
from prompts.engine.tokenizer_files import make_tokenizer
from prompts.engine.tokenizers import ClipTokenizer, Tokenizer, adapted
from prompts.engine.trainable import Trained, check_fit, trained_tensors
from prompts.engine.untyped import AnyModule
from prompts.engine.weights import read_weights

IMAGENET_TEMPLATES: list[str] = [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
EMBEDDED = ("tiny_clip", "tiny_large")  # folders of the CLIPs in the repository
MAX_RANDOM_PARAMETERS = 4_000_000_000  # 16 GB; the largest published CLIP has 2.5 billion


class FrozenCLIP(nn.Module):
    """A CLIP that is always in eval mode and whose weights never change, except those that `trainable` names
    (`prompts.engine.trainable`). Prompts are given as data (`prompts.engine.rows`).

    With no prompts `encode_text` and `encode_image` equal open_clip's own. Features are un-normalised and float32.
    `text_rows` bounds how many text rows are computed at once (None: all); `recompute` trades time for memory in training.
    `model` is for `prompts.engine` alone.
    """

    def __init__(
        self,
        model: nn.Module,
        image_mean: tuple[float, ...] = open_clip.OPENAI_DATASET_MEAN,
        image_std: tuple[float, ...] = open_clip.OPENAI_DATASET_STD,
        tokenizer: Tokenizer | None = None,
        text_rows: int | None = 16384,
        recompute: bool = False,
        interpolation: str = "bicubic",
        resize_mode: str = "shortest",
        trainable: str | Mapping[str, Any] | None = None,
    ):
        super().__init__()
        if text_rows is not None and text_rows < 1:
            raise ValueError(f"clip.text_rows={text_rows}: give a number of rows, 1 or more, or null for all at once.")
        parts = adapt(model, adapted(tokenizer or ClipTokenizer(context_length=model.context_length)))
        self.model: AnyModule = model.eval().requires_grad_(False)
        self.tokenizer, self.text_rows, self.recompute = parts.tokenizer, text_rows, recompute
        self.image_spec: dict[str, Any] = {
            "size": parts.image_size,
            "mean": tuple(image_mean),
            "std": tuple(image_std),
            "interpolation": interpolation,
            "resize_mode": resize_mode,
        }
        pixels = {"white": [255.0], "mean": image_mean, "std": image_std}
        for name, values in pixels.items():  # tensors, as a GPU and a CPU divide by a plain number differently
            self.register_buffer(f"_{name}", torch.tensor(values)[:, None, None], persistent=False)
        self.text_tower, self.image_tower, self._compact = parts.text, parts.image, parts.compact
        self._vocabulary = parts.vocab_size
        self.embed_dim, self.text_width, self.image_width = parts.embed_dim, parts.text_width, parts.image_width
        self.text_blocks, self.image_blocks = parts.text_blocks, parts.image_blocks
        self.trained: list[Trained] = trained_tensors(self.model, parts.blocks, trainable)
        self.changed = False  # whether trained tensors of a file were put in
        if self.trained:
            self.identity  # noqa: B018 - of the weights as they were loaded
        for parameter in self.trained_tensors().values():
            parameter.requires_grad_()

    def train(self, mode: bool = True) -> FrozenCLIP:
        """Stays in eval mode whatever `mode` is, BatchNorm with it: no statistics of a batch enter a feature."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.logit_scale.device

    @property
    def is_vit(self) -> bool:
        """Whether the image tower takes prompts."""
        return self.image_blocks > 0

    @property
    def logit_scale(self) -> Tensor:
        """The factor of cosines in logits, a scalar: the exponential of the model's learned parameter."""
        return self.model.logit_scale.exp().squeeze()

    @property
    def logit_bias(self) -> Tensor | None:
        """The bias of logits in models that were trained with the sigmoid loss, a scalar; None for all others."""
        bias = getattr(self.model, "logit_bias", None)
        return None if bias is None else bias.squeeze()

    @property
    def token_embeddings(self) -> Tensor:
        """The embeddings of the whole vocabulary, as they enter the text tower, float32: (V,text_width)."""
        return self.text_tower.embed(torch.arange(self._vocabulary, device=self.device))

    @cached_property
    def identity(self) -> Identity:
        """The identity of this CLIP, which does not depend on the place of its files (`prompts.engine.identity`). The first
        call takes a second for ViT-L."""
        return identify(self.model)

    @cached_property
    def image_identity(self) -> list[Any]:
        """All that features of unprompted images depend on beside the pixels, as plain data
        (`prompts.engine.identity.identify_images`). The first call takes a second for ViT-L."""
        return identify_images(self.model, self.image_tower)

    def text_weights(self) -> dict[str, Tensor]:
        """The tensors that text features depend on, by name."""
        others = ("visual.", "logit_", "text_decoder.")
        return {name: t for name, t in self.model.state_dict().items() if not name.startswith(others)}

    def trained_tensors(self) -> dict[str, nn.Parameter]:
        """The tensors that are trained, by their names in the model's state dict."""
        return {name: p for group in self.trained for name, p in group.tensors.items()}

    @torch.no_grad()
    def put_in(self, tensors: Mapping[str, Tensor]) -> None:
        """Copies tensors that were trained on this CLIP into it, by name. ValueError for one that does not fit."""
        if not tensors:
            return
        self.identity  # noqa: B018 - of the weights as they were loaded
        named = dict(self.model.named_parameters())
        check_fit(tensors, named)
        for name, tensor in tensors.items():
            named[name].copy_(tensor)
        self.changed = True

    def store_bf16(self) -> None:
        """Converts the blocks' matrices and the patch and token embeddings to bf16 permanently, so that autocast need not cast
        them at every call; LayerNorms, positions and final projections stay float32. For GPUs. Opaque image towers, such as
        ResNets, Hugging Face's text towers, and modules with a trained tensor are not changed."""
        self.identity  # noqa: B018 - computed now, from the weights as they were loaded
        for module in (m for tower in self._compact for m in tower.modules()):
            own = list(module.parameters(recurse=False))
            if any(p.requires_grad for p in own):
                continue
            if isinstance(module, nn.Linear | nn.MultiheadAttention | nn.Conv2d | nn.Embedding):
                for parameter in own:
                    parameter.data = parameter.data.bfloat16()

    # ---------------------------------------------------------------- features

    def encode_text(self, plan: TextPlan, prompts: TowerPrompts = NO_PROMPTS, classes: Tensor | None = None) -> Tensor:
        """(C,d), or (B,C,d) when any prompt rows differ by image; of the classes with ids `classes` (K,) only, if given."""
        plan = plan.to(self.device)
        return self.text_tower.encode(plan, prompts, classes, max_rows=self.text_rows, recompute=self.recompute)

    def normalised(self, images: Tensor) -> Tensor:
        """Pixels (B,3,S,S) as the towers take them: uint8 becomes float32 by the operations of torchvision's ToTensor and
        Normalize, bit for bit; other types are normalised already and stay as they are."""
        if images.dtype != torch.uint8:
            return images
        return images.float().div_(self._white).sub_(self._mean).div_(self._std)  # type: ignore[arg-type]

    def encode_image(self, images: Tensor, prompts: TowerPrompts = NO_PROMPTS) -> Tensor:
        """(B,3,S,S), uint8 or normalised -> (B,d)"""
        return self.image_tower.encode(self.normalised(images), prompts, recompute=self.recompute)

    def encode_dense(self, images: Tensor, blocks: Sequence[int] = (), prompts: TowerPrompts = NO_PROMPTS) -> DenseFeatures:
        """(B,3,H,W) -> the pooled feature, the patches in the joint space, and the maps of blocks (of a vision transformer)
        or of stages (else). `prompts.engine.dense` says what there is and what is refused."""
        return dense_features(self.image_tower, self.normalised(images), blocks, prompts, self.recompute)

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """logit_scale x cosine, float32: (B,d) with (C,d) or (B,C,d) -> (B,C). Without the bias of sigmoid models, which is the
        same for all classes."""
        with torch.autocast(image.device.type, enabled=False):
            image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
            cosine = image @ text.T if text.dim() == 2 else torch.einsum("bd,bcd->bc", image, text)
            return self.logit_scale * cosine

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token embeddings without positions, float32: (N,) -> (N,text_width)."""
        return self.text_tower.embed(ids.to(self.device))


# ---------------------------------------------------------------- loading


def load_clip(
    model: str,
    weights: str | None = None,
    text_rows: int | None = 16384,
    recompute: bool = False,
    activation: str | None = None,
    tokenizer: str | None = None,
    trainable: str | Mapping[str, Any] | None = None,
) -> FrozenCLIP:
    """The frozen CLIP of an architecture and its weights. ValueError where either cannot be found or built.

    `model`: an open_clip name ("ViT-B-16-quickgelu"), the path of a json with open_clip's model config, or a place with
    weights: a hub id ("hf-hub:org/name") or a folder in open_clip's or transformers' format ("local-dir:PATH").
    `weights`: an open_clip tag ("openai"), a local file, "random", or None for those of the place that `model` names.
    `activation`: "quickgelu" or "gelu", for a local file whose model config does not name it.
    `tokenizer`: a folder or a hub id with another tokenizer than the model's own, or "simple" for CLIP's.
    `trainable`: the parts of the towers that are trained, see `prompts.engine.trainable`; None: none.
    """
    source = architecture.find(model, weights, tokenizer)
    config = source.config
    state, is_openai = None, False
    if source.weights:
        state, is_openai = read_weights(source.weights, config["text_cfg"].get("vocab_size", TOKENS))
    config["quick_gelu"] = architecture.activation(activation, source, is_openai, model) == "quickgelu"
    try:
        towers = build(config, empty=True)
        if (state is None or not is_plain(config)) and sum(p.numel() for p in towers.parameters()) > MAX_RANDOM_PARAMETERS:
            raise ValueError(f"it has more than {MAX_RANDOM_PARAMETERS:,} parameters")
        towers = towers if state is not None and is_plain(config) else build(config)
        set_activation(towers, config["vision_cfg"])
    except Exception as error:  # for sizes that do not fit, torch raises many types
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"the architecture of clip.model={model} cannot be built: {why.rstrip('.')}.") from error
    if state is not None:
        fill(towers, state, str(source.weights), model)
    activations = {type(m) for m in towers.modules() if isinstance(m, QuickGELU | nn.GELU)}
    assert not is_plain(config) or activations == {QuickGELU if config["quick_gelu"] else nn.GELU}, activations
    made = make_tokenizer(source.tokenizer, optional_file)
    return FrozenCLIP(towers, tokenizer=made, text_rows=text_rows, recompute=recompute, trainable=trainable, **source.image)


def load_tiny(
    text_rows: int | None = 16384,
    recompute: bool = False,
    folder: str = "tiny_clip",
    trainable: str | Mapping[str, Any] | None = None,
) -> FrozenCLIP:
    """A CLIP that comes with the repository, trained by `tools.tiny_clip`: tiny_clip, or tiny_large, a teacher for it.

    Raises:
        ValueError: the repository has no such model.
    """
    if folder not in EMBEDDED:
        raise ValueError(f"clip.folder={folder}: the CLIPs in the repository are {' and '.join(EMBEDDED)}.")
    home = Path(__file__).parent / folder
    files = str(home / "config.json"), str(home / "weights.safetensors")
    return load_clip(*files, text_rows, recompute, trainable=trainable)
