"""CLIP's text tower with prompts, run only on the rows that a feature depends on.

A tower is one of CLIP's two transformers: the text tower and the image tower (`prompts.engine.image_tower`), each a stack of
blocks. The text tower is causal, so the rows that all classes share (the prefix) run once, not once per class. Behind them, in
the same matrix products, stand the remaining rows of the classes, packed (the suffixes, `prompts.engine.text_plan`); in
attention they read the KV cache of the prefix. The last block computes the EOT rows only.

A separate pass for the prefix, whose KV cache the suffixes would then read, takes longer: with ViT-B/16 on a CPU 5 % of the
text side, as every weight is read twice, and 10 % with the tiny CLIP, as there are twice as many small operations.

Exact: the same features and gradients as 77 positions per class (tests/prompts/engine/test_towers.py).

Shapes: G prompt groups (1, or one per image), C classes, P prefix rows, T packed suffix rows, N = P+T, M rows of one class's
suffix, n slots, m extra rows, H heads, D width, d = D/H.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from prompts.engine.blocks import Block, KeysValues, Streams, attend
from prompts.engine.rows import NO_PROMPTS, Rows, TowerPrompts, check_prompts
from prompts.engine.text_plan import Segments, Slots, Suffixes, TextPlan

PrefixCache = list[KeysValues]  # KV cache of the prefix in one block: keys and values (G,H,m+P,d) of each option


@dataclass(frozen=True)
class TextTower:
    """The frozen parts. `embed` maps ids (N,) to float32 (N,D), `positions` is (77,D), `project` maps (...,D) to (...,d).
    `start`: how many tokens stand in front of every text (SOT), behind which slots are put where the text has none."""

    blocks: list[Block]
    embed: Callable[[Tensor], Tensor]
    positions: Tensor
    project: Callable[[Tensor], Tensor]
    start: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """The number of blocks and D."""
        return len(self.blocks), self.positions.shape[-1]

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

        Args:
            plan: prefix and suffixes of the class list.
            prompts: the prompts of the tower.
            classes: (K,) ids of the classes to encode, in this order; None: all.
            max_rows: the most rows (images x suffix rows) that are computed at once; None: no limit. The prefix runs again with
                every such chunk.
            recompute: keep no activations of the suffixes and compute them again in the backward pass, so that memory does not
                grow with the number of classes.

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
        if max_rows is None:  # no loop over the images, whose number an exported graph leaves open
            return self._encode_group(plan, prompts, classes, None, recompute) + anchor
        lengths = plan.lengths if classes is None else plan.lengths[classes.cpu()]
        at_once = max(1, max_rows // int(lengths.sum()))
        parts = [prompts.for_images(i, min(i + at_once, images)) for i in range(0, images, at_once)]
        groups = [self._encode_group(plan, part, classes, max_rows // at_once, recompute) for part in parts]
        return torch.cat(groups) + anchor

    def _encode_group(
        self, plan: TextPlan, prompts: TowerPrompts, classes: Tensor | None, max_rows: int | None, recompute: bool
    ) -> Tensor:
        """Features (G,C,d) of the classes for all prompt groups at once."""
        chunks, order = plan.chunks(max_rows, classes)
        if recompute and torch.is_grad_enabled():
            keep_inputs: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
            parts = [checkpoint(self._run, plan, chunk, prompts, **keep_inputs) for chunk in chunks]
        else:
            parts = [self._run(plan, chunk, prompts) for chunk in chunks]
        return (torch.cat(parts, 1) if len(parts) > 1 else parts[0])[:, order]

    def _run(self, plan: TextPlan, chunk: Suffixes, prompts: TowerPrompts) -> Tensor:
        """Features (G,C,d) of the chunk's classes, in packed order. Its rows are the prefix's, then those of the suffixes."""
        prefix_rows, last = len(plan.prefix), len(self.blocks) - 1
        ids = torch.cat([plan.prefix, chunk.ids])
        positions_ND = torch.cat([self.positions[:prefix_rows], self.positions[chunk.positions]])
        slots, streams = chunk.slots, self._enter(ids, positions_ND, chunk.slots, prompts.inputs)
        for i, block in enumerate(self.blocks):
            if (rows := prompts.rows.get(i)) is not None:
                x = streams.residual
                if plan.slots_shared and rows.count != len(slots):
                    prefix_rows += rows.count - len(slots)
                    x, slots = _change_slots(x, slots, rows.count, self.start)
                streams = _fill_slots(x, rows, slots)
            if i == last:
                break
            are_words = i == 0 and plan.slots_shared
            prefix, (q, k, v) = _project(block, streams, prefix_rows, are_words, are_words and self._words_learn())
            prefix_q, prefix_k, prefix_v = prefix
            cache = block.keys_values_with_extra(prefix_k, prefix_v, prompts.extra.get(i))
            attended = [attend(prefix_q, cache, causal=True), _attend_suffixes(q, k, v, chunk.segments, cache)]
            streams = Streams.one(block.finish(streams.residual, torch.cat(attended, -2)))
        # the last block computes the EOT rows only
        (prefix_k, k), (prefix_v, v) = (_split_rows(t, prefix_rows) for t in block.keys_values(streams))
        cache, eot = block.keys_values_with_extra(prefix_k, prefix_v, prompts.extra.get(last)), prefix_rows + chunk.eot
        (q,) = block.project(streams.q[..., eot, :], "q")
        at_end = _attend_suffixes(q, k, v, chunk.segments, cache, eot_only=True)
        return self.project(block.finish(streams.residual[..., eot, :], at_end))

    def _words_learn(self) -> bool:
        """Whether the first block's projections of words need a gradient."""
        if not torch.is_grad_enabled():
            return False
        word = self.embed(torch.zeros(1, dtype=torch.long, device=self.positions.device))
        return self.blocks[0].is_trained or self.positions.requires_grad or word.requires_grad

    def _enter(self, ids: Tensor, positions_ND: Tensor, slots: Slots, rows: Rows | None) -> Streams:
        """Embeddings of ids (N,) with the input rows in their slots, plus positions: streams of (G,N,D)."""
        x = self.embed(ids.clamp_min(0))[None]
        if rows is None:
            return Streams.one(x + positions_ND)
        return _fill_slots(x, rows, slots).map(lambda t: t + positions_ND)


