"""Prompts as plain data: which rows enter which tower, at which block, and how. A tower is CLIP's text transformer or its image
transformer; it reads this and nothing else of a method. A slot is a row of a tower's sequence that is reserved for a prompt.

Shapes: B images, C classes, n slots, m extra rows, D width of the tower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from torch import Tensor

Per = Literal["shared", "class", "image"]
TowerName = Literal["text", "image"]


@dataclass(frozen=True)
class Rows:
    """The rows in a tower's prompt slots from one block on.

    `q` alone is an ordinary prompt. With `k` or `v` the block's queries, keys and values are computed from different rows in
    the slots (RPP), and `residual` names the rows of the residual stream there: the query rows (`"q"`), other rows (a tensor),
    or the output of the block before (`"arrived"`). `per` names the leading axis: `"shared"` (n,D), `"class"` (C,n,D; text
    only) or `"image"` (B,n,D). With `add` the rows are added to the output of the block before instead of replacing it. Then,
    and with `"arrived"`, their number must be that of the present slots.
    """

    q: Tensor
    k: Tensor | None = None
    v: Tensor | None = None
    residual: Tensor | Literal["q", "arrived"] = "q"
    per: Per = "shared"
    add: bool = False

    @property
    def count(self) -> int:
        """n, the number of slots that the rows fill."""
        return self.q.shape[-2]

    def map(self, change: Callable[[Tensor], Tensor]) -> Rows:
        """The same rows with `change` applied to every tensor."""
        new: dict[str, Any] = {s: change(t) for s in ("q", "k", "v", "residual") if isinstance(t := getattr(self, s), Tensor)}
        return replace(self, **new)


@dataclass(frozen=True)
class ExtraKV:
    """Key/value rows without queries of their own (DPL). Each option (at least one) is (m,D), taken before the block's first
    LayerNorm; m may be 0. The block's attention is the sum of the options' attentions, weighted by `weights` (one number each).
    """

    options: list[Tensor]
    weights: Tensor | None = None


@dataclass(frozen=True)
class TowerPrompts:
    """The prompts of one tower: rows at its input, rows from a block on, extra key/value rows in a block (0-based)."""

    inputs: Rows | None = None
    rows: dict[int, Rows] = field(default_factory=dict)
    extra: dict[int, ExtraKV] = field(default_factory=dict)

    @property
    def all_rows(self) -> list[Rows]:
        """The rows at the input, if any, and those of blocks."""
        return ([self.inputs] if self.inputs else []) + list(self.rows.values())

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor in the prompts, of rows and of extra rows."""
        rows = [t for r in self.all_rows for t in (r.q, r.k, r.v, r.residual) if isinstance(t, Tensor)]
        options = [t for e in self.extra.values() for t in (*e.options, e.weights) if t is not None]
        return rows + options

    @property
    def by_class(self) -> bool:
        """Whether any rows differ by class."""
        return any(r.per == "class" for r in self.all_rows)

    @property
    def images(self) -> int | None:
        """B if any rows differ by image, else None."""
        return next((r.q.shape[0] for r in self.all_rows if r.per == "image"), None)

    def for_images(self, start: int, stop: int) -> TowerPrompts:
        """The prompts of the images from start to stop - 1; prompts that images share are unchanged."""

        def cut(rows: Rows) -> Rows:
            return rows.map(lambda t: t[start:stop]) if rows.per == "image" else rows

        return replace(self, inputs=self.inputs and cut(self.inputs), rows={i: cut(r) for i, r in self.rows.items()})


NO_PROMPTS = TowerPrompts()


def check_prompts(
    prompts: TowerPrompts,
    tower: TowerName,
    *,
    blocks: int,
    width: int,
    slots: int = 0,
    fixed_slots: bool = False,
    classes: int | None = None,
    images: int | None = None,
) -> None:
    """Refuses prompts that do not fit the tower, before it runs. Checks shapes alone, so that nothing waits for a device.

    Args:
        blocks, width: of the tower.
        slots: the slots at its input. `fixed_slots`: no block can have another number of them.
        classes: of the class list (text tower).
        images: of the batch (image tower); the text tower takes any number that all rows agree on.

    Raises:
        ValueError: one sentence with the tower, the block, the shape that is expected and the one that is given.
    """
    _check_container(prompts, tower, blocks)
    name, arriving = f"the {tower} tower's prompts at", slots if tower == "text" else 0
    if prompts.inputs is None and arriving:
        raise ValueError(
            f"the {tower} tower's prompts have no rows for its input, but the text has {arriving} slots there: give {arriving}."
        )
    given = {} if prompts.inputs is None else {f"{name} its input": prompts.inputs}
    given |= {f"{name} block {i}": prompts.rows[i] for i in sorted(prompts.rows)}
    leading = {"shared": None, "class": classes, "image": images}
    for where, rows in given.items():
        _check_rows(rows, where, tower, width, leading)
    for where, rows in given.items():
        is_text_input = rows is prompts.inputs and tower == "text"
        _check_count(rows, where, arriving, is_text_input, fixed_slots or prompts.by_class)
        arriving = rows.count
    for i, extra in prompts.extra.items():
        _check_extra(extra, f"the {tower} tower's extra key/value rows in block {i}", width)


