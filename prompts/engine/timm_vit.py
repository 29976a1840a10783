"""timm's vision transformers (its VisionTransformer, as of SigLIP and ViTamin, and Eva, as of EVA-02) as image towers that
take prompts at every block.

Shapes: B images, N rows (CLS and registers where there are some, then patches), H heads, D width, d = D/H.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from prompts.engine.blocks import Block, layer_norm, linear, merge_heads, split_heads
from prompts.engine.image_tower import ImageTower, Patches
from prompts.engine.untyped import AnyModule

BLOCKS = ("Block", "EvaBlock", "EvaBlockPostNorm")
ATTENTIONS = ("Attention", "AttentionRope", "EvaAttention")


class TimmBlock(Block):
    """One block of timm's. `rope` returns the rotation (patches,2d) of its queries and keys, or is None. Only patches
    are rotated: rows of prompts have no place in the image, as CLS has none."""

    def __init__(self, block: AnyModule, rope: Callable[..., Tensor] | None = None):
        self.block, self.attn, self.rope = block, block.attn, rope
        self.heads = block.attn.num_heads
        self.norm_behind = type(block).__name__ == "EvaBlockPostNorm"

    def at(self, grid: tuple[int, int]) -> TimmBlock:
        """The block of images with another number of patches (height, width)."""
        if self.rope is None:
            return self
        rope = self.rope(grid)
        return TimmBlock(self.block, lambda: rope)

    def project(self, x_ND: Tensor, parts: str) -> list[Tensor]:
        """LayerNorm and the projections named in `parts` (a run of "qkv"): (...,N,D) -> list of (...,H,N,d)."""
        attn, x = self.attn, x_ND if self.norm_behind else _norm(self.block.norm1, x_ND)
        out = []
        for part, weight, bias in self._matrices(parts):
            bias = bias if bias is None else bias.to(weight.dtype)
            t = split_heads(linear(x, weight, bias), self.heads)
            norm = {"q": attn.q_norm, "k": attn.k_norm}.get(part)
            out.append(t if norm is None or isinstance(norm, nn.Identity) else _norm(norm, t).to(t.dtype))
        return out

    def _matrices(self, parts: str) -> list[tuple[str, Tensor, Tensor | None]]:
        """Name, weight and bias of each part."""
        attn = self.attn
        if attn.qkv is None:
            layers = {"q": attn.q_proj, "k": attn.k_proj, "v": attn.v_proj}
            return [(part, layers[part].weight, layers[part].bias) for part in parts]
        weights, bias = dict(zip("qkv", attn.qkv.weight.chunk(3), strict=True)), attn.qkv.bias
        if bias is not None:
            biases = dict(zip("qkv", bias.chunk(3), strict=True))
        else:  # Eva keeps them apart, and has none for keys
            biases = {"q": getattr(attn, "q_bias", None), "k": None, "v": getattr(attn, "v_bias", None)}
        return [(part, weights[part], biases[part]) for part in parts]

    def placed(self, t_HNd: Tensor) -> Tensor:
        """Queries or keys with the patches among them rotated."""
        first = getattr(self.attn, "num_prefix_tokens", 0)
        if self.rope is None or t_HNd.shape[-2] <= first:
            return t_HNd
        from timm.layers import apply_rot_embed_cat

        rope = self.rope()
        last = first + rope.shape[-2]
        how = {"half": True} if getattr(self.attn, "rotate_half", False) else {}
        patches = apply_rot_embed_cat(t_HNd[..., first:last, :], rope, **how).to(t_HNd.dtype)
        return torch.cat([t_HNd[..., :first, :], patches, t_HNd[..., last:, :]], -2)

    def finish(self, residual_ND: Tensor, attended_HNd: Tensor) -> Tensor:
        """Output projection, residual and MLP: (...,N,D), float32 where the residual is."""
        block, out = self.block, self.attn.proj
        attended = merge_heads(attended_HNd)
        if not isinstance(self.attn.norm, nn.Identity):
            attended = _norm(self.attn.norm, attended)
        attended = linear(attended, out.weight, out.bias)
        if self.norm_behind:
            x = residual_ND + _norm(block.norm1, attended)
            return x + _norm(block.norm2, self._mlp(x))
        x = residual_ND + _scaled(block, 1, attended)
        return x + _scaled(block, 2, self._mlp(_norm(block.norm2, x)))

    def _mlp(self, x: Tensor) -> Tensor:
        with bf16_where_stored(self.block.mlp, x):
            return self.block.mlp(x)


def bf16_where_stored(module: AnyModule, x: Tensor) -> AbstractContextManager:
    """A context in which a module runs whose matrices may be stored in bf16, while its norms and x are not."""
    is_stored = any(p.dtype == torch.bfloat16 for p in module.parameters())
    return torch.autocast(x.device.type, torch.bfloat16) if is_stored else nullcontext()


def _norm(norm: AnyModule, x: Tensor) -> Tensor:
    """A norm in float32."""
    if isinstance(norm, nn.LayerNorm):
        return layer_norm(norm, x)
    with torch.autocast(x.device.type, enabled=False):
        return norm(x.float())


def _scaled(block: AnyModule, number: int, x: Tensor) -> Tensor:
    """x times the block's LayerScale, if it has one."""
    if hasattr(block, f"ls{number}"):
        return getattr(block, f"ls{number}")(x)
    gamma = getattr(block, f"gamma_{number}", None)
    return x if gamma is None else gamma * x