def _split_rows(t: Tensor, prefix_rows: int) -> tuple[Tensor, Tensor]:
    """(G,H,N,d) -> the prefix's rows (G,H,P,d) and the suffixes' (G,H,T,d)."""
    return t.split([prefix_rows, t.shape[-2] - prefix_rows], -2)


def _project(
    block: Block, streams: Streams, prefix_rows: int, suffixes_are_words: bool, words_learn: bool
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Queries, keys and values of the prefix, each (G,H,P,d), and of the suffixes, each (G,H,T,d).

    `suffixes_are_words`: in the first block, suffixes without slots do not depend on any prompt yet. They are the same for all
    groups, so they are projected once, (1,H,T,d), with a gradient where the tower's own tensors are trained (`words_learn`).
    """
    if suffixes_are_words:
        prefix = block.queries_keys_values(streams.map(lambda t: t[..., :prefix_rows, :]))
        with torch.set_grad_enabled(words_learn):
            return prefix, block.project(streams.residual[:1, prefix_rows:], "qkv")
    prefix, suffixes = zip(*(_split_rows(t, prefix_rows) for t in block.queries_keys_values(streams)), strict=True)
    return prefix, suffixes


def _fill_slots(x: Tensor, rows: Rows, slots: Slots) -> Streams:
    """x (G,N,D) -> streams of (G,N,D), or (B,N,D) if the rows differ by image, with the prompt rows in the slots."""
    if not len(slots):
        return Streams.one(x)

    def put(t: Tensor) -> Tensor:
        new = t[slots.classes, slots.numbers] if rows.per == "class" else t[..., slots.numbers, :]
        new = new if new.dim() == 3 else new[None]
        new = x[:, slots.positions] + new if rows.add else new
        groups = max(len(x), len(new))
        return x.expand(groups, -1, -1).index_copy(1, slots.positions, new.expand(groups, -1, -1).to(x.dtype))

    return Streams.from_rows(x, rows, put)


def _change_slots(x: Tensor, slots: Slots, count: int, start: int) -> tuple[Tensor, Slots]:
    """Replaces the prefix's slots by `count` empty ones, behind the `start` first rows if there were none. Returns the rows
    (G,N',D) and the new slots."""
    first = start if slots.first is None else slots.first
    empty = x.new_zeros(len(x), count, x.shape[-1])
    x = torch.cat([x[:, :first], empty, x[:, first + len(slots) :]], 1)
    numbers = torch.arange(count, device=x.device)
    return x, Slots(first + numbers, numbers, torch.zeros_like(numbers), first if count else None)


def _attend_suffixes(q: Tensor, k: Tensor, v: Tensor, segments: Segments, cache: PrefixCache, eot_only: bool = False) -> Tensor:
    """Attention of packed suffix rows over the shared prefix and, causally, over their own class.

    q (G,H,T,d), or (G,H,C,d) with `eot_only`; k, v (G,H,T,d) -> as q. The prefix's keys stay shared: scores against them are
    one matrix product, joined with the scores against the class's suffix before the softmax. Repeating those keys for every
    class, as a library attention needs it, costs 2 to 5 times the time on a CPU and most of the memory.
    """
    scale = q.shape[-1] ** -0.5
    counts = [classes * (1 if eot_only else length) for classes, length in segments]
    # `split` instead of slices: its gradient is one concatenation, while every slice's gradient is a whole tensor of zeros
    queries = q.split(counts, -2)
    keys, values = (t.split([classes * length for classes, length in segments], -2) for t in (k, v))
    suffix_scores = [scale * _suffix_scores(*parts, eot_only) for parts in zip(queries, keys, segments, strict=True)]
    total = None
    for weight, prefix_keys, prefix_values in cache:
        prefix_shares, suffix_outs = [], []
        scores = (q @ (scale * prefix_keys).transpose(-1, -2)).split(counts, -2)  # of (G,H,T,m+P)
        for prefix, suffix, value, (classes, length) in zip(scores, suffix_scores, values, segments, strict=True):
            prefix = prefix.unflatten(-2, (classes, -1))
            suffix = suffix if len(suffix) == len(prefix) else suffix.expand(len(prefix), *suffix.shape[1:])
            share = torch.cat([prefix, suffix], -1).float().softmax(-1).to(v.dtype)
            prefix, suffix = share.split([prefix.shape[-1], length], -1)
            prefix_shares.append(prefix.flatten(-3, -2))
            suffix_outs.append((suffix @ value.unflatten(-2, (classes, length))).flatten(-3, -2))
        out = torch.cat(prefix_shares, -2) @ prefix_values + torch.cat(suffix_outs, -2)
        out = out if weight is None else weight * out
        total = out if total is None else total + out
    return total


def _suffix_scores(q: Tensor, k: Tensor, segment: tuple[int, int], eot_only: bool) -> Tensor:
    """Scores of each class's suffix rows, or of its EOT row, against its suffix: (G,H,C,M,M) or (G,H,C,1,M)."""
    classes, length = segment
    scores = q.unflatten(-2, (classes, -1)) @ k.unflatten(-2, (classes, length)).transpose(-1, -2)
    if eot_only or length == 1:
        return scores
    later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(later, float("-inf"))
