"""Vision transformers with prompts, and image towers that take none.

The slots come after a tower's own rows: CLS and register rows if it has some, then patches. The pooling reads the tower's own
rows alone, as without prompts, and the last block computes only the rows that it reads.

Shapes: B images, N rows, R rows that the pooling reads, n slots, H heads, D width, d = D/H.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from prompts.engine.blocks import Block, Streams, attend
from prompts.engine.rows import NO_PROMPTS, Rows, TowerPrompts, check_prompts
from prompts.engine.untyped import AnyModule


@dataclass(frozen=True)
class Patches:
    """A tower's patches, for dense features.

    `size` is the size of a patch in pixels, `grid` the number of patches at the tower's own image size, both (height, width);
    `first` is the number of rows in front of them. `embed` embeds images of any size. `project` maps rows (B,N,D) to the joint
    space, (B,N,d); None where the pooling cannot project single rows. `class_row` is CLIP's class embedding (D,); None where a
    tower has another first row.
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    first: int
    embed: Callable[[Tensor], Tensor]
    project: Callable[[Tensor], Tensor] | None
    class_row: Tensor | None = None


@dataclass(frozen=True)
class ImageTower:
    """The parts of a vision transformer, each block of which takes prompts.

    `embed` maps images (B,3,S,S) to the tower's own rows with positions (B,N,D), before `enter`, the first LayerNorm; `project`
    ends with (B,R,D) -> (B,d). `reads_all`: R is N, as for average and attention pooling; else 1, the CLS row.
    """

    blocks: Sequence[Block]
    embed: Callable[[Tensor], Tensor]
    enter: Callable[[Tensor], Tensor]
    project: Callable[[Tensor], Tensor]
    reads_all: bool
    patches: Patches

    def encode(self, images: Tensor, prompts: TowerPrompts = NO_PROMPTS, *, recompute: bool = False) -> Tensor:
        """Un-normalised features (B,d), float32. `recompute` keeps only each block's input for the backward pass.

        Raises:
            ValueError: prompts that do not fit the tower or the batch (`prompts.engine.rows.check_prompts`).
        """
        return self.project(self.run(images, prompts, recompute))

    def run(
        self,
        images: Tensor,
        prompts: TowerPrompts = NO_PROMPTS,
        recompute: bool = False,
        keep: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """The output of the last block: the rows that the pooling reads (B,R,D). With `keep`, all of the tower's own rows, and
        `keep` is called with the number and the output of every block."""
        x = self.embed(images)
        check_prompts(prompts, "image", blocks=len(self.blocks), width=x.shape[-1], images=len(x))
        patches, recompute = x.shape[1], recompute and torch.is_grad_enabled()
        read = patches if self.reads_all or keep else 1
        streams = Streams.one(x) if prompts.inputs is None else _part(x, prompts.inputs, patches)
        streams = streams.map(self.enter)
        for i in range(len(self.blocks)):
            if recompute:
                options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
                x = checkpoint(self._run_block, i, streams, prompts, patches, read, **options)
            else:
                x = self._run_block(i, streams, prompts, patches, read)
            if keep:
                keep(i, x)
            streams = Streams.one(x)
        return x

    def _run_block(self, i: int, streams: Streams, prompts: TowerPrompts, patches: int, read: int) -> Tensor:
        block, extra = self.blocks[i], prompts.extra.get(i)
        if (rows := prompts.rows.get(i)) is not None:
            streams = _part(streams.residual, rows, patches)
        if i < len(self.blocks) - 1:
            q, k, v = block.queries_keys_values(streams)
            q, k = block.placed(q), block.placed(k)
            return block.finish(streams.residual, attend(q, block.keys_values_with_extra(k, v, extra)))
        k, v = block.keys_values(streams)
        (q,) = block.project(streams.q[:, :read], "q")  # only what is read
        options = block.keys_values_with_extra(block.placed(k), v, extra)
        return block.finish(streams.residual[:, :read], attend(block.placed(q), options))


class OpaqueImageTower:
    """An image tower that is run as a whole and takes no prompts: a ResNet, ConvNeXt or the like.

    Args:
        module: (B,3,S,S) -> (B,d), or a tuple that begins with it.
        kind: what it is, in words ("a ResNet").
    """

    blocks: Sequence[Block] = ()

    def __init__(self, module: AnyModule, kind: str):
        self.module, self.kind = module, kind

    def encode(self, images: Tensor, prompts: TowerPrompts = NO_PROMPTS, *, recompute: bool = False) -> Tensor:
        """Un-normalised features (B,d), float32. `recompute` changes nothing here.

        Raises:
            ValueError: any prompts.
        """
        self.check_prompts(prompts)
        features = self.module(images)
        return (features[0] if isinstance(features, tuple) else features).float()

    def check_prompts(self, prompts: TowerPrompts) -> None:
        """ValueError where there are any prompts."""
        if prompts != NO_PROMPTS:
            raise ValueError(
                "visual prompts need the blocks of a vision transformer, but this CLIP's image tower is "
                f"{self.kind}: use a ViT."
            )


def _part(x: Tensor, rows: Rows, patches: int) -> Streams:
    """x (B,N,D) -> streams of (B,patches+n,D) with the rows behind the patches; their number may change with every call."""
    arrived = x
    if x.shape[1] - patches != rows.count:  # another number of slots: the old ones are dropped
        arrived = torch.cat([x[:, :patches], x.new_zeros(len(x), rows.count, x.shape[-1])], 1)

    def put(t: Tensor) -> Tensor:
        new = (t if t.dim() == 3 else t[None]).expand(len(x), -1, -1).to(x.dtype)
        return torch.cat([x[:, :patches], arrived[:, patches:] + new if rows.add else new], 1)

    return Streams.from_rows(arrived, rows, put)
