"""Takes an open_clip model of any kind apart into the parts that this project computes with. No other file uses its modules.

A text tower is packed (causal), padded (all positions), or Hugging Face's (prompts at its input); an image tower is a vision
transformer (prompts at every block) or opaque (run as a whole). docs/towers.md says which of open_clip's models has which.
"""

from __future__ import annotations

from dataclasses import dataclass

from open_clip.hf_model import HFTextEncoder
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from prompts.engine.clip_text import text_tower
from prompts.engine.hf_text import HFTextTower
from prompts.engine.identity import feature_width
from prompts.engine.image_tower import ImageTower, OpaqueImageTower
from prompts.engine.padded_text import PaddedTextTower
from prompts.engine.text_tower import TextTower
from prompts.engine.timm_vit import timm_tower
from prompts.engine.tokenizers import Tokenizer
from prompts.engine.untyped import AnyModule
from prompts.engine.vit import vit_tower


@dataclass(frozen=True)
class Parts:
    """A CLIP in parts. The tensors are those of the open_clip model.

    `image_width` is None, and `image_blocks` 0, where the image tower takes no prompts. `text_blocks` is 1 where the text tower
    takes prompts at its input alone. `logit_bias` is None except for models trained with the sigmoid loss. `compact` are the
    modules whose matrices may be stored in bf16; positions, norms, pooling and projections are not among them. `blocks` are the
    blocks by tower, image and text; empty where a tower is no sequence of blocks.
    """

    text: TextTower | PaddedTextTower | HFTextTower
    image: ImageTower | OpaqueImageTower
    logit_scale: Tensor
    logit_bias: Tensor | None
    tokenizer: Tokenizer
    embed_dim: int
    text_width: int
    text_blocks: int
    vocab_size: int
    image_width: int | None
    image_blocks: int
    image_size: int
    compact: list[nn.Module]
    blocks: dict[str, list[nn.Module]]


def adapt(model: AnyModule, tokenizer: Tokenizer) -> Parts:
    """The parts of an open_clip model (CLIP, CustomTextCLIP or CoCa) with the tokenizer that belongs to it.

    Raises:
        ValueError: one sentence, where a tower is computed in a way that is not known here.
    """
    text_module, visual = getattr(model, "text", model), getattr(model, "visual", None)
    try:
        if visual is None or not (hasattr(text_module, "transformer") and hasattr(model, "logit_scale")):
            raise ValueError(f"it is a {type(model).__name__}, not one of open_clip's models")
        is_hf = isinstance(text_module, HFTextEncoder)
        text = _hf_tower(text_module, tokenizer) if is_hf else text_tower(text_module, tokenizer)
    except ValueError as why:
        raise ValueError(f"this CLIP architecture cannot take prompts here: {why}. See docs/towers.md for others.") from None
    image, stored = _image(visual)
    width = next((b.block.ln_1 if hasattr(b.block, "ln_1") else b.block.norm1 for b in image.blocks), None)
    blocks, text_width = text.size
    embedding = text_module.transformer.get_input_embeddings() if is_hf else text_module.token_embedding
    compact = stored + ([] if is_hf else [text_module.transformer, embedding])
    return Parts(
        text,
        image,
        model.logit_scale,
        getattr(model, "logit_bias", None),
        tokenizer,
        embed_dim=feature_width(visual, text_module),
        text_width=text_width,
        text_blocks=blocks,
        vocab_size=embedding.num_embeddings,
        image_width=None if width is None else width.normalized_shape[0],
        image_blocks=len(image.blocks),
        image_size=visual.image_size[0] if isinstance(visual.image_size, tuple | list) else visual.image_size,
        compact=compact,
        blocks={"image": _image_blocks(visual, image), "text": _longest(text_module.transformer)},
    )


def _image_blocks(visual: AnyModule, image: ImageTower | OpaqueImageTower) -> list[nn.Module]:
    """The blocks of a vision transformer, or the bottlenecks of a ResNet."""
    if isinstance(visual, ModifiedResNet):
        return [block for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4) for block in stage]
    return [block.block for block in image.blocks]


def _longest(module: AnyModule) -> list[nn.Module]:
    """The blocks of a transformer: its longest list of modules."""
    return max((list(m) for m in module.modules() if isinstance(m, nn.ModuleList)), key=len, default=[])


def _hf_tower(module: HFTextEncoder, tokenizer: Tokenizer) -> HFTextTower:
    """The tower of Hugging Face's text encoder, whose padding must be the tokenizer's."""
    if tokenizer.pad_id != module.config.pad_token_id:
        raise ValueError(
            f"its text tower takes token {module.config.pad_token_id} for padding, and its tokenizer gives {tokenizer.pad_id}"
        )
    return HFTextTower(len(tokenizer.start), tokenizer.pad_id, module)


def _image(visual: AnyModule) -> tuple[ImageTower | OpaqueImageTower, list[AnyModule]]:
    """The image tower, and the modules of it that may be stored in bf16."""
    if isinstance(visual, VisionTransformer) and (tower := vit_tower(visual)):
        return tower, [visual.transformer, visual.conv1]
    if isinstance(visual, TimmModel) and (tower := timm_tower(visual)):
        return tower, [visual.trunk.patch_embed, visual.trunk.blocks]
    if isinstance(visual, ModifiedResNet):
        return OpaqueImageTower(visual, "a ResNet"), []
    kind = type(visual.trunk if isinstance(visual, TimmModel) else visual).__name__
    return OpaqueImageTower(visual, f"timm's {kind}" if isinstance(visual, TimmModel) else f"a {kind} of another kind"), []
