"""KgCoOp (Yao et al., CVPR 2023, section 3.2): CoOp whose text features are held near those of the hand-written prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP
from prompts.engine.text_plan import Position
from prompts.learner import Outputs
from prompts.parts.teacher import Teacher


class KgCoOp(CoOp):
    """CoOp with `weight` times the mean over classes of the squared distance between normalised text features and those of the
    hand-written `templates` ("{}" stands for the class name)."""

    def __init__(
        self,
        n_ctx: int = 4,
        init: str | None = "a photo of a",
        position: Position = "end",
        weight: float = 8.0,
        templates: Sequence[str] = ("a photo of a {}.",),
    ):
        super().__init__(n_ctx, init, position)
        self.weight, self.teacher = weight, Teacher(templates)

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the text, for the teacher too."""
        super().bind(clip, classnames)
        self.teacher.bind(clip, classnames)

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Cross-entropy and the distance, a scalar."""
        distance = (F.normalize(out.text_features, dim=-1) - self.teacher.text()).square().sum(-1)  # (C,)
        return super().losses(out, labels, index) | {"knowledge": self.weight * distance.mean()}
