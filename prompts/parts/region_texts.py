"""Sentences about a marked region: a query within a template, cut so that the template survives, and their features.

Shapes: n texts, d width of the shared embedding.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.engine.text_plan import TextPlan
from prompts.engine.tokenizers import Tokenizer

MOST_KEPT = 2**16  # texts whose features are kept: 0.2 GB at d = 768


def query_of(text: str) -> str:
    """An expression as it enters a template: in lower case, with single spaces, without full stops at its end."""
    return re.sub(r"[\s.]+$", "", " ".join(text.lower().split()))


def framed(tokenizer: Tokenizer, before: Sequence[int], query: str, after: Sequence[int]) -> list[int]:
    """Token ids of `before`, the query and `after`, between the tokenizer's start and end tokens. A query that is too long for
    the tower's context loses its last words; the tokens around it are kept.

    Raises:
        ValueError: what stands around the query leaves no room for it.
    """
    start, end = tokenizer.start, tokenizer.end
    room = tokenizer.context_length - len(start) - len(end) - len(before) - len(after)
    if room < 1:
        raise ValueError(
            f"the text around a query takes {len(before) + len(after)} tokens, which leaves no room for it among the "
            f"{tokenizer.context_length} of this CLIP's text tower: shorten it, or use fewer context vectors."
        )
    return [*start, *before, *tokenizer.encode(query)[:room], *after, *end]


def texts_of(tokenizer: Tokenizer, template: str, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of the template with each expression in place of "{}"."""
    before, _, after = template.partition("{}")
    lists = []
    for text in texts:
        query = query_of(text)
        words = tokenizer.encode(before + query + after)  # as published, in one piece
        if len(words) + len(tokenizer.start) + len(tokenizer.end) <= tokenizer.context_length:
            lists.append([*tokenizer.start, *words, *tokenizer.end])
        else:
            lists.append(framed(tokenizer, tokenizer.encode(before), query, tokenizer.encode(after)))
    return lists


class RegionTexts:
    """Features of sentences by a frozen CLIP, kept, as an expression comes once for each marker and again in each epoch."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Any, dict[tuple[str, str], Tensor]] = WeakKeyDictionary()

    @torch.no_grad()
    def features(self, clip: FrozenCLIP, template: str, texts: Sequence[str]) -> Tensor:
        """(n,d) of unit length, float32."""
        kept = self._kept.setdefault(clip, {})
        if len(kept) + len(texts) > MOST_KEPT:
            kept.clear()
        wanted = [(template, query_of(text)) for text in texts]
        if new := [query for _, query in dict.fromkeys(wanted) if (template, query) not in kept]:
            encoded = clip.encode_text(TextPlan(texts_of(clip.tokenizer, template, new))).float()
            kept |= {(template, query): row for query, row in zip(new, F.normalize(encoded, dim=-1), strict=True)}
        return torch.stack([kept[key] for key in wanted]).to(clip.device)


def drawn_captions(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` captions of a bank, drawn without replacement, or all where it has no more; the same ones for equal seeds."""
    if len(texts) <= count:
        return list(texts)
    order = np.random.RandomState(seed).permutation(len(texts))[:count]
    return [texts[i] for i in sorted(order.tolist())]
