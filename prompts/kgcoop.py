"""KgCoOp (Yao et al., CVPR 2023, section 3.2): CoOp whose text features are kept close to those of hand-written prompts.

Shapes: C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP
from prompts.engine.text_plan import Position
from prompts.learner import Outputs
from prompts.parts.settings import check_at_least, check_choice
from prompts.parts.teacher import Teacher

Loss = Literal["released", "paper"]


class KgCoOp(CoOp):
    """CoOp with `weight` times the mean over classes of a distance between the text features and those of the hand-written
    `templates` ("{}" stands for the class name).

    `loss` says which distance: released, 1 - cosine, as in the authors' code; paper, the squared distance between normalised
    features, which is twice that.
    """

    # modules that the released code builds and never uses
    published_names = {r"(prompt_learner\.)?(meta_net|adapter|bias_vectors)(\..+)?": ""}

    trains_clip = False  # the CLIP is its own teacher

    def __init__(
        self,
        n_ctx: int = 4,
        init: str | None = "a photo of a",
        position: Position = "end",
        weight: float = 8.0,
        templates: Sequence[str] = ("a photo of a {}.",),
        loss: Loss = "released",
    ):
        super().__init__(n_ctx, init, position)
        check_at_least(0, weight=weight)
        check_choice("loss", loss, Loss)
        self.factor = weight * (2 if loss == "paper" else 1)  # of 1 - cosine: |a - b|^2 = 2 (1 - cosine) for unit vectors
        self.teacher = Teacher(templates)

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the text, for the teacher too."""
        super().bind(clip, classnames)
        self.teacher.bind(clip, classnames)

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Cross-entropy and the distance, a scalar."""
        # (C,): half the squared distance is 1 - cosine of unit vectors, without the cancellation where they are nearly equal
        distance = (F.normalize(out.text_features, dim=-1) - self.teacher.text()).square().sum(-1) / 2
        return super().losses(out, labels, index) | {"knowledge": self.factor * distance.mean()}
