"""A method with deep rows that differ by class: a context of its own for each class, in the first blocks of the text tower.

Shapes: C classes, n rows of a block, D width of the text tower.
"""

import torch
from torch import nn

from prompts.engine.rows import Rows, TowerPrompts
from prompts.learner import PromptLearner
from prompts.parts.context import STD, check_depth, context_plan


class ClassDeep(PromptLearner):
    """`n_ctx` rows for each class in the first `depth` blocks."""

    class_specific = True

    def __init__(self, n_ctx: int = 2, depth: int = 2):
        super().__init__()
        self.n_ctx, self.depth = n_ctx, depth

    def setup(self, clip, info):
        """Makes (C,n,D) for each block."""
        check_depth(self.depth, clip.text_blocks, "text")
        size = len(info.classnames), self.n_ctx, clip.text_width
        self.ctx = nn.ParameterList(STD * torch.randn(*size) for _ in range(self.depth))

    def bind(self, clip, classnames):
        """Slots in front of each class name."""
        self.plan = context_plan(clip, classnames, self.n_ctx, None)

    def text_prompts(self, image):
        """What enters the tower, and what replaces it in later blocks."""
        first, *later = (Rows(rows, per="class") for rows in self.ctx)
        return TowerPrompts(first, dict(enumerate(later, 1)))
