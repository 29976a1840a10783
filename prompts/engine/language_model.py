"""A frozen causal language model that continues contexts of text and of rows of its embedding space.

Any causal model of transformers' that `prompts.engine.lm_config` supports, from a folder or the hub, and one that is part of
the repository. Files of a folder are read as data alone: docs/language_models.md. transformers is imported only where a model
is loaded or generates.

Shapes: B contexts, L rows of the longest, n rows of one, width of the embedding space, V tokens of the vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompts.engine.identity import DIGITS
from prompts.engine.lm_config import described, read_model
from prompts.engine.lm_sampling import generation_arguments
from prompts.engine.lm_words import Words, read_words
from prompts.engine.untyped import AnyModule

Piece = str | Tensor  # of a context: a text, or rows (n,width) of the embedding space
Mode = Literal["greedy", "beam", "sample"]
MASKED = -100  # label of a position without a loss
TINY = Path(__file__).parent / "tiny_lm"


@dataclass(frozen=True)
class Generation:
    """How a context is continued. ValueError for a value out of range.

    Args:
        mode: greedy; beam, with `beams` beams; or sample, at `temperature` from the likeliest tokens that together have the
            probability `top_p`, drawn by `seed`.
        max_tokens: the most tokens that are generated.
    """

    mode: Mode = "greedy"
    max_tokens: int = 30
    beams: int = 5
    temperature: float = 0.7
    top_p: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"generation.mode={self.mode!r} is none of {', '.join(get_args(Mode))}.")
        for key in ("max_tokens", "beams"):
            if type(value := getattr(self, key)) is not int or value < 1:
                raise ValueError(f"generation.{key}={value!r}: give a number, 1 or more.")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"generation.temperature={self.temperature!r}: give a number above 0, or generation.mode=greedy.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"generation.top_p={self.top_p!r}: give a probability above 0, at most 1.")


class FrozenLM(nn.Module):
    """A causal language model that is always in eval mode and whose weights never change; gradients flow through it to the rows
    of its contexts.

    `width` of its embedding space; `positions`: the most rows of a sequence. `model` is for `prompts.engine` alone.

    Args:
        model: a causal model of transformers'.
        words: its tokenizer. ValueError where it has more tokens than the model.
    """

    def __init__(self, model: AnyModule, words: Words):
        super().__init__()
        self.model: AnyModule = model.eval().requires_grad_(False)
        self.words = words
        vocabulary, self.width = model.get_input_embeddings().weight.shape
        self.positions = int(model.config.max_position_embeddings)
        if words.size > vocabulary:
            raise ValueError(
                f"the language model has {vocabulary:,} tokens and its tokenizer {words.size:,}: give the tokenizer that "
                "belongs to it."
            )

    def train(self, mode: bool = True) -> FrozenLM:
        """Stays in eval mode whatever `mode` is."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._embedding.weight.device

    @property
    def _embedding(self) -> nn.Embedding:
        return self.model.get_input_embeddings()

    @cached_property
    def identity(self) -> dict[str, str]:
        """The identity of this language model, which does not depend on the place of its files: `architecture` in words, and
        digests of its `weights` (rounded to float16) and of its `tokenizer`."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.half().cpu().contiguous().numpy().data)
        weights = digest.hexdigest()[:DIGITS]
        return {"architecture": described(self.model.config), "weights": weights, "tokenizer": self.words.digest[:DIGITS]}

    def store_bf16(self) -> None:
        """Converts matrices and token embeddings to bf16 permanently, for GPUs under bf16 autocast; all else stays float32."""
        self.identity  # noqa: B018 - of the weights as they were loaded
        for module in self.model.modules():
            if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D" or module is self._embedding:
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.bfloat16()

    # ---------------------------------------------------------------- contexts

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Token embeddings, float32: (n,width)."""
        return self._embedding(torch.tensor(ids, dtype=torch.long, device=self.device)).float()

    def rows(self, context: Sequence[Piece]) -> Tensor:
        """The rows (n,width) of a context, after the tokenizer's start tokens. ValueError for an empty context, or rows of
        another width."""
        parts = [self.embed(self.words.start)]
        for piece in context:
            rows = self.embed(self.words.encode(piece)) if isinstance(piece, str) else piece.to(self.device).float()
            if rows.dim() != 2 or rows.shape[1] != self.width:
                raise ValueError(
                    f"a context of the language model has rows of the shape {tuple(rows.shape)}, where its embedding space has "
                    f"{self.width} numbers a row."
                )
            parts.append(rows)
        joined = torch.cat(parts)
        if not len(joined):
            raise ValueError("a context of the language model is empty: give it text or an image, which it can continue.")
        return joined

    def losses(self, contexts: Sequence[Sequence[Piece]], texts: Sequence[str]) -> Tensor:
        """(B,): for each context the mean negative log-likelihood, in nats, of the tokens of its text and of the end token.

        Raises:
            ValueError: a context and its text are longer than the model has positions.
        """
        rows = [self.rows(context) for context in contexts]
        tokens = [[*self.words.continuation(text), self.words.end] for text in texts]
        for context, ids in zip(rows, tokens, strict=True):
            self._check_length(len(context), len(ids), "its text")
        inputs = [torch.cat([context, self.embed(ids[:-1])]) for context, ids in zip(rows, tokens, strict=True)]
        embeds_BLD, mask_BL = padded(inputs, left=False)
        labels_BL = self.labels([len(context) for context in rows], tokens, embeds_BLD.shape[1]).to(self.device)
        hidden = self.model.base_model(inputs_embeds=embeds_BLD, attention_mask=mask_BL, use_cache=False).last_hidden_state
        judged = labels_BL != MASKED
        logits = self.model.get_output_embeddings()(hidden[judged])  # of no other position: V numbers each
        with torch.autocast(self.device.type, enabled=False):
            nats = F.cross_entropy(logits.float(), labels_BL[judged], reduction="none")
            sums = torch.zeros(len(rows), device=self.device).index_add(0, judged.nonzero()[:, 0], nats)
            return sums / judged.sum(1)

    @staticmethod
    def labels(contexts: Sequence[int], tokens: Sequence[Sequence[int]], length: int) -> Tensor:
        """(B,length) the token after each row; `MASKED` where that token is a part of the context, whose number of rows is
        given for each, or padding."""
        labels = torch.full((len(tokens), length), MASKED)
        for row, before, ids in zip(labels, contexts, tokens, strict=True):
            row[before - 1 : before - 1 + len(ids)] = torch.tensor(ids)
        return labels

    def _check_length(self, context: int, more: int, what: str) -> None:
        if context + more > self.positions:
            raise ValueError(
                f"a context of {context:,} rows and the {more:,} tokens of {what} are more than the {self.positions:,} "
                "positions of the language model: give fewer examples or image tokens, shorter text, or another model."
            )

    # ---------------------------------------------------------------- generation

    @torch.no_grad()
    def generate(
        self, contexts: Sequence[Sequence[Piece]], generation: Generation, keys: Sequence[int] | None = None, cache: bool = True
    ) -> list[str]:
        """The continuation of each context, up to the end of text.

        Args:
            keys: a number for each context, such as its image's index: what is drawn for a context depends on its number and
                the seed alone, not on its batch. None: its place in the batch.
            cache: keep keys and values of earlier rows. Without it every row is computed again for every token.

        Raises:
            ValueError: a context leaves no room for `max_tokens` more.
        """
        if not contexts:
            return []
        rows = [self.rows(context) for context in contexts]
        self._check_length(max(map(len, rows)), generation.max_tokens, "the text to be made (generation.max_tokens)")
        embeds_BLD, mask_BL = padded(rows, left=True)
        keys = range(len(rows)) if keys is None else keys
        arguments = generation_arguments(generation, self.words.end, keys, cache)
        made = self.model.generate(inputs_embeds=embeds_BLD, attention_mask=mask_BL, **arguments)
        return [self.words.decode(ids) for ids in made.tolist()]


