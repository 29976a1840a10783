"""CLIP's vision transformer with prompts: slots stand behind [CLS, patches], and the last block computes the CLS row only.

Shapes: B images, N rows, n slots, H heads, D width, d = D/H.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from prompts.engine.blocks import Block, Streams, attend
from prompts.engine.rows import NO_PROMPTS, Rows, TowerPrompts, check_prompts


@dataclass(frozen=True)
class ImageTower:
    """The frozen parts. `embed` maps images (B,3,S,S) to [CLS, patches] with positions (B,N,D), before `enter`, the first
    LayerNorm; `project` ends with (B,D) -> (B,d)."""

    blocks: list[Block]
    embed: Callable[[Tensor], Tensor]
    enter: Callable[[Tensor], Tensor]
    project: Callable[[Tensor], Tensor]

    def encode(self, images: Tensor, prompts: TowerPrompts = NO_PROMPTS, *, recompute: bool = False) -> Tensor:
        """Un-normalised features (B,d), float32. `recompute` keeps only each block's input for the backward pass.

        Raises:
            ValueError: prompts that do not fit the tower or the batch (`prompts.engine.rows.check_prompts`).
        """
        x = self.embed(images)
        check_prompts(prompts, "image", blocks=len(self.blocks), width=x.shape[-1], images=len(x))
        patches, recompute = x.shape[1], recompute and torch.is_grad_enabled()
        streams = Streams.one(x) if prompts.inputs is None else _part(x, prompts.inputs, patches)
        streams = streams.map(self.enter)
        for i in range(len(self.blocks)):
            if recompute:
                x = checkpoint(self._run_block, i, streams, prompts, patches, use_reentrant=False, preserve_rng_state=False)
            else:
                x = self._run_block(i, streams, prompts, patches)
            streams = Streams.one(x)
        return self.project(x[:, 0])

    def _run_block(self, i: int, streams: Streams, prompts: TowerPrompts, patches: int) -> Tensor:
        block, extra = self.blocks[i], prompts.extra.get(i)
        if (rows := prompts.rows.get(i)) is not None:
            streams = _part(streams.residual, rows, patches)
        if i < len(self.blocks) - 1:
            q, k, v = block.queries_keys_values(streams)
            return block.finish(streams.residual, attend(q, block.keys_values_with_extra(k, v, extra)))
        k, v = block.keys_values(streams)
        (q,) = block.project(streams.q[:, :1], "q")  # only CLS is read
        return block.finish(streams.residual[:, :1], attend(q, block.keys_values_with_extra(k, v, extra)))


def _part(x: Tensor, rows: Rows, patches: int) -> Streams:
    """x (B,N,D) -> streams of (B,patches+n,D) with the rows behind the patches; their number may change with every call."""
    arrived = x
    if x.shape[1] - patches != rows.count:  # another number of slots: the old ones are dropped
        arrived = torch.cat([x[:, :patches], x.new_zeros(len(x), rows.count, x.shape[-1])], 1)

    def put(t: Tensor) -> Tensor:
        new = (t if t.dim() == 3 else t[None]).expand(len(x), -1, -1).to(x.dtype)
        return torch.cat([x[:, :patches], arrived[:, patches:] + new if rows.add else new], 1)

    return Streams.from_rows(arrived, rows, put)
