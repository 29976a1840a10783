"""POMP (Ren et al., NeurIPS 2023): CoOp's context, learned on ImageNet-21K from a sample of its classes at each step."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from prompts.coop import CoOp
from prompts.engine.text_plan import Position
from prompts.learner import ClassSample, Outputs
from prompts.parts.local_contrast import LocalContrast, cross_entropy


class POMP(CoOp):
    """`n_ctx`, `init`, `position` as in CoOp. Each training step tells an image from `num_sampled_classes` - 1 sampled classes
    (null: from all); the other switches are those of `prompts.parts.local_contrast`."""

    def __init__(
        self,
        n_ctx: int = 4,
        init: str | None = None,
        position: Position = "end",
        num_sampled_classes: int | None = 1000,
        local_correction: bool = True,
        correction_log_base: Literal["10", "e"] | int = 10,
        negative_groups: int = 1,
    ):
        super().__init__(n_ctx, init, position)
        self.contrast = LocalContrast(num_sampled_classes, local_correction, correction_log_base, negative_groups)

    def sample(self, labels: Tensor, batch_index: Tensor, seed: int) -> ClassSample | None:
        return self.contrast.sample(labels, batch_index, len(self.plan), seed)

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        logits = self.contrast.corrected(out.logits, out.sample, len(self.plan))
        return {"ce": cross_entropy(logits, out.sample, labels)}
