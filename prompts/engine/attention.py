"""How much of a tower's attention falls on prompts, block by block. The tower runs as it always does, on blocks that keep their
queries and keys; the shares are worked out from these.

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
    """What a block's attention puts on prompt rows: those in the slots, whatever earlier blocks made of them, and extra keys.

    Shares are of 1, means over heads, images and classes. `all_rows` is None in the last block, which runs the read-out row
    alone. Where options are mixed (`prompts.engine.rows.ExtraKV`), everything is their weighted mean.
    """

    prompts: float  # number of prompt rows
    even: float  # the read-out row's share, if it attended to all rows alike
    read_out: float  # of the row that becomes the feature: EOT or CLS
    all_rows: float | None


@torch.no_grad()
def text_shares(clip: FrozenCLIP, plan: TextPlan, prompts: TowerPrompts, classes: Sequence[int]) -> list[Share]:
    """One share per block of the text tower, the mean over the texts of the classes with these ids."""
    plan, found = plan.to(clip.device), []
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
        found.append(shares)
    return [_mean(each) for each in zip(*found, strict=True)]


@torch.no_grad()
def image_shares(clip: FrozenCLIP, images: Tensor, prompts: TowerPrompts) -> list[Share]:
    """One share per block of the image tower, the mean over images (B,3,S,S). The CLIP must be a ViT."""
    own, found = len(clip.model.visual.positional_embedding), []  # CLS and patches; the slots stand behind them
    for i in range(len(images)):  # one by one: the shares of all at once are gigabytes in large towers
        blocks = [Watched(block) for block in clip.image_tower.blocks]
        replace(clip.image_tower, blocks=blocks).encode(images[i : i + 1], prompts.for_images(i, i + 1))
        found.append([block.share(range(own, block.rows("k").shape[-2]), read_out=0, causal=False) for block in blocks])
    return [_mean(each) for each in zip(*found, strict=True)]


class Watched(Block):
    """A block that keeps the queries, keys and extra keys of one run."""

    def __init__(self, block: Block):
        super().__init__(block.block)
        self.kept: dict[str, list[Tensor]] = {"q": [], "k": []}  # each (...,H,N,d), in the order of the rows

    def project(self, x_ND: Tensor, parts: str) -> list[Tensor]:
        out = super().project(x_ND, parts)
        for name, kept in self.kept.items():
            if name in parts:
                kept.append(out[parts.index(name)])
        return out

    def keys_values_with_extra(self, k: Tensor, v: Tensor, extra: ExtraKV | None) -> list[KeysValues]:
        """As of `Block`, and keeps the options' extra keys apart from those of rows."""
        rows = {name: list(kept) for name, kept in self.kept.items()}
        options = super().keys_values_with_extra(k, v, extra)
        self.kept = rows
        self.options = [(weight, keys[..., : keys.shape[-2] - k.shape[-2], :]) for weight, keys, _ in options]
        return options

    def rows(self, name: str) -> Tensor:
        """The tower may project a text's prefix and suffix apart, and one of them for all images at once."""
        kept = self.kept[name]
        groups = max(map(len, kept))
        return torch.cat([part.expand(groups, *part.shape[1:]) for part in kept], -2)

    def share(self, slots: Sequence[int], read_out: int, causal: bool) -> Share:
        """The share on the rows at `slots` and on extra rows; `read_out` is the place of the row that is read."""
        q, k = self.rows("q"), self.rows("k")
        rows, whole = k.shape[-2], q.shape[-2] == k.shape[-2]  # in the last block only the read-out row asks
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
            each = [count, count / (m + rows), share[..., read_out].mean().item(), share.mean().item()]
            total += (1.0 if weight is None else float(weight)) * torch.tensor(each)
        prompts, even, read, everywhere = total.tolist()
        return Share(prompts, even, read, everywhere if whole else None)


def _mean(shares: Sequence[Share]) -> Share:
    columns = ([getattr(share, field.name) for share in shares] for field in fields(Share))
    return Share(*(None if column[0] is None else sum(column) / len(column) for column in columns))
