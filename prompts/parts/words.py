"""Context vectors in words: the tokens of the vocabulary whose embeddings are nearest, as CoOp's paper reads its prompts
(Zhou et al., IJCV 2022, interpretation of the learned prompts).

Shapes: N context vectors, V words, D width of the text tower.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.parts.transfer import PromptBlock, block_of
from prompts.prompted_clip import PromptedCLIP


class LearnedTokens:
    """The tokens that a CLIP has learned, and their embeddings, without the start and end tokens and untrained rows."""

    def __init__(self, clip: FrozenCLIP):
        weight = clip.token_embeddings.detach()
        # A file may hold the learned rows alone; all other rows are then equal (`prompts.engine.weights`).
        learned = (weight != weight.median(0).values).any(-1)
        learned[clip.tokenizer.special_ids] = False
        learned[clip.tokenizer.vocab_size :] = False  # rows that no token has
        self.tokenizer, self.ids = clip.tokenizer, learned.nonzero().flatten()
        self.embeddings = weight[self.ids]  # (V,D)

    def __len__(self) -> int:
        return len(self.ids)

    def word(self, number: int) -> str:
        """The token of this row (0 to V-1) as text; a hyphen says where it goes on within the same word."""
        return self.tokenizer.word(int(self.ids[number]))

    def nearest(self, vectors_ND: Tensor, count: int) -> list[list[tuple[str, float]]]:
        """For each vector the `count` nearest words and their Euclidean distances, nearest first."""
        words = []
        for part in vectors_ND.detach().float().to(self.embeddings.device).split(256):  # distances to all words at once
            distances, numbers = self._distances(part).topk(min(count, len(self)), largest=False)
            words += [
                [(self.word(number), distance) for number, distance in zip(*row, strict=True)]
                for row in zip(numbers.tolist(), distances.tolist(), strict=True)
            ]
        return words

    def spacing(self, sample: int = 256) -> float:
        """The median distance from a word to the nearest other one, over at most `sample` words: what counts as near."""
        chosen = torch.linspace(0, len(self) - 1, min(sample, len(self)), device=self.ids.device).long()
        return self._distances(self.embeddings[chosen]).topk(2, largest=False).values[:, 1].median().item()

    def _distances(self, vectors_ND: Tensor) -> Tensor:
        """(N,V)"""
        return torch.cdist(vectors_ND, self.embeddings)


def context_words(model: PromptedCLIP, count: int = 5, most: int = 64) -> list[tuple[str, int, str]]:
    """(tensor, vector, its nearest words) of the learned vectors at the text tower's input, of the first `most`."""
    rows: list[tuple[str, int, str]] = []
    for name, tensor in model.prompt_state()[0].items():
        if (position := block_of(name)) and position[0] == PromptBlock("text", 0):
            near = LearnedTokens(model.clip).nearest(tensor.flatten(0, -2)[: most - len(rows)], count)
            rows += [(name, i, ", ".join(word for word, _ in words)) for i, words in enumerate(near, 1)]
    return rows
