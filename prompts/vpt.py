"""Visual prompt tuning of CLIP (Jia et al., ECCV 2022, section 3.2, as MaPLe's repository runs it): visual prompts only,
the text being a fixed template."""

from __future__ import annotations

from collections.abc import Sequence

from prompts.engine.clip import FrozenCLIP
from prompts.ivlp import IVLP
from prompts.learner import Loss
from prompts.parts.context import fixed_plan


class VPT(IVLP):
    """`n_ctx` visual prompts in each of the first `depth` blocks: depth 1 is VPT-shallow, more is VPT-deep."""

    def __init__(self, n_ctx: int = 8, depth: int = 12, template: str = "a photo of a {}.", loss: Loss = "softmax"):
        if n_ctx < 1 or depth < 1:
            raise ValueError(
                f"VPT with method.n_ctx={n_ctx} and method.depth={depth} learns nothing: choose 1 or more of both."
            )
        super().__init__(n_text=0, n_image=n_ctx, depth_image=depth, loss=loss)
        self.template = template

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the fixed text."""
        self.plan = fixed_plan(clip, classnames, self.template)
