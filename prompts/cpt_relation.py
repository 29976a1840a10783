"""Relations of two objects in CPT's form (Yao et al., arXiv 2109.11797) on CLIP, zero-shot: `prompts.parts.relations`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.learner import GradientFree
from prompts.parts.marking import ResizeMode
from prompts.parts.region_texts import RegionTexts
from prompts.parts.relations import relation_scores
from prompts.parts.settings import check_at_least, check_choice


class CPTRelation(GradientFree):
    """Scores a sentence for each relation on the image with the subject painted red and the object blue.

    Args:
        resize_mode: how a painted image becomes CLIP's square.
        chunk: how many painted images exist at once, at most.

    Raises:
        ValueError: an unknown choice or a number out of its range.
    """

    offers = ("scores of relations",)

    def __init__(self, resize_mode: ResizeMode = "squash", chunk: int = 64):
        super().__init__()
        check_choice("resize_mode", resize_mode, ResizeMode)
        check_at_least(1, chunk=chunk)
        self.resize_mode, self.chunk, self.texts = resize_mode, chunk, RegionTexts()

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Does nothing: relations come with the pairs."""

    def relation_scores(
        self,
        clip: FrozenCLIP,
        images: Sequence[Tensor],
        boxes: Sequence[Tensor],
        names: Sequence[tuple[str, str]],
        relations: Sequence[str],
    ) -> Tensor:
        """(B,R) of B pairs, see `prompts.parts.relations.relation_scores`."""
        return relation_scores(clip, images, boxes, names, relations, self.texts, self.resize_mode, self.chunk)
