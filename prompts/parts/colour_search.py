"""A search for the colours that a CLIP recognises best in painted regions, and their words (the search of CPT, arXiv
2109.11797, in a form for CLIP; its details are not public: docs/cpt.md says what is inferred).

Every appearance, a red, green and blue with an alpha, is painted on every given box, and the words are compared by a softmax
over "a photo of an object in {word} color". The best appearance of each word is kept; then words that are seldom confused with
one another are chosen greedily.

Shapes: A appearances, W words, K painted boxes, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.parts.colour_files import Appearance
from prompts.parts.marker_bases import ALPHA, COLOURS
from prompts.parts.markers import FillBox
from prompts.parts.marking import ResizeMode
from prompts.parts.region_images import encode_drawn
from prompts.parts.region_texts import RegionTexts

SENTENCE = "a photo of an object in {} color"
WORDS = ("red", "green", "blue", "yellow", "purple", "pink", "orange", "brown", "black", "white", "grey", "cyan")


def grid(levels: Sequence[float] = (0, 127, 255), alphas: Sequence[float] = (63, 127, 191)) -> list[Appearance]:
    """All colours whose red, green and blue are among `levels`, and CPT's own five, each with every alpha. ValueError for a
    number that is not from 0 to 255, or where there is none."""
    if not levels or not alphas or not all(0 <= number <= 255 for number in (*levels, *alphas)):
        raise ValueError(f"method.levels={list(levels)}, method.alphas={list(alphas)}: give numbers from 0 to 255.")
    colours = dict.fromkeys([*product(levels, repeat=3), *COLOURS.values()])
    return [(r, g, b, alpha) for r, g, b in colours for alpha in dict.fromkeys((*alphas, ALPHA))]


@dataclass(frozen=True)
class FoundColours:
    """What a search found.

    `table` (A,W): how probable each word is for each appearance, the mean over the painted boxes.
    """

    words: list[str]
    appearances: list[Appearance]
    table: Tensor

    @property
    def best(self) -> dict[str, int]:
        """For each word the appearance that it is most probable for; the first of equal ones."""
        return dict(zip(self.words, self.table.argmax(0).tolist(), strict=True))

    @property
    def confusion(self) -> Tensor:
        """(W,W): how probable the second word is for the best appearance of the first."""
        return self.table[list(self.best.values())]

    def chosen(self, count: int) -> list[str]:
        """`count` words that are seldom confused: first the most probable one, then each time the word whose greatest confusion
        with those already chosen, in either direction, is least; of equal ones the more probable.

        Raises:
            ValueError: there are not so many words.
        """
        if not 1 <= count <= len(self.words):
            raise ValueError(f"{count} colours cannot be chosen among {len(self.words)} words: give 1 to {len(self.words)}.")
        own, both = self.confusion.diagonal(), torch.maximum(self.confusion, self.confusion.T)
        chosen = [int(own.argmax())]
        while len(chosen) < count:
            rest = [word for word in range(len(self.words)) if word not in chosen]
            chosen.append(min(rest, key=lambda word: (float(both[word, chosen].max()), -float(own[word]))))
        return [self.words[word] for word in chosen]

    def as_file(self, count: int, **about: Any) -> dict[str, Any]:
        """The content for `prompts.parts.colour_files.write_colours`: the colours of the chosen words in the order of their
        choice, the results for all words, and `about`."""
        best, confusion = self.best, self.confusion
        return {
            "colours": {word: list(self.appearances[best[word]]) for word in self.chosen(count)},
            "found": {word: list(self.appearances[at]) for word, at in best.items()},
            "probability": {word: float(p) for word, p in zip(self.words, confusion.diagonal(), strict=True)},
            "confusion": dict(zip(self.words, confusion.tolist(), strict=True)),
            "tried": len(self.appearances),
            **about,
        }


@torch.no_grad()
def search_colours(
    clip: FrozenCLIP,
    images: Sequence[Tensor],
    boxes: Sequence[Tensor],
    appearances: Sequence[Appearance] | None = None,
    words: Sequence[str] = WORDS,
    resize_mode: ResizeMode = "squash",
    chunk: int = 64,
) -> FoundColours:
    """The probabilities of all words for all appearances.

    Args:
        images: (3,H,W) uint8, K of them: training or validation images, or drawn ones.
        boxes: (4,) of each, which is painted.
        appearances: those of `grid` where none are given.

    Raises:
        ValueError: no images, not a box for each, or words that are fewer than two or repeated.
    """
    if not images or len(images) != len(boxes):
        raise ValueError(f"a search for colours has {len(images)} images and {len(boxes)} boxes: give a box for each image.")
    if len(set(words)) != len(words) or len(words) < 2:
        raise ValueError(f"the words {list(words)} of a search for colours: give two or more, each once.")
    looks = list(grid() if appearances is None else appearances)
    texts = RegionTexts().features(clip, SENTENCE, words)
    markers = [FillBox(look[:3], look[3]) for look in looks]

    def draw(image: int, first: int, last: int) -> Tensor:
        copies = [marker.mark(images[image].to(clip.device), boxes[image]) for marker in markers[first:last]]
        return torch.stack([copy for copy in copies if isinstance(copy, Tensor)])

    table = torch.zeros(len(looks), len(words))
    for features in encode_drawn(clip, [len(looks)] * len(images), draw, chunk, resize_mode):
        table += (clip.logit_scale * features @ texts.T).softmax(-1).cpu() / len(images)
    return FoundColours(list(words), looks, table)
