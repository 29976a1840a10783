"""The frozen parts of open_clip's own text transformer, from which a text tower is made.

Shapes: N rows, D width of the tower, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from prompts.engine.blocks import Block, layer_norm
from prompts.engine.padded_text import PaddedTextTower
from prompts.engine.text_tower import TextTower
from prompts.engine.tokenizers import Tokenizer
from prompts.engine.untyped import AnyModule


class ClipText:
    """Embedding and projection of `module`: a TextTransformer, or a CLIP, which holds the same parts."""

    def __init__(self, module: AnyModule):
        self.module = module

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings without positions, float32: (...) -> (...,D)."""
        return self.module.token_embedding(ids).float()

    def project(self, x: Tensor) -> Tensor:
        """(...,D) -> (...,d)"""
        return project(layer_norm(self.module.ln_final, x), self.module.text_projection)


def project(x: Tensor, projection: nn.Linear | Tensor | None) -> Tensor:
    """A tower's final projection, in float32."""
    with torch.autocast(x.device.type, enabled=False):
        if isinstance(projection, nn.Linear):
            return projection(x)
        return x if projection is None else x @ projection


def text_tower(module: AnyModule, tokenizer: Tokenizer) -> TextTower | PaddedTextTower:
    """The tower of open_clip's text transformer: packed where it is causal and its feature stands at EOT, else padded.

    Raises:
        ValueError: blocks that are computed in another way, or a feature at the largest token where that is not EOT.
    """
    blocks: Sequence[AnyModule] = module.transformer.resblocks
    if not all(isinstance(block, ResidualAttentionBlock) for block in blocks):
        raise ValueError("its text tower's blocks are not CLIP's residual attention blocks")
    pool = module.text_pool_type if hasattr(module, "text_pool_type") else module.pool_type
    eos = module.text_eos_id if hasattr(module, "text_eos_id") else module.eos_id
    if pool == "none":
        raise ValueError("its text tower ends without a feature (text_cfg.pool_type is none)")
    at_end = {"argmax": tokenizer.end == [max(tokenizer.vocab_size - 1, *tokenizer.end)], "eos": tokenizer.end[:1] == [eos]}
    parts, start, cls = ClipText(module), len(tokenizer.start), getattr(module, "cls_emb", None)
    if cls is None and not at_end.get(pool, True):
        raise ValueError(
            f"its text tower reads its feature at {'the largest token' if pool == 'argmax' else f'token {eos}'}, which is not "
            "what its tokenizer puts behind a text"
        )
    common = [Block(b) for b in blocks], parts.embed, module.positional_embedding, parts.project
    if module.attn_mask is not None and cls is None and pool in at_end:
        return TextTower(*common, start)
    return PaddedTextTower(
        start,
        tokenizer.pad_id,
        *common,
        pool=pool if cls is None else "cls",
        eos=eos,
        causal=module.attn_mask is not None,
        cls=cls,
        length=module.context_length,
        hides_padding=cls is not None or getattr(module, "use_pad_mask", False),
        cls_key_in_front=not getattr(module, "correct_cls_mask", True),
        pad_key=getattr(module, "pad_id", 0),
    )
