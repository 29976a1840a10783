"""The parts of open_clip's own vision transformer, from which an image tower is made.

Shapes: B images, N rows (CLS, then patches), R rows that the pooling reads, D width, d width of the shared embedding.
"""

from __future__ import annotations

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from prompts.engine.blocks import Block, layer_norm
from prompts.engine.clip_text import project
from prompts.engine.dense import resized
from prompts.engine.image_tower import ImageTower, Patches


class ClipVit:
    """Embedding and pooling of open_clip's vision transformer."""

    def __init__(self, module: VisionTransformer):
        self.module = module

    def embed(self, images: Tensor) -> Tensor:
        """(B,3,S,S) -> CLS and patches with positions (B,N,D)."""
        return self._rows(images) + self.module.positional_embedding.float()

    def embed_any(self, images: Tensor) -> Tensor:
        """`embed` of images of any size, with resized positions."""
        side = self.module.patch_size
        grid = (images.shape[-2] // side[0], images.shape[-1] // side[1])
        return self._rows(images) + resized(self.module.positional_embedding.float(), tuple(self.module.grid_size), grid)

    def _rows(self, images: Tensor) -> Tensor:
        visual = self.module
        patches = visual.conv1(images.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2).float()
        cls = visual.class_embedding.float().expand(len(images), 1, -1)
        return torch.cat([cls, patches], 1)

    def enter(self, x: Tensor) -> Tensor:
        """The LayerNorm before the first block, where there is one."""
        norm = self.module.ln_pre
        return layer_norm(norm, x) if isinstance(norm, nn.LayerNorm) else norm(x)

    def read_cls(self, x: Tensor) -> Tensor:
        """(B,R,D) -> (B,d), from the CLS row."""
        return project(layer_norm(self.module.ln_post, x[:, 0]), self.module.proj)

    def project(self, x: Tensor) -> Tensor:
        """(B,N,D) -> (B,N,d): every row as if it were pooled alone."""
        return project(layer_norm(self.module.ln_post, x), self.module.proj)

    def read_all(self, x: Tensor) -> Tensor:
        """(B,R,D) -> (B,d), from all rows: the mean of the patches, or attention pooling."""
        visual = self.module
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if visual.attn_pool is None:
                if visual.final_ln_after_pool:
                    x = layer_norm(visual.ln_post, x[:, 1:].mean(1))
                else:
                    x = layer_norm(visual.ln_post, x)[:, 1:].mean(1)
            elif visual.attn_pool_contrastive is None:
                x = layer_norm(visual.ln_post, visual.attn_pool(x))
                x = x[:, 0] if visual.pool_type == "tok" else x[:, 1:].mean(1)
            else:
                x = layer_norm(visual.ln_post, x)
                tokens = visual.attn_pool(x) if visual.attn_pool_type == "cascade" else x
                x = visual.attn_pool_contrastive(tokens)[:, 0]
            return project(x, visual.proj)


def vit_tower(visual: VisionTransformer) -> ImageTower | None:
    """The tower of open_clip's vision transformer; None where its blocks or its pooling are of another kind."""
    blocks = visual.transformer.resblocks
    if not all(isinstance(block, ResidualAttentionBlock) for block in blocks):
        return None
    attention = visual.attn_pool is not None
    two_pools = attention and visual.attn_pool_contrastive is not None
    if visual.pool_type not in ("tok", "avg") and not two_pools:
        return None
    parts, reads_all = ClipVit(visual), attention or visual.pool_type != "tok"
    read = parts.read_all if reads_all else parts.read_cls
    project_patches = None if attention else parts.project
    patches = Patches(
        tuple(visual.patch_size), tuple(visual.grid_size), 1, parts.embed_any, project_patches, visual.class_embedding
    )
    return ImageTower([Block(block) for block in blocks], parts.embed, parts.enter, read, reads_all, patches)
