"""CLIP's text tower with prompts, run on the rows that matter: shared prefix once, packed suffixes, EOT rows at the end.

Exact: the same features and gradients as 77 positions per class (tests/prompts/test_text_tower.py).

Shapes: G prompt groups (1, or one per image), C classes, P prefix rows, T packed suffix rows, M rows of one class's suffix,
n slots, H heads, D width, d = D/H.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from prompts.blocks import Block, Streams, attend
from prompts.rows import NO_PROMPTS, Rows, TowerPrompts
from prompts.text_plan import Suffixes, TextPlan

# what a suffix sees of the prefix in one block: per option (weight, keys (G,H,m+P,d), values (G,H,m+P,d))
Seen = list[tuple[Tensor | None, Tensor, Tensor]]


@dataclass(frozen=True)
class TextTower:
    """The frozen parts. `embed` maps ids (N,) to float32 (N,D), `positions` is (77,D), `project` maps (...,D) to (...,d)."""

    blocks: list[Block]
    embed: Callable[[Tensor], Tensor]
    positions: Tensor
    project: Callable[[Tensor], Tensor]

    def encode(
        self,
        plan: TextPlan,
        prompts: TowerPrompts = NO_PROMPTS,
        classes: Tensor | None = None,
        *,
        max_rows: int | None = None,
        recompute: bool = False,
    ) -> Tensor:
        """Un-normalised features at EOT, float32: (C,d), or (B,C,d) when any rows differ by image.

        `classes` (K,) are the ids of those to encode, in this order; None: all.

        `max_rows` bounds the rows (images x suffix rows) that are in flight at once; `recompute` keeps no activations of the
        suffixes and computes them again in the backward pass, so that memory does not grow with the number of classes.
        """
        _check_slots(plan, prompts)
        images = prompts.images
        # Rows that no feature can depend on, such as queries of the prefix in the last block, stay in the graph: DDP and weight
        # decay expect a gradient, exactly zero, of every tensor.
        anchor = sum((0 * t.sum() for t in prompts.tensors if t.requires_grad), start=0)
        if images is None:
            return self._encode_group(plan, prompts, classes, max_rows, recompute)[0] + anchor
        lengths = plan.lengths if classes is None else plan.lengths[classes.cpu()]
        at_once = images if max_rows is None else max(1, max_rows // int(lengths.sum()))
        parts = [prompts.for_images(i, min(i + at_once, images)) for i in range(0, images, at_once)]
        groups = [self._encode_group(plan, part, classes, max_rows and max_rows // at_once, recompute) for part in parts]
        return torch.cat(groups) + anchor

    def _encode_group(
        self, plan: TextPlan, prompts: TowerPrompts, classes: Tensor | None, max_rows: int | None, recompute: bool
    ) -> Tensor:
        seen = self._run_prefix(plan, prompts)
        chunks, back = plan.chunks(max_rows, classes)
        recompute = recompute and torch.is_grad_enabled()
        parts = [
            checkpoint(self._run_suffixes, chunk, prompts, seen, use_reentrant=False, preserve_rng_state=False)
            if recompute
            else self._run_suffixes(chunk, prompts, seen)
            for chunk in chunks
        ]
        return torch.cat(parts, 1)[:, back]

    # ---------------------------------------------------------------- the rows that all classes share

    def _run_prefix(self, plan: TextPlan, prompts: TowerPrompts) -> list[Seen]:
        slots = (plan.prefix < 0).nonzero().flatten()
        slot_ids = plan.prefix[slots]
        places = torch.arange(len(plan.prefix), device=plan.prefix.device)
        streams = self._enter(plan.prefix, places, None, prompts.inputs)
        seen, last = [], len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            x = streams.residual
            if (rows := prompts.rows.get(i)) is not None:
                if plan.slots_shared and rows.count != len(slots):
                    x, slots, slot_ids = _change_slots(x, slots, rows.count)
                streams = _part(x, rows, slots, slot_ids, None)
            options = block.extra_options(prompts.extra.get(i))
            if i == last:  # nothing reads the prefix's own output there
                k, v = block.keys_values(streams)
            else:
                q, k, v = block.queries_keys_values(streams)
                mask = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool, device=x.device).tril()
                streams = Streams.one(block.finish(streams.residual, attend(q, k, v, options, mask)))
            seen.append([(weight, _behind(extra_k, k), _behind(extra_v, v)) for weight, extra_k, extra_v in options])
        return seen

    # ---------------------------------------------------------------- each class's own rows

    def _run_suffixes(self, chunk: Suffixes, prompts: TowerPrompts, seen: list[Seen]) -> Tensor:
        """-> (G,C,d) in packed order."""
        slots = (chunk.ids < 0).nonzero().flatten()
        streams = self._enter(chunk.ids, chunk.places, chunk.classes, prompts.inputs)
        for i, block in enumerate(self.blocks):
            if (rows := prompts.rows.get(i)) is not None and len(slots):
                streams = _part(streams.residual, rows, slots, chunk.ids[slots], chunk.classes[slots])
            if i < len(self.blocks) - 1:
                q, k, v = block.queries_keys_values(streams)
                streams = Streams.one(block.finish(streams.residual, _attend_suffixes(q, k, v, chunk.runs, seen[i])))
            else:  # only EOT is read
                k, v = block.keys_values(streams)
                q = block.project(streams.q[..., chunk.eot, :], "q")[0]
                out = _attend_suffixes(q, k, v, chunk.runs, seen[i], eot_only=True)
                return self.project(block.finish(streams.residual[..., chunk.eot, :], out))
        raise AssertionError("a text tower has at least one block")

    def _enter(self, ids: Tensor, places: Tensor, classes: Tensor | None, rows: Rows | None) -> Streams:
        """Embeddings with the input rows in their slots, plus positions: streams of (G,N,D)."""
        x, at = self.embed(ids.clamp_min(0))[None], self.positions[places]
        slots = (ids < 0).nonzero().flatten()
        if rows is None or not len(slots):
            assert rows is not None or not len(slots), "the plan has slots, but no rows enter the tower to fill them"
            return Streams.one(x + at)
        own = None if classes is None else classes[slots]
        return _part(x, rows, slots, ids[slots], own).map(lambda t: t + at)


def _part(x: Tensor, rows: Rows, slots: Tensor, slot_ids: Tensor, classes: Tensor | None) -> Streams:
    """x (G,N,D) -> streams of (G,N,D), or (B,N,D) if the rows differ by image, with the rows at the positions `slots`."""

    def put(t: Tensor) -> Tensor:
        new = t[classes, -1 - slot_ids] if rows.per == "class" else t[..., -1 - slot_ids, :]
        new = new if new.dim() == 3 else new[None]
        new = x[:, slots] + new if rows.add else new
        groups = max(len(x), len(new))
        return x.expand(groups, -1, -1).index_copy(1, slots, new.expand(groups, -1, -1).to(x.dtype))

    return Streams.parted(x, rows, put) if len(slots) else Streams.one(x)


def _change_slots(x: Tensor, slots: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The prefix with its old slots dropped and `count` empty ones in their place -> (rows, their positions, their ids)."""
    first = int(slots[0]) if len(slots) else 1  # behind SOT
    empty = x.new_zeros(len(x), count, x.shape[-1])
    x = torch.cat([x[:, :first], empty, x[:, first + len(slots) :]], 1)
    ids = torch.arange(count, device=x.device)
    return x, first + ids, -1 - ids


