"""POMP (Ren et al., NeurIPS 2023): CoOp's context, learned on ImageNet-21K from a sample of its classes at each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from prompts.coop import CoOp
from prompts.engine.text_plan import Position
from prompts.learner import ClassSample, Outputs
from prompts.parts.local_contrast import LocalContrast, cross_entropy

SAMPLED = LocalContrast(num_sampled_classes=1000)  # as published


class POMP(CoOp):
    """CoOp (`n_ctx`, `init`, `position`) that classifies each training image against sampled classes: `local_contrast` is a
    `prompts.parts.local_contrast.LocalContrast` or a mapping of its settings."""

    def __init__(
        self,
        n_ctx: int = 4,
        init: str | None = None,
        position: Position = "end",
        local_contrast: LocalContrast | Mapping[str, Any] = SAMPLED,
    ):
        super().__init__(n_ctx, init, position)
        self.local_contrast = LocalContrast.of(local_contrast)

    def sample(self, labels: Tensor, batch_index: Tensor, seed: int) -> ClassSample | None:
        """Sampled classes, the same for all images of a group."""
        return self.local_contrast.sample(labels, batch_index, len(self.plan), seed)

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Cross-entropy over the sampled classes, with the local correction."""
        logits = self.local_contrast.corrected(out.logits, out.sample, len(self.plan))
        return {"ce": cross_entropy(logits, out.sample, labels)}
