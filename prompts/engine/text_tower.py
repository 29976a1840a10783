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

from prompts.engine.blocks import Block, Streams, attend
from prompts.engine.rows import NO_PROMPTS, Rows, TowerPrompts, check_prompts
from prompts.engine.text_plan import Suffixes, TextPlan

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

        Raises:
            ValueError: prompts that do not fit the tower or the plan (`prompts.engine.rows.check_prompts`).
        """
        size = {"blocks": len(self.blocks), "width": self.positions.shape[-1], "classes": len(plan)}
        check_prompts(prompts, "text", slots=plan.n_slots, fixed_slots=not plan.slots_shared, **size)
        if prompts.by_class:
            plan = plan.unshared()
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
        chunks, back = plan.chunks(max_rows, classes)
        recompute = recompute and torch.is_grad_enabled()
        if len(chunks) == 1 and not recompute:  # the prefix's few rows ride along with the suffixes
            return self._run(plan, chunks[0], prompts)[0][:, back]
        _, seen = self._run(plan, None, prompts)
        parts = []
        for chunk in chunks:
            if recompute:
                run = checkpoint(self._run, plan, chunk, prompts, seen, use_reentrant=False, preserve_rng_state=False)
            else:
                run = self._run(plan, chunk, prompts, seen)
            parts.append(run[0])
        return torch.cat(parts, 1)[:, back]

    def _run(
        self, plan: TextPlan, chunk: Suffixes | None, prompts: TowerPrompts, seen: list[Seen] | None = None
    ) -> tuple[Tensor | None, list[Seen]]:
        """The prefix's rows, unless `seen` holds what an earlier run left of them, and behind them the chunk's suffixes, if
        any, in the same matrix products -> features (G,C,d) in packed order, and what suffixes see of the prefix per block."""
        fresh, seen = seen is None, seen or []
        prefix = plan.prefix if fresh else plan.prefix[:0]
        ids, places = prefix, torch.arange(len(prefix), device=prefix.device)
        owners = torch.zeros_like(ids)  # of the prefix's rows never read: slots that differ by class are in no prefix
        if chunk is not None:
            ids, places = torch.cat([ids, chunk.ids]), torch.cat([places, chunk.places])
            owners = torch.cat([owners, chunk.classes])
        slots = (ids < 0).nonzero().flatten()
        slot_ids, owners = ids[slots], owners[slots]
        streams = self._enter(ids, places, slots, owners, prompts.inputs)
        end, last = len(prefix), len(self.blocks) - 1  # the prefix's rows end here
        for i, block in enumerate(self.blocks):
            x = streams.residual
            if (rows := prompts.rows.get(i)) is not None:
                if fresh and plan.slots_shared and rows.count != len(slots):
                    end += rows.count - len(slots)
                    x, slots, slot_ids = _change_slots(x, slots, rows.count)
                streams = _part(x, rows, slots, slot_ids, owners)
            if (
                i == 0 < last and fresh and plan.slots_shared
            ):  # the suffixes' words have met no prompt yet: once, without a graph
                parts = block.queries_keys_values(streams.map(lambda t, end=end: t[..., :end, :]))
                with torch.no_grad():
                    own_parts = block.project(streams.residual[:1, end:], "qkv")
                (q, own_q), (prefix_k, k), (prefix_v, v) = zip(parts, own_parts, strict=True)
            else:
                parts = block.keys_values(streams) if i == last else block.queries_keys_values(streams)
                *queries, (prefix_k, k), (prefix_v, v) = (t.split([end, t.shape[-2] - end], -2) for t in parts)
                q, own_q = queries[0] if queries else (None, None)
            if fresh:
                options = block.extra_options(prompts.extra.get(i))
                seen.append([(weight, _behind(own_k, prefix_k), _behind(own_v, prefix_v)) for weight, own_k, own_v in options])
            if i < last:
                outs = []
                if fresh:
                    mask = torch.ones(end, end, dtype=torch.bool, device=q.device).tril()
                    outs.append(attend(q, prefix_k, prefix_v, options, mask))
                if chunk is not None:
                    outs.append(_attend_suffixes(own_q, k, v, chunk.runs, seen[i]))
                streams = Streams.one(block.finish(streams.residual, torch.cat(outs, -2) if len(outs) > 1 else outs[0]))
        if chunk is None:  # nothing reads the prefix's own output in the last block
            return None, seen
        eot = end + chunk.eot  # only EOT is read
        out = _attend_suffixes(block.project(streams.q[..., eot, :], "q")[0], k, v, chunk.runs, seen[-1], eot_only=True)
        return self.project(block.finish(streams.residual[..., eot, :], out)), seen

    def _enter(self, ids: Tensor, places: Tensor, slots: Tensor, owners: Tensor, rows: Rows | None) -> Streams:
        """Embeddings with the input rows in their slots, plus positions: streams of (G,N,D)."""
        x, at = self.embed(ids.clamp_min(0))[None], self.positions[places]
        if rows is None:
            return Streams.one(x + at)
        return _part(x, rows, slots, ids[slots], owners).map(lambda t: t + at)


def _part(x: Tensor, rows: Rows, slots: Tensor, slot_ids: Tensor, classes: Tensor) -> Streams:
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


def _behind(extra: Tensor | None, rows: Tensor) -> Tensor:
    """extra (H,m,d) in front of rows (G,H,P,d)"""
    return rows if extra is None else torch.cat([extra.expand(len(rows), -1, -1, -1), rows], -2)


def _attend_suffixes(q: Tensor, k: Tensor, v: Tensor, runs, seen: Seen, eot_only: bool = False) -> Tensor:
    """Attention of packed suffix rows over the shared prefix and, causally, over their own class.

    q (G,H,T,d), or (G,H,C,d) with `eot_only`; k, v (G,H,T,d) -> as q. The prefix's keys stay shared: scores against them are
    one matrix product, joined with the own scores before the softmax. Repeating those keys for every class, as a library
    attention needs it, costs 2 to 5 times the time on a CPU and most of the memory.
    """
    scale = q.shape[-1] ** -0.5  # on the scores: they are narrower than the queries
    counts = [classes * (1 if eot_only else length) for classes, length in runs]
    # split, not sliced: the gradient of a split is one concatenation, that of every slice a whole tensor of zeros
    queries = q.split(counts, -2)
    keys, values = (t.split([classes * length for classes, length in runs], -2) for t in (k, v))
    own_scores = [scale * _own_scores(*parts, eot_only) for parts in zip(queries, keys, runs, strict=True)]
    total = None
    for weight, prefix_k, prefix_v in seen:
        shares, outs = [], []
        scores = (q @ (scale * prefix_k).transpose(-1, -2)).split(counts, -2)  # of (G,H,T,m+P)
        for before, own, value, (classes, length) in zip(scores, own_scores, values, runs, strict=True):
            before = before.unflatten(-2, (classes, -1))
            own = own.expand(len(before), *own.shape[1:])
            share = torch.cat([before, own], -1).float().softmax(-1).to(v.dtype)
            before, own = share.split([before.shape[-1], length], -1)
            shares.append(before.flatten(-3, -2))
            outs.append((own @ value.unflatten(-2, (classes, length))).flatten(-3, -2))
        out = torch.cat(shares, -2) @ prefix_v + torch.cat(outs, -2)
        out = out if weight is None else weight * out
        total = out if total is None else total + out
    return total


def _own_scores(q: Tensor, k: Tensor, run: tuple[int, int], eot_only: bool) -> Tensor:
    """Scores of each class's rows, or of its last one, against its own: (G,H,C,M,M) or (G,H,C,1,M)."""
    classes, length = run
    scores = q.unflatten(-2, (classes, -1)) @ k.unflatten(-2, (classes, length)).transpose(-1, -2)
    if eot_only or length == 1:
        return scores
    later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(later, float("-inf"))
