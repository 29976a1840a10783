"""Colours as answers: several proposals of one image are painted at once, each in a colour of its own, and the colour whose
sentence scores highest is the answer (after CPT's fill-in-the-blank, arXiv 2109.11797). How the bias towards some colours'
words is removed is inferred: docs/cpt.md.

Shapes: N proposals of an image, M colours, P passes, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from prompts.parts import marking
from prompts.parts.colour_files import Appearance, read_colours
from prompts.parts.marker_bases import ALPHA, COLOURS, Marker, Painted
from prompts.parts.markers import FillBox

Calibration = Literal["cyclic", "neutral", "none"]
SENTENCE, NEUTRAL = "{{}} is in {} color.", "{{}} in {} color."
ANYTHING = "an object"  # in the neutral sentence


def colours_of(given: Sequence[str] | Mapping[str, Sequence[float]] | str | None) -> dict[str, Appearance]:
    """The colours by their words: names of CPT's (None: all five), {word: [r, g, b, alpha]} or [r, g, b], or a file of
    `prompts.parts.colour_search`. ValueError for an unknown name, or fewer than two."""
    if isinstance(given, str):
        found = read_colours(Path(given))
    elif isinstance(given, Mapping):
        found = {word: _appearance(word, numbers) for word, numbers in given.items()}
    else:
        unknown = [name for name in given or () if name not in COLOURS]
        if unknown:
            raise ValueError(f"method.colours: {str(unknown[0])[:40]!r} is none of {', '.join(COLOURS)}: write its numbers.")
        found = {name: (*COLOURS[name], ALPHA) for name in given or COLOURS}
    if len(found) < 2:
        raise ValueError(f"method.colours has {len(found)} colours: two or more are needed to tell proposals apart.")
    return found


def _appearance(word: Any, numbers: Any) -> Appearance:
    numbers = list(numbers) if isinstance(numbers, Sequence) and not isinstance(numbers, str) else []
    numbers = [*numbers, ALPHA] if len(numbers) == 3 else numbers
    if not isinstance(word, str) or len(numbers) != 4 or not all(type(n) in (int, float) and 0 <= n <= 255 for n in numbers):
        raise ValueError(f"method.colours.{word}: give red, green, blue and alpha, numbers from 0 to 255.")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def painted_together(
    marker: Painted, image: Tensor, boxes: Tensor, colours: Sequence[Appearance], masks: Tensor | None = None
) -> Tensor:
    """An image (3,H,W) uint8 with every box (N,4) painted in its own colour, levels (3,H,W). Where boxes overlap, the larger
    ones are painted first, so that a smaller one in a larger one is seen; of equal ones the later is on top."""
    levels, (height, width) = image.float(), image.shape[-2:]
    places = marking.clamp_boxes(boxes.to(levels.device), height, width)
    sizes = ((places[:, 2] - places[:, 0]) * (places[:, 3] - places[:, 1])).tolist()
    area = marker.area(places, height, width, None if masks is None else masks.to(levels.device).bool())
    for box in sorted(range(len(places)), key=lambda box: -sizes[box]):
        look = levels.new_tensor(colours[box])
        levels = torch.where(area[box], marking.blend(levels, look[:3], look[3] / 255), levels)
    return levels


class ColourForm:
    """Assigns M colours to N proposals. Proposals are split into ceil(N / M) groups of one size, and each group is painted on
    copies of its own. With cyclic calibration a group has M copies (passes), so that each box has every colour once; otherwise
    one. How well a whole image fits the query depends on how much of it is painted over, so groups are compared by a softmax
    over the proposals of each and not by raw scores.

    Raises:
        ValueError: the marker does not fill boxes or masks.
    """

    def __init__(self, markers: Sequence[Marker], colours: Mapping[str, Appearance], calibrate: Calibration):
        if len(markers) != 1 or not isinstance(markers[0], FillBox):
            raise ValueError("method.form=colours fills boxes or masks: set method.markers=[fill_box] or [fill_mask].")
        self.marker: Painted = markers[0]
        self.words, self.looks, self.calibrate = list(colours), list(colours.values()), calibrate
        self.sentences = [SENTENCE.format(word) for word in self.words]
        self.neutral = [NEUTRAL.format(word) for word in self.words]

    def groups(self, count: int) -> list[range]:
        """The proposals of each of the ceil(N / M) groups. All groups are equally large, as small as that allows; where they
        cannot be so apart, neighbouring groups share proposals, which are then painted in both."""
        groups = -(-count // len(self.words))
        size = -(-count // groups)
        firsts = [number * (count - size) // max(1, groups - 1) for number in range(groups)]
        return [range(first, first + size) for first in firsts]

    def passes(self, count: int) -> list[list[tuple[int, int]]]:
        """(proposal, colour) pairs of each painted image of N proposals, all groups' passes one after the other."""
        most = len(self.words)
        turns = range(most if self.calibrate == "cyclic" else 1)
        return [
            [(box, (place + turn) % most) for place, box in enumerate(group)] for group in self.groups(count) for turn in turns
        ]

    def paint(self, image: Tensor, boxes: Tensor, masks: Tensor | None, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """The image (3,H,W) uint8 with the boxes (N,4) of the pairs painted, levels (3,H,W)."""
        chosen = [box for box, _ in pairs]
        some = None if masks is None else masks[chosen]
        return painted_together(self.marker, image, boxes[chosen], [self.looks[colour] for _, colour in pairs], some)

    def scores(self, logits: Tensor, neutral: Tensor, count: int) -> Tensor:
        """Scores (N,) of an image's proposals: log-probabilities within their group, of its proposals' mean scores over the
        group's passes. The mean is taken first: a bias towards a colour's word is then the same in all of them and cancels. A
        proposal in two groups gets the mean of both.

        Args:
            logits: (P,M) of its painted images with the sentences of the query, one for each colour.
            neutral: (P,M) with the neutral sentences, which do not name the query; read where the calibration is "neutral".
        """
        if self.calibrate == "neutral":
            logits = logits - neutral
        groups, passes = self.groups(count), self.passes(count)
        turns = len(passes) // len(groups)
        scores, times = logits.new_zeros(count), logits.new_zeros(count)
        for number, group in enumerate(groups):
            rows = range(number * turns, (number + 1) * turns)
            found = torch.stack([torch.stack([logits[row, colour] for _, colour in passes[row]]) for row in rows]).mean(0)
            own = slice(group.start, group.stop)
            scores[own] += found.log_softmax(0)
            times[own] += 1
        return scores / times