def padded(rows: Sequence[Tensor], left: bool) -> tuple[Tensor, Tensor]:
    """Sequences (n,width) of several lengths as one tensor (B,L,width), with zeros before (`left`) or behind them, and the
    attention mask (B,L) that hides these: 1 for a row."""
    longest = max(map(len, rows))
    gaps = [(longest - len(r), 0) if left else (0, longest - len(r)) for r in rows]
    embeds = torch.stack([F.pad(r, (0, 0, *gap)) for r, gap in zip(rows, gaps, strict=True)])
    masks = [F.pad(torch.ones(len(r), dtype=torch.long, device=r.device), gap) for r, gap in zip(rows, gaps, strict=True)]
    return embeds, torch.stack(masks)


# ---------------------------------------------------------------- loading


def load_language_model(model: str) -> FrozenLM:
    """The frozen language model of a folder, or of an id on the hub ("gpt2"), in transformers' format.

    Raises:
        ValueError: it cannot be had, is no causal model that is known, or the package transformers is missing.
    """
    network, folder = read_model(model)
    return FrozenLM(network, read_words(folder))


def load_tiny_language_model() -> FrozenLM:
    """The language model that comes with the repository, trained by `tools.tiny_lm` on the sentences of drawn scenes."""
    return load_language_model(str(TINY))
