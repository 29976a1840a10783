"""Tokenizers: CLIP's own, and those of Hugging Face's package tokenizers.

Both know what a text tower needs: the tokens before and after every text (SOT, EOT), the padding, and the largest number of
tokens of a text. Ids are of the tower's vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer, get_clean_fn
from torch import Tensor

CLEANING = ("lower", "canonicalize", "whitespace")
Clean = str | Callable[[str], str]


class Tokenizer(Protocol):
    """The interface of a tokenizer for text towers and methods."""

    context_length: int  # the most tokens of a text, `start` and `end` included
    vocab_size: int
    start: list[int]  # the tokens in front of every text
    end: list[int]  # the tokens behind it
    pad_id: int
    special_ids: list[int]  # tokens that are no words

    def encode(self, text: str) -> list[int]:
        """The text's tokens, without `start` and `end`."""

    def word(self, token: int) -> str:
        """A token as text, with a hyphen where the word continues: "rose", "ro-", "-se"."""

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """(N,context_length) ids, long texts cut."""


class ClipTokenizer(SimpleTokenizer):
    """CLIP's own byte pairs, as open_clip has them."""

    pad_id = 0

    @property
    def start(self) -> list[int]:
        """SOT."""
        return [self.sot_token_id]

    @property
    def end(self) -> list[int]:
        """EOT, the largest id."""
        return [self.eot_token_id]

    @property
    def special_ids(self) -> list[int]:
        """SOT, EOT."""
        return list(self.all_special_ids)

    def word(self, token: int) -> str:
        """A token as text; one that goes on within the same word ends in a hyphen."""
        symbol, text = self.decoder[token], self.decode([token]).strip()
        if not text or "\ufffd" in text:  # a part of a letter
            text = symbol.removesuffix("</w>")
        return text if symbol.endswith("</w>") else f"{text}-"


class FileTokenizer:
    """A tokenizer of the package tokenizers.

    Args:
        core: a `tokenizers.Tokenizer`, which adds the tokens that stand in front of and behind a text.
        context_length: the most tokens of a text.
        pad_id: the token behind short texts.
        clean: what is done to a text first, a function or open_clip's name of one: "canonicalize" removes case and punctuation.
        without_sep: the tokens behind a text are padding (CLIPA's models).

    Raises:
        ValueError: a tokenizer that puts tokens in other places than in front and behind.
    """

    def __init__(self, core: Any, context_length: int, pad_id: int, clean: Clean = "whitespace", without_sep: bool = False):
        if not callable(clean) and clean not in CLEANING:
            raise ValueError(f"a tokenizer's way to clean text is one of {', '.join(CLEANING)}, not {clean!r:.80}.")
        self.core, self.context_length, self.pad_id = core, context_length, pad_id
        self.clean = clean if callable(clean) else get_clean_fn(clean)
        core.no_padding(), core.no_truncation()
        self.vocab_size = core.get_vocab_size()
        bare, framed = (core.encode("a", add_special_tokens=special).ids for special in (False, True))
        at = next((i for i in range(len(framed) - len(bare) + 1) if framed[i : i + len(bare)] == bare), None)
        if not bare or at is None:
            raise ValueError("the tokenizer puts special tokens between the words, or has no word 'a': it cannot be used.")
        self.start, self.end = framed[:at], framed[at + len(bare) :]
        self.special_ids = sorted({*self.start, *self.end, pad_id, *_special(core)})
        if without_sep:
            self.end = [pad_id] * len(self.end)
        tokens = core.get_vocab()
        self._inside = next((mark for mark in ("##",) if any(token.startswith(mark) for token in tokens)), None)

    def encode(self, text: str) -> list[int]:
        """The text's tokens, without `start` and `end`."""
        return self.core.encode(self.clean(text), add_special_tokens=False).ids

    def word(self, token: int) -> str:
        """A token as text; one that continues a word begins with a hyphen."""
        symbol = self.core.id_to_token(token) or ""
        if self._inside:
            return f"-{symbol.removeprefix(self._inside)}" if symbol.startswith(self._inside) else symbol
        text = self.core.decode([token]).strip()
        if not text or "\ufffd" in text:  # a part of a letter
            text = symbol.lstrip("▁Ġ")
        return text if symbol.startswith(("▁", "Ġ")) else f"-{text}"

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """(N,context_length) ids, long texts cut."""
        texts = [texts] if isinstance(texts, str) else texts
        room = self.context_length - len(self.start) - len(self.end)
        ids = torch.full((len(texts), self.context_length), self.pad_id)
        for row, text in zip(ids, texts, strict=True):
            tokens = [*self.start, *self.encode(text)[:room], *self.end]
            row[: len(tokens)] = torch.tensor(tokens)
        return ids


def adapted(tokenizer: Any) -> Tokenizer:
    """The tokenizer of open_clip's (SimpleTokenizer, HFTokenizer) as one of this file; one of this file as it is.

    Raises:
        ValueError: transformers' tokenizers without a tokenizer.json, or a mode in which tokens stand behind the padding.
    """
    if isinstance(tokenizer, HFTokenizer):
        inner = tokenizer.tokenizer
        if tokenizer.tokenizer_mode:
            mode = tokenizer.tokenizer_mode
            raise ValueError(f"the tokenizer's mode {mode!r:.80} puts tokens behind the padding: use another.")
        if not hasattr(inner, "backend_tokenizer") or inner.pad_token_id is None:
            raise ValueError(f"the tokenizer is a {type(inner).__name__} without a tokenizer.json or padding: use another.")
        length, clean = tokenizer.context_length, tokenizer.clean_fn
        return FileTokenizer(inner.backend_tokenizer, length, inner.pad_token_id, clean, tokenizer.strip_sep_token)
    if isinstance(tokenizer, SimpleTokenizer) and not isinstance(tokenizer, ClipTokenizer):
        own = object.__new__(ClipTokenizer)
        own.__dict__.update(vars(tokenizer))
        return own
    return tokenizer


def _special(core: Any) -> list[int]:
    """The ids of the tokens that a tokenizer declares special."""
    return [token_id for token_id, token in core.get_added_tokens_decoder().items() if token.special]
