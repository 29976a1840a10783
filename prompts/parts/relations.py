"""The relation of two things, in CPT's form (arXiv 2109.11797): the subject is painted red, the object blue, and a sentence
for each relation says "<subject> in red color is <relation> a <object> in blue color". In CPT a language model fills in the
relation; here CLIP scores the sentences, which is inferred (docs/cpt.md).

Shapes: B pairs, R relations, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.parts.colour_form import painted_together
from prompts.parts.marker_bases import ALPHA, COLOURS
from prompts.parts.markers import FillBox
from prompts.parts.marking import ResizeMode
from prompts.parts.region_images import encode_drawn
from prompts.parts.region_texts import RegionTexts, query_of

LOOKS = ((*COLOURS["red"], ALPHA), (*COLOURS["blue"], ALPHA))


def relation_sentences(subject: str, thing: str, relations: Sequence[str]) -> list[str]:
    """A sentence for each relation between a subject and an object."""
    return [f"{query_of(subject)} in red color is {query_of(how)} a {query_of(thing)} in blue color" for how in relations]


@torch.no_grad()
def relation_scores(
    clip: FrozenCLIP,
    images: Sequence[Tensor],
    boxes: Sequence[Tensor],
    names: Sequence[tuple[str, str]],
    relations: Sequence[str],
    texts: RegionTexts | None = None,
    resize_mode: ResizeMode = "squash",
    chunk: int = 64,
) -> Tensor:
    """logit_scale x cosine of each painted image with the sentence of each relation.

    Args:
        images: (3,H,W) uint8 of each pair.
        boxes: (2,4) of each pair: of the subject, then of the object, in pixels of the image, with exclusive far edges.
        names: of the subject and of the object.
        relations: in words, "on", "to the left of".
        texts: features of sentences that are known already.
        chunk: how many painted images exist at once, at most.

    Returns:
        (B,R) float32

    Raises:
        ValueError: no relations, not two boxes and two names for each image, or a box outside its image.
    """
    if not relations:
        raise ValueError("there are no relations to choose among: give a list of words such as on, under.")
    if not (len(images) == len(boxes) == len(names)) or any(len(of_pair) != 2 for of in (boxes, names) for of_pair in of):
        raise ValueError(f"{len(images)} images, {len(boxes)} boxes, {len(names)} names: give two boxes and two names to each.")
    if not images:
        return torch.zeros(0, len(relations))
    texts, marker = texts or RegionTexts(), FillBox()

    def draw(image: int, first: int, last: int) -> Tensor:
        return painted_together(marker, images[image].to(clip.device), boxes[image], LOOKS)[None]

    painted = torch.cat(encode_drawn(clip, [1] * len(images), draw, chunk, resize_mode))
    sentences = [text for subject, thing in names for text in relation_sentences(subject, thing, relations)]
    asked = texts.features(clip, "{}", sentences).unflatten(0, (len(images), len(relations)))  # (B,R,d)
    return clip.logit_scale * torch.einsum("bd,brd->br", painted, asked)
