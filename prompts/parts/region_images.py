"""Features of marked copies of images, a bounded number of which exist at once.

Shapes: N copies of an image, d width of the shared embedding, S the side of a CLIP's images.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.parts.marking import ResizeMode, to_pixels

MOST_KEPT = 2**26  # numbers in kept features, 0.3 GB
Draw = Callable[[int, int, int], "Tensor | list[Tensor]"]


def encode_drawn(clip: FrozenCLIP, counts: Sequence[int], draw: Draw, chunk: int, mode: ResizeMode) -> list[Tensor]:
    """Features of the copies of several images, of unit length.

    Args:
        counts: how many copies each image has.
        draw: makes the copies from `first` to `last` - 1 of image i, as `to_pixels` takes them, from (i, first, last).
        chunk: how many copies exist at once, at most.

    Returns:
        (N,d) float32 of each image, in the order of its copies.
    """
    encoded: list[Tensor] = []
    waiting: list[Tensor] = []
    for image, count in enumerate(counts):
        first = 0
        while first < count:
            last = min(count, first + chunk - sum(map(len, waiting)))
            waiting.append(to_pixels(draw(image, first, last), clip.image_spec, mode))
            first = last
            if sum(map(len, waiting)) == chunk:
                encoded.append(clip.encode_image(torch.cat(waiting)))
                waiting = []
    if waiting:
        encoded.append(clip.encode_image(torch.cat(waiting)))
    return list(F.normalize(torch.cat(encoded).float(), dim=-1).split(list(counts)))


class KeptFeatures:
    """Features of images' copies by their keys, so that several expressions about one image encode its copies once. The oldest
    are dropped where there are too many."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Any, dict[Hashable, Tensor]] = WeakKeyDictionary()

    def of(self, clip: FrozenCLIP, keys: Sequence[Hashable | None], make: Callable[[list[int]], list[Tensor]]) -> list[Tensor]:
        """The features for each key; `make` computes those of the positions that it is given. None: not kept."""
        kept = self._kept.setdefault(clip, {})
        wanted = [i for i, key in enumerate(keys) if key is None or (key not in kept and key not in keys[:i])]
        found = {key: kept[key] for key in keys if key is not None and key in kept}
        made = dict(zip(wanted, make(wanted), strict=True)) if wanted else {}
        found |= {keys[i]: features for i, features in made.items() if keys[i] is not None}
        kept |= {keys[i]: features.detach() for i, features in made.items() if keys[i] is not None}
        total = sum(features.numel() for features in kept.values())
        for key in list(kept):
            if total <= MOST_KEPT:
                break
            total -= kept.pop(key).numel()
        return [made[i] if key is None else found[key] for i, key in enumerate(keys)]
