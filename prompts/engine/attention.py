"""The share of a tower's attention that falls on prompts, block by block. The tower runs as usual, on blocks that record their
queries and keys, from which the shares are computed.

Shapes: B images, H heads, M queries, N rows, n slots, m extra rows, d width of a head. `...` are any leading axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.engine.blocks import Block, KeysValues
from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import ExtraKV, TowerPrompts
from prompts.engine.text_plan import TextPlan


@dataclass(frozen=True)
class Share:
    """How much of a block's attention falls on prompt rows: the rows in the slots and extra keys.

    Shares are of 1, means over heads, images and classes. `all_rows` is None in the last block, which runs the read-out row
    alone. Where options are mixed (`prompts.engine.rows.ExtraKV`), everything is their weighted mean.
    """

    prompts: float  # number of prompt rows
    even: float  # the read-out row's share if it attended to all rows equally
    read_out: float  # the share of the row that becomes the feature: EOT or CLS
    all_rows: float | None


@torch.no_grad()
def text_shares(clip: FrozenCLIP, plan: TextPlan, prompts: TowerPrompts, classes: Sequence[int]) -> list[Share]:
    """One share per block of the text tower, the mean over the texts of the classes with these ids."""
    plan, by_class = plan.to(clip.device), []
    for c in classes:
        blocks = [Watched(block) for block in clip.text_tower.blocks]
        replace(clip.text_tower, blocks=blocks).encode(plan, prompts, torch.tensor([c]))
        # a single class's rows, prefix and suffix, are its text in order
        tokens = torch.cat([plan.prefix.cpu(), plan.rows[c, : plan.lengths[c]]])
        slots, shares = (tokens < 0).nonzero().flatten().tolist(), []
        for i, block in enumerate(blocks):
            if i in prompts.rows and plan.slots_shared and (count := prompts.rows[i].count) != len(slots):
                first = slots[0] if slots else 1  # where the tower puts new ones
                slots = list(range(first, first + count))
            shares.append(block.share(slots, read_out=-1, causal=True))
        by_class.append(shares)
    return [_mean(of_block) for of_block in zip(*by_class, strict=True)]


@torch.no_grad()
def image_shares(clip: FrozenCLIP, images: Tensor, prompts: TowerPrompts) -> list[Share]:
    """One share per block of the image tower, the mean over images (B,3,S,S). The CLIP must be a ViT."""
    patches, by_image = clip.image_tower.embed(images[:1]).shape[1], []  # with CLS; the slots stand behind them
    for i in range(len(images)):  # one by one: the shares of all at once are gigabytes in large towers
        blocks = [Watched(block) for block in clip.image_tower.blocks]
        replace(clip.image_tower, blocks=blocks).encode(images[i : i + 1], prompts.for_images(i, i + 1))
        by_image.append([block.share(range(patches, block.rows("k").shape[-2]), read_out=0, causal=False) for block in blocks])
    return [_mean(of_block) for of_block in zip(*by_image, strict=True)]


class Watched(Block):
    """A block that records the queries, keys and extra keys of one run."""

    def __init__(self, block: Block):
        super().__init__(block.block)
        self.recorded: dict[str, list[Tensor]] = {"q": [], "k": []}  # each (...,H,N,d), in the order of the rows

    def project(self, x_ND: Tensor, parts: str) -> list[Tensor]:
        """`Block.project`, which also records the queries and keys."""
        out = super().project(x_ND, parts)
        for name, tensors in self.recorded.items():
            if name in parts:
                tensors.append(out[parts.index(name)])
        return out

    def keys_values_with_extra(self, k: Tensor, v: Tensor, extra: ExtraKV | None) -> list[KeysValues]:
        """`Block.keys_values_with_extra`, which also records the options' extra keys, apart from the keys of rows."""
        rows = {name: list(tensors) for name, tensors in self.recorded.items()}
        options = super().keys_values_with_extra(k, v, extra)
        self.recorded = rows  # without the projections of the extra rows
        self.options = [(weight, keys[..., : keys.shape[-2] - k.shape[-2], :]) for weight, keys, _ in options]
        return options

    def rows(self, name: str) -> Tensor:
        """The recorded queries ("q") or keys ("k") of all rows (...,H,N,d). The tower may project a text's prefix and suffix
        separately, and one of them once for all images."""
        parts = self.recorded[name]
        groups = max(map(len, parts))
        return torch.cat([part.expand(groups, *part.shape[1:]) for part in parts], -2)

    def share(self, slots: Sequence[int], read_out: int, causal: bool) -> Share:
        """The share on the rows at `slots` and on extra rows; `read_out` is the index of the row that is read."""
        q, k = self.rows("q"), self.rows("k")
        rows, whole = k.shape[-2], q.shape[-2] == k.shape[-2]  # the last block has queries of the read-out row only
        total = torch.zeros(4)
        for weight, extra_keys in self.options:
            m = extra_keys.shape[-2]
            keys = torch.cat([extra_keys.expand(len(k), -1, -1, -1), k], -2)
            scores = (q @ keys.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
            if causal and whole:
                later = torch.ones(rows, rows, dtype=torch.bool, device=q.device).triu(1)
                scores = scores.masked_fill(F.pad(later, (m, 0), value=False), float("-inf"))
            prompts = torch.zeros(m + rows, device=q.device)
            prompts[:m], prompts[[m + slot for slot in slots]] = 1, 1
            share = scores.softmax(-1) @ prompts  # (...,H,M)
            count = prompts.sum().item()
            means = [count, count / (m + rows), share[..., read_out].mean().item(), share.mean().item()]
            total += (1.0 if weight is None else float(weight)) * torch.tensor(means)
        prompts, even, read, everywhere = total.tolist()
        return Share(prompts, even, read, everywhere if whole else None)


def _mean(shares: Sequence[Share]) -> Share:
    columns = ([getattr(share, field.name) for share in shares] for field in fields(Share))
    return Share(*(None if column[0] is None else sum(column) / len(column) for column in columns))
