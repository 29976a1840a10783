"""From class names to the rows that the text tower has to compute.

CLIP's text tower is causal. So the rows before the class name are the same for every class and run once (the prefix), each
class runs only from the first token that differs to its EOT (its suffix), and the padding behind EOT is left out.

Token lists hold vocabulary ids; the learnable slot j (0-based) is written as -1-j.
Shapes: C classes, P prefix rows, T suffix rows of all classes together.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from prompts.engine.sending import send
from prompts.engine.tokenizers import Tokenizer

Position = Literal["end", "middle", "front"]
MOST_KEPT = 2**18  # captions whose tokens are kept, about 200 bytes each

kept_tokens: WeakKeyDictionary[Tokenizer, dict[str, array]] = WeakKeyDictionary()


class Caption(str):
    """A caption instead of a class name. Its text is not changed, underscores included, and it is cut where it is too long for
    the text tower; `cut` then is true."""

    cut = False


def token_lists(
    tokenizer: Tokenizer,
    classnames: Sequence[str],
    template: str,
    n_slots: int,
    position: Position,
    replaced: int | None = None,
) -> list[list[int]]:
    """Token ids of each class's prompt, from the tokenizer's first to its last, beginning with `n_slots` slots (-1-j).

    `template` holds "{}" for the class name, and in front of it words, the first `replaced` tokens of which the slots replace
    (None: as many as there are slots, "X X X X {}."). `position` says where the class name stands: behind the slots, between
    their halves, or before them (CoOp, section 3.1 and its code). Underscores in names become spaces. A prompt that is longer
    than the tower's context is a ValueError; a `Caption` loses its last words instead, as in CLIP's tokenizer. It also loses a
    full stop that the template brings.
    """
    lists, replaced = [], n_slots if replaced is None else replaced
    for text in classnames:
        if isinstance(text, Caption):
            name = text.removesuffix(".") if template.endswith("{}.") else str(text)
            words = _caption_tokens(tokenizer, template.format(name))
        else:
            name = text.replace("_", " ")
            words = tokenizer.encode(template.format(name))
        count = len(tokenizer.start) + n_slots + len(words) - replaced + len(tokenizer.end)
        excess = count - tokenizer.context_length
        if isinstance(text, Caption) and 0 < excess < len(words) - replaced:
            words, text.cut = words[:-excess], True
        elif excess > 0:
            raise ValueError(
                f"class name {name[:60]!r} makes a prompt of {count} tokens, but this CLIP's text tower holds "
                f"{tokenizer.context_length}: shorten the name in the dataset's class list, or use fewer context tokens."
            )
        # BPE may merge the name's last character with the full stop, so the name's tokens are counted, not searched for.
        slots, rest = [-1 - j for j in range(n_slots)], words[replaced:]
        half, n_name = {"end": n_slots, "middle": n_slots // 2, "front": 0}[position], len(rest)
        if half < n_slots:
            n_name = len(tokenizer.encode(name))
        body = rest[:n_name] + slots[half:] + rest[n_name:]
        lists.append([*tokenizer.start, *slots[:half], *body, *tokenizer.end])
    return lists


def _caption_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """`tokenizer.encode`, whose results are kept: it takes 0.1 ms, and captions come again in each epoch and evaluation."""
    kept = kept_tokens.setdefault(tokenizer, {})
    if text not in kept:
        if len(kept) >= MOST_KEPT:
            kept.clear()
        kept[text] = array("i", tokenizer.encode(text))
    return kept[text].tolist()


Segments = tuple[tuple[int, int], ...]  # (number of classes, suffix rows of each): classes of one length, in packed order


@dataclass(frozen=True)
class Slots:
    """The slots among the rows of a pass, and the prompt row that belongs in each."""

    positions: Tensor  # (n,) index of each slot's row
    numbers: Tensor  # (n,) index of the prompt row in the slot
    classes: Tensor  # (n,) class id of the slot, for prompt rows that differ by class
    first: int | None  # the first position, as a plain number, so that reading it waits for no device

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def among(cls, ids: Tensor, classes: Tensor, device: torch.device) -> Slots:
        """The slots among token ids (N,), which are of `classes` (N,): on the CPU, where counting waits for no device."""
        positions = (ids < 0).nonzero().flatten()
        rows, numbers, of_class = (send(t, device) for t in (positions, -1 - ids[positions], classes[positions]))
        return cls(rows, numbers, of_class, int(positions[0]) if len(positions) else None)


@dataclass(frozen=True)
class Suffixes:
    """Packed suffix rows of some classes, shortest class first, so that the rows of a segment (classes of equal length) can be
    reshaped to (classes, length)."""

    ids: Tensor  # (T,) token id or slot of each row
    positions: Tensor  # (T,) its position in the text
    segments: Segments
    eot: Tensor  # (C,) the row of each class's EOT, in packed order
    slots: Slots  # among the rows of the prefix and, behind them, these


class TextPlan:
    """Prefix and suffixes of a class list. Depends on the token lists alone, so one plan serves a whole run.

    `class_slots` says that slot contents differ by class, so that rows from the first slot on cannot be shared. The tower sees
    it in the prompts, too (`unshared`).
    """

    def __init__(self, lists: Sequence[Sequence[int]], class_slots: bool = False, device: torch.device | str = "cpu"):
        if not lists:
            raise ValueError("there are no classes to encode: the class list is empty.")
        longest = min(map(len, lists)) - 1  # the EOT row always belongs to the suffix
        same = (all(tokens[i] == lists[0][i] for tokens in lists) for i in range(longest))
        shared = next((i for i, s in enumerate(same) if not s or (class_slots and lists[0][i] < 0)), longest)
        self._prefix = torch.tensor(lists[0][:shared], dtype=torch.long)  # stays on the CPU
        self.prefix = self._prefix.to(device)
        self.lengths = torch.tensor([len(tokens) - shared for tokens in lists])
        self.rows = torch.zeros(len(lists), int(self.lengths.max()), dtype=torch.long)
        is_row = torch.arange(self.rows.shape[1]) < self.lengths[:, None]
        self.rows[is_row] = torch.tensor([token for tokens in lists for token in tokens[shared:]])
        self.n_slots = sum(token < 0 for token in lists[0])
        self.slots_shared = not bool((self.rows < 0).any())
        self._unshared: TextPlan | None = None if any(token < 0 for token in lists[0][:shared]) else self
        self._chunks: dict[int | None, tuple[list[Suffixes], Tensor]] = {}
        self._padded: dict[tuple[int, int], Tensor] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device | str) -> TextPlan:
        """This plan, its indices moved to the device."""
        if self.prefix.device != torch.device(device):
            self.prefix, self._chunks, self._padded = self.prefix.to(device), {}, {}
        return self

    def padded(self, length: int, pad: int) -> Tensor:
        """(C,`length`) ids and slots of every class, from its first token on, the rest being `pad`. Kept for the next call."""
        if (length, pad) not in self._padded:
            rows = torch.full((len(self), length), pad, device=self.prefix.device)
            rows[:, : len(self.prefix)] = self.prefix
            is_row = torch.arange(self.rows.shape[1]) < self.lengths[:, None]
            rows[:, len(self.prefix) :][:, : self.rows.shape[1]][is_row] = self.rows[is_row].to(rows.device)
            self._padded = {(length, pad): rows}
        return self._padded[length, pad]

    def unshared(self) -> TextPlan:
        """The same text with every slot in the suffixes, where its content may differ by class. Made once."""
        if self._unshared is None:
            prefix, lengths = self._prefix.tolist(), self.lengths.tolist()
            lists = [prefix + row[:length] for row, length in zip(self.rows.tolist(), lengths, strict=True)]
            self._unshared = TextPlan(lists, class_slots=True)
        return self._unshared.to(self.prefix.device)

    def pack(self, classes: Tensor) -> Suffixes:
        """The suffixes of `classes` (C,), ids in the full list, on the CPU, shortest first."""
        lengths = self.lengths[classes]
        is_row = torch.arange(int(lengths[-1])) < lengths[:, None]  # (C,M)
        positions = torch.arange(is_row.shape[1]).expand_as(is_row) + len(self.prefix)
        sizes, counts = lengths.unique_consecutive(return_counts=True)
        ids, of_class = self.rows[classes, : is_row.shape[1]][is_row], classes[:, None].expand_as(is_row)[is_row]
        all_ids, all_classes = torch.cat([self._prefix, ids]), torch.cat([torch.zeros_like(self._prefix), of_class])
        device = self.prefix.device
        return Suffixes(
            ids=send(ids, device),
            positions=send(positions[is_row], device),
            segments=tuple(zip(counts.tolist(), sizes.tolist(), strict=True)),
            eot=send(lengths.cumsum(0) - 1, device),
            slots=Slots.among(all_ids, all_classes, device),
        )

    def chunks(self, max_rows: int | None, classes: Tensor | None = None) -> tuple[list[Suffixes], Tensor]:
        """All classes, or those with ids `classes` (K,), in pieces of at most `max_rows` rows (at least one class each), and
        the index that restores order."""
        if classes is None and max_rows in self._chunks:
            return self._chunks[max_rows]
        lengths = self.lengths if classes is None else self.lengths[classes.cpu()]
        by_length = lengths.argsort(stable=True)
        ends = lengths[by_length].cumsum(0)
        pieces = torch.div(ends - 1, max_rows or int(ends[-1]), rounding_mode="floor")
        sizes = pieces.unique_consecutive(return_counts=True)[1].tolist()
        chosen = by_length if classes is None else classes.cpu()[by_length]
        chunks = [self.pack(part) for part in chosen.split(sizes)], send(by_length.argsort(), self.prefix.device)
        if classes is None:
            self._chunks = {max_rows: chunks}
        return chunks
