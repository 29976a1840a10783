"""CoOp (Zhou et al., IJCV 2022, section 3): learnable context vectors around the class name, the same for all classes or one
set per class.

Shapes: C classes, n context tokens, D width of the text tower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import Rows, TowerPrompts
from prompts.engine.text_plan import Position
from prompts.learner import Loss, PromptLearner, TrainInfo
from prompts.parts.context import STD, context_plan, initial_rows
from prompts.parts.settings import check_choice


class CoOp(PromptLearner):
    """`n_ctx` context tokens, random or starting from the words of `init`. `position` places the class name behind, between or
    before them. `class_context` gives every class its own tokens, which then fit no other class list. `loss` is softmax, as
    published, or sigmoid, for CLIPs that were trained with it."""

    trains_clip = True

    def __init__(
        self,
        n_ctx: int = 16,
        init: str | None = None,
        position: Position = "end",
        class_context: bool = False,
        loss: Loss = "softmax",
    ):
        super().__init__()
        if n_ctx < 1:
            raise ValueError(f"method.n_ctx={n_ctx} leaves no context to learn: choose 1 or more.")
        check_choice("position", position, Position)
        check_choice("loss", loss, Loss)
        if class_context and init is not None:
            raise ValueError("class-specific contexts start at random: set method.init=null or method.class_context=false.")
        self.n_ctx, self.init, self.position, self.class_specific = n_ctx, init, position, class_context
        self.loss = loss

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes the context, (n,D) or (C,n,D)."""
        if self.class_specific:
            context_plan(clip, info.classnames[:1], self.n_ctx, self.init)  # refuses a huge n_ctx before memory is allocated
            self.ctx = nn.Parameter(STD * torch.randn(len(info.classnames), self.n_ctx, clip.text_width))  # (C,n,D)
        else:
            self.ctx = nn.Parameter(initial_rows(clip, self.n_ctx, self.init))  # (n,D)

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the context and the class names."""
        self.plan = context_plan(clip, classnames, self.n_ctx, self.init, self.position, self.class_specific)

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        """The context, at the text tower's input."""
        return TowerPrompts(Rows(self.ctx, per="class" if self.class_specific else "shared"))
