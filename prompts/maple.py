"""MaPLe (Khattak et al., CVPR 2023, section 3.2): deep text prompts, each coupled to a visual one by its own linear map."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prompts.clip import FrozenCLIP
from prompts.context import STD, check_depth, context_plan, initial_rows, needs_vit
from prompts.learner import PromptLearner, TrainInfo
from prompts.rows import Rows, TowerPrompts


class MaPLe(PromptLearner):
    """`n_ctx` tokens per block in the first `depth` blocks of both towers. The words of `init` beyond n_ctx stay fixed text,
    as in the published code ("a photo of a" with n_ctx=2 keeps "of a")."""

    def __init__(self, n_ctx: int = 2, depth: int = 9, init: str | None = "a photo of a"):
        super().__init__()
        self.n_ctx, self.depth, self.init = n_ctx, depth, init

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        needs_vit(clip, "MaPLe")
        check_depth(self.depth, clip.text_blocks, "text")
        check_depth(self.depth, clip.image_blocks, "image")
        self.ctx = nn.Parameter(initial_rows(clip, self.n_ctx, self.init))  # (n,D_text)
        self.proj = nn.Linear(clip.text_width, clip.image_width)
        deep = [nn.Parameter(STD * torch.randn(self.n_ctx, clip.text_width)) for _ in range(self.depth - 1)]
        self.compound_prompts_text = nn.ParameterList(deep)
        couple = nn.Linear(clip.text_width, clip.image_width)  # the published code starts all deep maps alike
        self.compound_prompt_projections = nn.ModuleList(copy.deepcopy(couple) for _ in deep)

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        self.plan = context_plan(clip, classnames, self.n_ctx, self.init)

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        return TowerPrompts(Rows(self.ctx), {i: Rows(p) for i, p in enumerate(self.compound_prompts_text, 1)})

    def image_prompts(self) -> TowerPrompts:
        pairs = zip(self.compound_prompt_projections, self.compound_prompts_text, strict=True)
        return TowerPrompts(Rows(self.proj(self.ctx)), {i: Rows(couple(p)) for i, (couple, p) in enumerate(pairs, 1)})
