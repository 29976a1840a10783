"""The frozen CLIP as a teacher: its text features of a class list from hand-written templates, and its own predictions.

Shapes: B images, C classes, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.clip import FrozenCLIP
from prompts.context import fixed_plan


class Teacher:
    """The mean over `templates` of un-normalised text features, then normalised, as in PromptSRC's code.

    Computed when training first asks, once per class list: an evaluation, which binds other lists, never pays for it. No
    module, so that neither the CLIP nor the features become part of a learner's state.
    """

    def __init__(self, templates: Sequence[str]):
        if not templates:
            raise ValueError("the frozen teacher needs at least one template: name some, or give the dataset its own.")
        self.templates = list(templates)
        self._known: tuple[list[str], Tensor] | None = None

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        self.clip, self.classnames = clip, list(classnames)

    @torch.no_grad()
    def text(self) -> Tensor:
        """(C,d), unit length"""
        if self._known is None or self._known[0] != self.classnames:
            total = sum(self.clip.encode_text(fixed_plan(self.clip, self.classnames, t)) for t in self.templates)
            self._known = self.classnames, F.normalize(total, dim=-1)
        return self._known[1]

    @torch.no_grad()
    def image(self, images: Tensor) -> Tensor:
        """(B,3,S,S) -> (B,d), unit length"""
        return F.normalize(self.clip.encode_image(images), dim=-1)

    def logits(self, image: Tensor) -> Tensor:
        """(B,d) -> (B,C)"""
        return self.clip.logits(image, self.text())


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of logits (B,C) at temperature 1, divided by C: (B,)."""
    return F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="none").mean(-1)