def _check_container(prompts: Any, tower: TowerName, blocks: int) -> None:
    """Checks that `prompts` are a TowerPrompts whose dicts name blocks of the tower."""
    if not isinstance(prompts, TowerPrompts):
        raise ValueError(
            f"the {tower} tower's prompts are {_kind_of(prompts)}: return a TowerPrompts (prompts/engine/rows.py)."
        )
    for name in ("rows", "extra"):
        if not isinstance(by_block := getattr(prompts, name), Mapping):
            raise ValueError(f"the {tower} tower's prompts have {name} {_kind_of(by_block)}: give a dict by block number.")
    for i in (*prompts.rows, *prompts.extra):
        if type(i) is not int or not 0 <= i < blocks:
            raise ValueError(f"the {tower} tower's prompts name block {i!r}, but its {blocks} blocks are 0 to {blocks - 1}.")


def _check_count(rows: Rows, where: str, arriving: int, is_text_input: bool, is_fixed: bool) -> None:
    """Checks the number of rows, where `arriving` slots come from the block before."""
    if rows.count == arriving:
        return
    if is_text_input:
        raise ValueError(f"{where} are {rows.count} rows, but the text has {arriving} slots there: give {arriving}.")
    if is_fixed:
        raise ValueError(
            f"{where} are {rows.count} rows, but the text has {arriving} slots there: their number can change between blocks "
            "only with one context for all classes and the class name at the end."
        )
    if rows.count and (rows.add or isinstance(rows.residual, str) and rows.residual == "arrived"):
        how = "add=True" if rows.add else "residual='arrived'"
        raise ValueError(f"{where} are {rows.count} rows with {how}, but {arriving} arrive there: give {arriving}.")


def _check_rows(rows: Any, where: str, tower: TowerName, width: int, leading: dict[str, int | None]) -> None:
    """Checks the types and shapes of one `Rows`. `leading`: the length of the first axis by `per`; None until the first rows
    per image set it."""
    if not isinstance(rows, Rows):
        raise ValueError(f"{where} are {_kind_of(rows)}, not Rows (prompts/engine/rows.py).")
    if rows.per not in get_args(Per):
        raise ValueError(f"{where}: per={rows.per!r} is none of {', '.join(get_args(Per))}.")
    if rows.per == "class" and tower == "image":
        raise ValueError(f"{where}: rows that differ by class cannot enter the image tower, as an image's class is not known.")
    if isinstance(rows.residual, str) and rows.residual not in ("q", "arrived"):
        raise ValueError(f"{where}: residual={rows.residual!r} is neither a tensor nor one of q, arrived.")
    lead = leading[rows.per]
    axes = ("n", width) if rows.per == "shared" else ("B" if lead is None else lead, "n", width)
    expected = f"({', '.join(map(str, axes))})" + (f", rows for each {rows.per}," if len(axes) == 3 else "")
    streams = {"q": rows.q} | {name: t for name in "kv" if (t := getattr(rows, name)) is not None}
    streams |= {} if isinstance(rows.residual, str) else {"residual": rows.residual}
    for name, t in streams.items():
        _check_shape(t, f"{where}: {name}", len(axes), width, expected)
        if len(axes) == 3 and lead not in (None, t.shape[0]):
            raise ValueError(f"{where}: {name} has shape {tuple(t.shape)} where {expected} is expected.")
        if t.shape != rows.q.shape:
            raise ValueError(f"{where}: {name} has shape {tuple(t.shape)} where {tuple(rows.q.shape)}, as of q, is expected.")
    if rows.per == "image":
        leading["image"] = rows.q.shape[0]


def _check_extra(extra: Any, where: str, width: int) -> None:
    """Checks the types and shapes of one `ExtraKV`."""
    if not isinstance(extra, ExtraKV):
        raise ValueError(f"{where} are {_kind_of(extra)}, not an ExtraKV (prompts/engine/rows.py).")
    if not extra.options:
        raise ValueError(f"{where} have no option: leave the block out, or give an option of shape (0, {width}).")
    count = len(extra.options)
    for j, option in enumerate(extra.options):
        _check_shape(option, f"{where}: option {j}", 2, width, f"(m, {width})")
    if extra.weights is not None:
        _check_shape(extra.weights, f"{where}: weights", 1, count, f"({count},), one for each option,")


def _check_shape(given: Any, name: str, axes: int, last: int, expected: str) -> None:
    """Checks that `given` is a floating-point tensor of `axes` axes, the last of length `last`."""
    if not isinstance(given, Tensor) or not given.is_floating_point():
        raise ValueError(f"{name} is {_kind_of(given)} where floating-point numbers of shape {expected} are expected.")
    if given.dim() != axes or given.shape[-1] != last:
        raise ValueError(f"{name} has shape {tuple(given.shape)} where {expected} is expected.")


def _kind_of(given: Any) -> str:
    """The kind of a value in words, for messages."""
    return f"a tensor of {given.dtype}" if isinstance(given, Tensor) else f"of type {type(given).__name__}"
