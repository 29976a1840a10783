"""Prompts as plain data: which rows enter which tower, at which block, and how. The towers read this and nothing else.

Shapes: B images, C classes, n slots, m extra rows, D width of the tower.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

Per = Literal["shared", "class", "image"]


@dataclass(frozen=True)
class Rows:
    """What stands in a tower's prompt slots from one block on.

    `q` alone is an ordinary prompt. With `k` or `v` the block's queries, keys and values see different rows in the slots
    (RPP), and `residual` says what the residual stream carries there: the query rows, rows of its own, or `"arrived"`,
    what the block before left in the slots. `per` names the leading axis: `"shared"` (n,D), `"class"` (C,n,D; text only)
    or `"image"` (B,n,D). With `add` the rows are added to what arrived instead of replacing it.
    """

    q: Tensor
    k: Tensor | None = None
    v: Tensor | None = None
    residual: Tensor | Literal["q", "arrived"] = "q"
    per: Per = "shared"
    add: bool = False

    @property
    def count(self) -> int:
        return self.q.shape[-2]

    def map(self, change: Callable[[Tensor], Tensor]) -> Rows:
        """The same rows with `change` applied to every tensor."""
        new = {s: change(t) for s in ("q", "k", "v", "residual") if isinstance(t := getattr(self, s), Tensor)}
        return replace(self, **new)


@dataclass(frozen=True)
class ExtraKV:
    """Key/value rows without queries of their own (DPL). Each option is (m,D), taken before the block's first LayerNorm;
    m may be 0. The block's attention is the sum of the options' attentions, weighted by `weights` (one number each)."""

    options: list[Tensor]
    weights: Tensor | None = None


@dataclass(frozen=True)
class TowerPrompts:
    """All that enters one tower: rows at its input, rows from a block on, extra key/value rows in a block (0-based)."""

    inputs: Rows | None = None
    rows: dict[int, Rows] = field(default_factory=dict)
    extra: dict[int, ExtraKV] = field(default_factory=dict)

    @property
    def all_rows(self) -> list[Rows]:
        return ([self.inputs] if self.inputs else []) + list(self.rows.values())

    @property
    def tensors(self) -> list[Tensor]:
        rows = [t for r in self.all_rows for t in (r.q, r.k, r.v, r.residual) if isinstance(t, Tensor)]
        options = [t for e in self.extra.values() for t in (*e.options, e.weights) if t is not None]
        return rows + options

    @property
    def images(self) -> int | None:
        """B if any rows differ by image, else None."""
        return next((r.q.shape[0] for r in self.all_rows if r.per == "image"), None)

    def for_images(self, start: int, stop: int) -> TowerPrompts:
        """The prompts of images start..stop only; what images share stays as it is."""

        def cut(rows: Rows) -> Rows:
            return rows.map(lambda t: t[start:stop]) if rows.per == "image" else rows

        return replace(self, inputs=self.inputs and cut(self.inputs), rows={i: cut(r) for i, r in self.rows.items()})


NO_PROMPTS = TowerPrompts()