def _check_slots(plan: TextPlan, prompts: TowerPrompts) -> None:
    if plan.slots_shared:
        return
    for i, rows in prompts.rows.items():
        if rows.count != plan.n_slots:
            raise ValueError(
                f"block {i} asks for {rows.count} prompt rows where the text has {plan.n_slots} slots: their number can change "
                "between blocks only with one context for all classes and the class name at the end."
            )


def _behind(extra: Tensor | None, rows: Tensor) -> Tensor:
    """extra (H,m,d) in front of rows (G,H,P,d)"""
    return rows if extra is None else torch.cat([extra.expand(len(rows), -1, -1, -1), rows], -2)


def _attend_suffixes(q: Tensor, k: Tensor, v: Tensor, runs, seen: Seen, eot_only: bool = False) -> Tensor:
    """Attention of packed suffix rows over the shared prefix and, causally, over their own class.

    q (G,H,T,d), or (G,H,C,d) with `eot_only`; k, v (G,H,T,d) -> as q. The prefix's keys stay shared: scores against them are
    one matrix product, joined with the own scores before the softmax. Repeating those keys for every class, as a library
    attention needs it, costs 2 to 5 times the time on a CPU and most of the memory.
    """
    q = q * q.shape[-1] ** -0.5
    total = None
    for weight, prefix_k, prefix_v in seen:
        shares, outs, row, query = [], [], 0, 0
        scores = q @ prefix_k.transpose(-1, -2)  # (G,H,T,m+P)
        for classes, length in runs:
            n = 1 if eot_only else length
            mine, own = slice(query, query + classes * n), slice(row, row + classes * length)
            keys, values = (t[..., own, :].unflatten(-2, (classes, length)) for t in (k, v))  # (G,H,C,M,d)
            own_scores = q[..., mine, :].unflatten(-2, (classes, n)) @ keys.transpose(-1, -2)  # (G,H,C,n,M)
            if n > 1:
                later = torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1)
                own_scores = own_scores.masked_fill(later, float("-inf"))
            before = scores[..., mine, :].unflatten(-2, (classes, n))
            own_scores = own_scores.expand(len(before), *own_scores.shape[1:])
            share = torch.cat([before, own_scores], -1).float().softmax(-1).to(v.dtype)
            before, own = share.split([before.shape[-1], length], -1)
            shares.append(before.flatten(-3, -2))
            outs.append((own @ values).flatten(-3, -2))
            row, query = row + classes * length, query + classes * n
        out = torch.cat(shares, -2) @ prefix_v + torch.cat(outs, -2)
        out = out if weight is None else weight * out
        total = out if total is None else total + out
    return total