class TimmVit:
    """Embedding and pooling of open_clip's TimmModel, whose trunk is a vision transformer of timm's."""

    def __init__(self, module: AnyModule):
        self.module = module

    def embed(self, images: Tensor) -> Tensor:
        """(B,3,S,S) -> the rows of the tower itself with positions (B,N,D)."""
        trunk = self.module.trunk
        with bf16_where_stored(trunk.patch_embed, images):
            patches = trunk.patch_embed(images)
        x = trunk._pos_embed(patches.float())
        return (x[0] if isinstance(x, tuple) else x).float()

    def enter(self, x: Tensor) -> Tensor:
        """The norm before the first block, where there is one."""
        norm = self.module.trunk.norm_pre
        return x if isinstance(norm, nn.Identity) else _norm(norm, x)

    def embed_any(self, images: Tensor) -> Tensor:
        """`embed` of images of any size, with positions resized as timm does (bicubic)."""
        with _any_size(self.module.trunk):
            return self.embed(images)

    def rope(self, grid: tuple[int, int] | None = None) -> Tensor:
        """The rotation of patches (patches,2d), of the tower's own grid or another one (height, width).

        Raises:
            ValueError: this version of timm has the rotation of the tower's own grid alone.
        """
        trunk, rope = self.module.trunk, self.module.trunk.rope
        if grid is None:
            how = {} if hasattr(rope, "feat_shape") else {"shape": trunk.patch_embed.grid_size}
            return rope.get_embed(**how)
        if hasattr(rope, "update_feat_shape"):
            rope = copy.deepcopy(rope)
            rope.update_feat_shape(list(grid))
        turned = rope.get_embed(shape=list(grid))
        if turned.shape[-2] != grid[0] * grid[1]:
            raise ValueError("this version of timm cannot turn the patches of images of another size: pip install -U timm.")
        return turned

    def project(self, x: Tensor) -> Tensor:
        """(B,N,D) -> (B,N,d): every row as if it were pooled alone."""
        with torch.autocast(x.device.type, enabled=False):
            trunk = self.module.trunk
            return self.module.head(trunk.head(trunk.fc_norm(trunk.norm(x.float()))))

    def read(self, x: Tensor) -> Tensor:
        """(B,R,D) -> (B,d): norm, pooling and projection."""
        with torch.autocast(x.device.type, enabled=False):
            trunk, x = self.module.trunk, x.float()
            return self.module.head(trunk.forward_head(trunk.norm(x)))


@contextmanager
def _any_size(trunk: AnyModule) -> Iterator[None]:
    """A context in which a trunk embeds images of any size."""
    patches = trunk.patch_embed
    wanted: list[tuple[AnyModule, dict[str, Any]]] = [
        (trunk, {"dynamic_img_size": True}),
        (patches, {"strict_img_size": False, "flatten": False, "output_fmt": None}),
    ]
    from timm.layers import Format

    wanted[1][1]["output_fmt"] = Format.NHWC
    before = [(module, {key: getattr(module, key) for key in values if hasattr(module, key)}) for module, values in wanted]
    try:
        for module, values in wanted:
            for key, value in values.items():
                setattr(module, key, value)
        yield
    finally:
        for module, values in before:
            for key, value in values.items():
                setattr(module, key, value)


def timm_tower(module: AnyModule) -> ImageTower | None:
    """The tower of open_clip's TimmModel; None where its trunk is no vision transformer that is computed here exactly."""
    trunk = module.trunk
    if type(trunk).__name__ not in ("VisionTransformer", "Eva") or getattr(trunk, "rope_mixed", False):
        return None
    if not all(_is_known(block) for block in trunk.blocks):
        return None
    parts = TimmVit(module)
    rope = parts.rope if getattr(trunk, "rope", None) is not None else None
    reads_all = trunk.attn_pool is not None or trunk.global_pool != "token"
    if not reads_all and not isinstance(module.head, nn.Sequential):
        return None
    size, grid = (tuple(getattr(trunk.patch_embed, key)) for key in ("img_size", "grid_size"))
    patch = (size[0] // grid[0], size[1] // grid[1])  # with a convolutional stem in front, pixels and not the stem's positions
    project = None if trunk.attn_pool is not None else parts.project
    patches = Patches(patch, grid, trunk.num_prefix_tokens, parts.embed_any, project)
    return ImageTower([TimmBlock(b, rope) for b in trunk.blocks], parts.embed, parts.enter, parts.read, reads_all, patches)


def _is_known(block: AnyModule) -> bool:
    """Whether `TimmBlock` computes a block exactly."""
    attn = getattr(block, "attn", None)
    return (
        type(block).__name__ in BLOCKS
        and type(attn).__name__ in ATTENTIONS
        and getattr(attn, "gate", None) is None
        and getattr(attn, "num_kv_groups", 1) == 1
    )
