"""Text towers that compute every position of every class: those that are not causal, and those whose feature is not at EOT.
They take the same plans and prompts as the packed tower (`prompts.engine.text_tower`).

Shapes: G prompt groups (1, or one per image), C classes, S = G x C sequences, L tokens, N rows of a sequence, n slots, m extra
rows, H heads, D width, d width of the shared embedding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from prompts.engine.blocks import Block, KeysValues, Streams
from prompts.engine.rows import NO_PROMPTS, Rows, TowerPrompts, check_prompts
from prompts.engine.text_plan import TextPlan

Pool = Literal["first", "last", "argmax", "eos", "cls"]


@dataclass(frozen=True)
class Padded(ABC):
    """The base of such towers: encodes in chunks of classes and groups of images. `start`: number of tokens in front of every
    text; `pad`: the padding token."""

    start: int
    pad: int

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """The number of blocks and D."""

    @abstractmethod
    def run(self, ids_CL: Tensor, classes: Tensor, prompts: TowerPrompts, groups: int) -> Tensor:
        """Features (S,d) of the classes' padded texts, in the order (group, class)."""

    @abstractmethod
    def ids(self, plan: TextPlan, classes: Tensor) -> Tensor:
        """(C,L) ids and slots of classes (C,), padded."""

    def encode(
        self,
        plan: TextPlan,
        prompts: TowerPrompts = NO_PROMPTS,
        classes: Tensor | None = None,
        *,
        max_rows: int | None = None,
        recompute: bool = False,
    ) -> Tensor:
        """Un-normalised features, float32: (C,d), or (B,C,d) when any rows differ by image. The arguments are those of
        `prompts.engine.text_tower.TextTower.encode`.

        Raises:
            ValueError: prompts that do not fit the tower or the plan.
        """
        self.check(plan, prompts)
        images, device = prompts.images, plan.prefix.device
        anchor = sum((0 * t.sum() for t in prompts.tensors if t.requires_grad), start=0)  # as in the packed tower
        which = torch.arange(len(plan), device=device) if classes is None else classes.to(device)
        ids = self.ids(plan, which)
        rows = ids.shape[1]
        room = max_rows or (images or 1) * len(which) * rows
        at_once = 1 if images is None else max(1, min(images, room // (len(which) * rows)))
        classes_at_once = max(1, room // (at_once * rows))
        groups = []
        for i in range(0, images or 1, at_once):
            part = prompts if images is None else prompts.for_images(i, min(i + at_once, images))
            parts = [
                self._chunk(chunk, some, part, recompute)
                for chunk, some in zip(ids.split(classes_at_once), which.split(classes_at_once), strict=True)
            ]
            groups.append(torch.cat(parts, 1))
        features = torch.cat(groups) + anchor
        return features[0] if images is None else features

    def check(self, plan: TextPlan, prompts: TowerPrompts) -> None:
        """ValueError for prompts that do not fit."""
        blocks, width = self.size
        fixed = not plan.slots_shared
        check_prompts(prompts, "text", slots=plan.n_slots, fixed_slots=fixed, blocks=blocks, width=width, classes=len(plan))

    def _chunk(self, ids_CL: Tensor, classes: Tensor, prompts: TowerPrompts, recompute: bool) -> Tensor:
        """Features (G,C,d)"""
        groups = prompts.images or 1
        if recompute and torch.is_grad_enabled():
            how: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
            features = checkpoint(self.run, ids_CL, classes, prompts, groups, **how)
        else:
            features = self.run(ids_CL, classes, prompts, groups)
        return features.unflatten(0, (groups, len(ids_CL)))


@dataclass(frozen=True)
class Layout:
    """Where the slots of each sequence are, which row becomes the feature, and which rows the others may attend to."""

    slots: Tensor  # (S,n) index of each slot's row, in the order of the prompt rows
    read: Tensor  # (S,)
    keys: Tensor | None  # (S,N) bool; None: all

    def resized(self, count: int, start: int) -> Layout:
        """The layout with `count` slots instead of the present ones, which are at the same place in all sequences."""
        first = int(self.slots[0, 0]) if self.slots.shape[1] else start
        slots = (first + torch.arange(count, device=self.read.device)).expand(len(self.read), -1)
        read = torch.where(self.read >= first, self.read + count - self.slots.shape[1], self.read)
        keys = self.keys
        if keys is not None:
            keys = torch.cat([keys[:, :first], keys.new_ones(len(keys), count), keys[:, first + self.slots.shape[1] :]], 1)
        return Layout(slots, read, keys)


def slots_of(ids_CL: Tensor) -> Tensor:
    """(C,n) position of slot j in each text."""
    where = ids_CL < 0
    positions = where.nonzero()[:, 1].view(len(ids_CL), -1)
    numbers = -1 - ids_CL[where].view(len(ids_CL), -1)
    return torch.zeros_like(positions).scatter(1, numbers, positions)


def fill(x: Tensor, rows: Rows, slots: Tensor, classes: Tensor, groups: int) -> Streams:
    """x (S,N,D) -> streams of (S,N,D) with the prompt rows in the slots (S,n); `classes` (C,) are ids in the full list."""
    index = slots[..., None].expand(-1, -1, x.shape[-1])

    def put(t: Tensor) -> Tensor:
        if rows.per == "class":
            new = t[classes].repeat(groups, 1, 1)
        else:
            new = t.repeat_interleave(len(classes), 0) if rows.per == "image" else t.expand(len(x), -1, -1)
        new = x.gather(1, index) + new if rows.add else new
        return x.scatter(1, index, new.to(x.dtype))

    return Streams.from_rows(x, rows, put) if slots.shape[1] else Streams.one(x)


@dataclass(frozen=True)
class PaddedTextTower(Padded):
    """open_clip's text transformer, every position of which is computed.

    `embed`, `positions` and `project` are those of the packed tower. `pool` says which row becomes the feature: the first, the
    last, the one of the largest token, that of the token `eos`, or `cls`, a learned row (D,) behind the text. `length` is L.
    `hides_padding`: no row attends to padding; with `cls_key_in_front` it is hidden one row too late, as the published CoCa
    models are trained: the row of the first padding is seen, and the class row does not see itself.
    """

    blocks: Sequence[Block]
    embed: Callable[[Tensor], Tensor]
    positions: Tensor
    project: Callable[[Tensor], Tensor]
    pool: Pool = "argmax"
    eos: int = 0
    causal: bool = False
    cls: Tensor | None = None
    length: int = 77
    hides_padding: bool = False
    cls_key_in_front: bool = False
    pad_key: int = field(default=0)  # the token that `hides_padding` takes for padding

    @property
    def size(self) -> tuple[int, int]:
        """The number of blocks and D."""
        return len(self.blocks), self.positions.shape[-1]

    def ids(self, plan: TextPlan, classes: Tensor) -> Tensor:
        """(C,L) ids and slots of classes (C,), padded."""
        return plan.padded(self.length, self.pad)[classes]

    def run(self, ids_CL: Tensor, classes: Tensor, prompts: TowerPrompts, groups: int) -> Tensor:
        """Features (S,d) of the classes' padded texts, in the order (group, class)."""
        layout = self._layout(ids_CL.repeat(groups, 1))
        x = self.embed(ids_CL.clamp_min(0)).repeat(groups, 1, 1)
        if self.cls is not None:
            x = torch.cat([x, self.cls.float().expand(len(x), 1, -1)], 1)
        streams = Streams.one(x)
        if prompts.inputs is not None:
            streams = fill(x, prompts.inputs, layout.slots, classes, groups)
        streams, last = streams.map(lambda t: t + self.positions[: x.shape[1]]), len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            if (rows := prompts.rows.get(i)) is not None:
                x, old = streams.residual, layout
                if rows.count != old.slots.shape[1]:
                    layout = old.resized(rows.count, self.start)
                    x = _with_empty_slots(x, old, rows.count, self.start)
                streams = fill(x, rows, layout.slots, classes, groups)
            visible = self._visible(layout, streams.k.shape[1])
            if i == last:
                break
            q, k, v = block.queries_keys_values(streams)
            attended = _attend(q, block.keys_values_with_extra(k, v, prompts.extra.get(i)), visible)
            streams = Streams.one(block.finish(streams.residual, attended))
        k, v = block.keys_values(streams)
        sequence = torch.arange(len(layout.read), device=k.device)
        (q,) = block.project(streams.q[sequence, layout.read][:, None], "q")  # the last block computes what is read
        if visible is not None:
            visible = visible.expand(len(sequence), -1, -1, -1)[sequence, :, layout.read][:, :, None]
        attended = _attend(q, block.keys_values_with_extra(k, v, prompts.extra.get(last)), visible)
        return self.project(block.finish(streams.residual[sequence, layout.read][:, None], attended)[:, 0])

    def _layout(self, ids_SL: Tensor) -> Layout:
        """The layout of sequences whose number of rows no prompts have changed."""
        read = {
            "first": lambda: torch.zeros_like(ids_SL[:, 0]),
            "last": lambda: torch.full_like(ids_SL[:, 0], ids_SL.shape[1] - 1),
            "cls": lambda: torch.full_like(ids_SL[:, 0], ids_SL.shape[1]),
            "argmax": lambda: ids_SL.argmax(-1),
            "eos": lambda: (ids_SL == self.eos).int().argmax(-1),
        }[self.pool]()
        keys = None
        if self.hides_padding:
            keys = ids_SL != self.pad_key
            if self.cls is not None:
                cls = keys.new_ones(len(keys), 1)
                keys = torch.cat([cls, keys] if self.cls_key_in_front else [keys, cls], 1)
        return Layout(slots_of(ids_SL), read, keys)

    def _visible(self, layout: Layout, rows: int) -> Tensor | None:
        """(S or 1,1,N,N) bool: which keys each row attends to; None: all."""
        device, seen = layout.read.device, None
        if self.causal:
            seen = torch.ones(rows, rows, dtype=torch.bool, device=device).tril()[None, None]
        if layout.keys is not None:
            keys = layout.keys[:, None, None]
            seen = keys if seen is None else keys & seen
        return None if seen is None else seen.expand(-1, -1, rows, -1)


def _with_empty_slots(x: Tensor, layout: Layout, count: int, start: int) -> Tensor:
    """x (S,N,D) with `count` empty rows in the place of its slots."""
    old = layout.slots.shape[1]
    first = int(layout.slots[0, 0]) if old else start
    return torch.cat([x[:, :first], x.new_zeros(len(x), count, x.shape[-1]), x[:, first + old :]], 1)


def _attend(q: Tensor, options: Sequence[KeysValues], visible: Tensor | None) -> Tensor:
    """Attention of q (S,H,M,d) over the keys of each option, mixed by the options' weights. `visible` (S,1,M,N) is of the last
    N keys; all rows attend to those in front."""
    total = None
    for weight, keys, values in options:
        mask = visible if visible is None else F.pad(visible, (keys.shape[-2] - visible.shape[-1], 0), value=True)
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        out = out if weight is None else weight * out
        total = out if total is None else total + out
    return total
