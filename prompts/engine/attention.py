"""The share of a tower's attention that falls on prompts, block by block. The tower runs as usual, on blocks that record their
queries and keys, from which the shares are computed.

Shapes: B images, H heads, M queries, N rows, n slots, m extra rows, d width of a head. `...` are any leading axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.engine.blocks import Block, KeysValues
from prompts.engine.clip import FrozenCLIP
from prompts.engine.padded_text import PaddedTextTower
from prompts.engine.rows import ExtraKV, TowerPrompts
from prompts.engine.text_plan import TextPlan
from prompts.engine.text_tower import TextTower


@dataclass(frozen=True)
class Share:
    """How much of a block's attention falls on prompt rows: the rows in the slots and extra keys.

    Shares are of 1, means over heads, images and classes. `all_rows` is None in the last block, which runs the read-out row
    alone. Where options are mixed (`prompts.engine.rows.ExtraKV`), everything is their weighted mean.
    """

    prompts: float  # number of prompt rows
    even: float  # the read-out row's share if it attended to all rows equally
    read_out: float  # the share of the row that becomes the feature (EOT, CLS), or the mean of those that are pooled
    all_rows: float | None


def text_is_shown(clip: FrozenCLIP) -> bool:
    """Whether `text_shares` supports the text tower: its rows attend to all rows, or to earlier ones."""
    tower = clip.text_tower
    return isinstance(tower, TextTower) or (isinstance(tower, PaddedTextTower) and not tower.causal and not tower.hides_padding)


@torch.no_grad()
def text_shares(clip: FrozenCLIP, plan: TextPlan, prompts: TowerPrompts, classes: Sequence[int]) -> list[Share]:
    """One share per block of the text tower, the mean over the texts of the classes with these ids, where `text_is_shown`."""
    tower: Any = clip.text_tower
    plan, by_class = plan.to(clip.device), []
    causal, pool = isinstance(tower, TextTower), getattr(tower, "pool", None)
    for c in classes:
        blocks = [watched(block) for block in tower.blocks]
        replace(tower, blocks=blocks).encode(plan, prompts, torch.tensor([c]))
        # a single class's rows, prefix and suffix, are its text in order
        tokens = torch.cat([plan.prefix.cpu(), plan.rows[c, : plan.lengths[c]]])
        slots, shares = (tokens < 0).nonzero().flatten().tolist(), []
        for i, block in enumerate(blocks):
            if i in prompts.rows and plan.slots_shared and (count := prompts.rows[i].count) != len(slots):
                first = slots[0] if slots else tower.start  # where the tower puts new ones
                slots = list(range(first, first + count))
            at_end = len(tokens) - 1 + len(slots) - plan.n_slots  # of the text, in front of padding
            read = 0 if pool == "first" else at_end if pool in ("argmax", "eos") else -1
            shares.append(block.share(slots, read, causal))
        by_class.append(shares)
    return [_mean(of_block) for of_block in zip(*by_class, strict=True)]


@torch.no_grad()
def image_shares(clip: FrozenCLIP, images: Tensor, prompts: TowerPrompts) -> list[Share]:
    """One share per block of the image tower, the mean over images (B,3,S,S). The CLIP must be a ViT."""
    tower: Any = clip.image_tower
    images = clip.normalised(images)
    patches, by_image = tower.embed(images[:1]).shape[1], []  # with CLS; the slots stand behind them
    read = slice(0, patches) if tower.reads_all else 0
    for i in range(len(images)):  # one by one: the attention of all images takes gigabytes in large towers
        blocks = [watched(block) for block in tower.blocks]
        replace(tower, blocks=blocks).encode(images[i : i + 1], prompts.for_images(i, i + 1))
        by_image.append([block.share(range(patches, block.rows("k").shape[-2]), read, causal=False) for block in blocks])
    return [_mean(of_block) for of_block in zip(*by_image, strict=True)]


def watched(block: Block) -> Watched:
    """A block of the same kind that records its run."""
    copy = object.__new__(type("Watched", (Watched, type(block)), {}))
    copy.__dict__.update(block.__dict__, recorded={"q": [], "k": []})
    return copy


class Watched(Block):
    """A mixin with which a block records the queries, keys and extra keys of one run (`watched`)."""

    recorded: dict[str, list[Tensor]]  # each (...,H,N,d), in the order of the rows

    def project(self, x_ND: Tensor, parts: str) -> list[Tensor]:
        """`Block.project`, which also records the queries and keys."""
        out = super().project(x_ND, parts)
        for name, tensors in self.recorded.items():
            if name in parts:
                tensors.append(out[parts.index(name)])
        return out

    def placed(self, t_HNd: Tensor) -> Tensor:
        """`Block.placed`, whose result replaces the recorded queries or keys."""
        placed = super().placed(t_HNd)
        self.recorded = {name: [placed if t is t_HNd else t for t in tensors] for name, tensors in self.recorded.items()}
        return placed

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

    def share(self, slots: Sequence[int], read_out: int | slice, causal: bool) -> Share:
        """The share on the rows at `slots` and on extra rows; `read_out` is the index of the row that is read, or of those."""
        q, k = self.rows("q"), self.rows("k")
        read_out = 0 if q.shape[-2] == 1 else read_out
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
