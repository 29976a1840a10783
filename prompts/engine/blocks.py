"""A residual block of an open_clip transformer, taken apart so that prompts can enter its queries, keys and values.

Shapes: N rows, D width, H heads, d = D/H, m extra rows. `...` are any leading axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompts.engine.rows import ExtraKV, Rows
from prompts.engine.untyped import AnyModule


def layer_norm(norm: nn.LayerNorm, x: Tensor, scale: float = 1.0) -> Tensor:
    """`scale` times LayerNorm, always computed and returned in float32."""
    weight, bias = norm.weight.float(), None if norm.bias is None else norm.bias.float()
    if scale != 1:
        weight, bias = scale * weight, None if bias is None else scale * bias
    return F.layer_norm(x.float(), norm.normalized_shape, weight, bias, norm.eps)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias in the weights' type, so that towers stored in bf16 need no cast at every call."""
    return F.linear(x.to(weight.dtype), weight, bias)


def split_heads(x_ND: Tensor, heads: int) -> Tensor:
    """(...,N,D) -> (...,H,N,d)"""
    return x_ND.unflatten(-1, (heads, -1)).transpose(-3, -2)


def merge_heads(x_HNd: Tensor) -> Tensor:
    """(...,H,N,d) -> (...,N,D)"""
    return x_HNd.transpose(-3, -2).flatten(-2)


@dataclass(frozen=True)
class Streams:
    """The inputs of a block's queries, keys, values and residual, each (...,N,D). They are one tensor unless prompts give them
    different rows."""

    q: Tensor
    k: Tensor
    v: Tensor
    residual: Tensor

    @classmethod
    def one(cls, x: Tensor) -> Streams:
        """Streams that are all the tensor x."""
        return cls(x, x, x, x)

    @classmethod
    def from_rows(cls, arrived: Tensor, rows: Rows, put: Callable[[Tensor], Tensor]) -> Streams:
        """The streams of a block whose input `arrived` gets these prompt rows.

        Args:
            arrived: the output of the block before, (...,N,D).
            put: returns `arrived` with the given tensor in its slots.
        """
        q = put(rows.q)
        k = q if rows.k is None else put(rows.k)
        v = q if rows.v is None else put(rows.v)
        if isinstance(rows.residual, Tensor):
            return cls(q, k, v, put(rows.residual))
        return cls(q, k, v, q if rows.residual == "q" else arrived)

    def map(self, change) -> Streams:
        """`change` applied once to each distinct tensor."""
        changed = {id(t): change(t) for t in (self.q, self.k, self.v, self.residual)}
        return Streams(*(changed[id(t)] for t in (self.q, self.k, self.v, self.residual)))


class KeysValues(NamedTuple):
    """The keys and values that a block's queries attend to, with one option of its extra rows."""

    weight: Tensor | None  # of the option; None: 1
    keys: Tensor  # (...,H,m+N,d)
    values: Tensor  # (...,H,m+N,d)


class Block:
    """One block. Holds references into the open_clip module, no tensors of its own."""

    def __init__(self, block: AnyModule):
        self.block, self.attn = block, block.attn
        self.heads = self.attn.num_heads
        # QuickGELU, x sigmoid(1.702 x), is a SiLU with scaled input and output. The scales are multiplied into the narrower
        # tensors before and after it: the widest tensor of the block then takes one pass instead of five.
        quick = type(block.mlp.gelu).__name__ == "QuickGELU"
        self.scale, self.activation = (1.702, F.silu) if quick else (1.0, block.mlp.gelu)

    def project(self, x_ND: Tensor, parts: str) -> list[Tensor]:
        """LayerNorm and the projections named in `parts` (a run of "qkv"): (...,N,D) -> list of (...,H,N,d)."""
        width = x_ND.shape[-1]
        rows = slice("qkv".index(parts) * width, ("qkv".index(parts) + len(parts)) * width)
        weight, bias = self.attn.in_proj_weight, self.attn.in_proj_bias
        out = linear(layer_norm(self.block.ln_1, x_ND), weight[rows], None if bias is None else bias[rows])
        return [split_heads(part, self.heads) for part in out.chunk(len(parts), -1)]

    def placed(self, t_HNd: Tensor) -> Tensor:
        """Queries or keys of a sequence's rows with the block's own positional embedding, where it has one (RoPE)."""
        return t_HNd

    def at(self, grid: tuple[int, int]) -> Block:
        """The block of images with another number of patches (height, width)."""
        return self

    @property
    def is_trained(self) -> bool:
        """Whether any of its weights has a gradient."""
        return any(p.requires_grad for p in self.block.parameters())

    def keys_values(self, s: Streams) -> tuple[Tensor, Tensor]:
        """Keys and values, each (...,H,N,d)."""
        if s.k is s.v:
            k, v = self.project(s.k, "kv")
            return k, v
        return self.project(s.k, "k")[0], self.project(s.v, "v")[0]

    def queries_keys_values(self, s: Streams) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (...,H,N,d), in as few matrix products as the streams allow."""
        if s.q is s.k is s.v:
            q, k, v = self.project(s.q, "qkv")
            return q, k, v
        return self.project(s.q, "q")[0], *self.keys_values(s)

    def keys_values_with_extra(self, k: Tensor, v: Tensor, extra: ExtraKV | None) -> list[KeysValues]:
        """k, v (...,H,N,d) with the extra rows of each option in front of them; without extra rows one option of k, v alone."""
        if extra is None:
            return [KeysValues(None, k, v)]
        weights = [None] * len(extra.options) if extra.weights is None else extra.weights
        return [self._option(weight, rows, k, v) for weight, rows in zip(weights, extra.options, strict=True)]

    def _option(self, weight: Tensor | None, extra_rows: Tensor, k: Tensor, v: Tensor) -> KeysValues:
        """`extra_rows` (m,D) in front of k, v (...,H,N,d)."""
        if not len(extra_rows):
            return KeysValues(weight, k, v)
        pairs = zip(self.project(extra_rows, "kv"), (k, v), strict=True)
        return KeysValues(weight, *(torch.cat([front.expand(*t.shape[:-3], -1, -1, -1), t], -2) for front, t in pairs))

    def finish(self, residual_ND: Tensor, attended_HNd: Tensor) -> Tensor:
        """Output projection, residual and MLP: (...,N,D), float32 where the residual is."""
        out = self.attn.out_proj
        x = residual_ND + self.block.ls_1(linear(merge_heads(attended_HNd), out.weight, out.bias))
        mlp, scale = self.block.mlp, self.scale
        hidden = linear(layer_norm(self.block.ln_2, x, scale), mlp.c_fc.weight, scale * mlp.c_fc.bias)
        scaled = linear(self.activation(hidden), mlp.c_proj.weight, scale * mlp.c_proj.bias)
        return torch.add(x, self.block.ls_2(scaled), alpha=1 / scale)


def attend(q: Tensor, options: list[KeysValues], causal: bool = False) -> Tensor:
    """Attention of q (...,H,N,d) over the keys of each option, mixed by the options' weights -> as q.

    `causal`: the last N keys belong to the queries' rows, and a row attends to none of the rows behind it. All rows attend to
    the keys in front of these.
    """
    total = None
    for weight, keys, values in options:
        extra, mask = keys.shape[-2] - q.shape[-2], None
        if causal and extra:
            mask = torch.ones(q.shape[-2], keys.shape[-2], dtype=torch.bool, device=q.device).tril(extra)
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, is_causal=causal and not extra)
        out = out if weight is None else weight * out
        total = out if total is None else total + out
    return total
