"""MaPLe (Khattak et al., CVPR 2023, section 3.2): deep text prompts, each coupled to a visual one by its own linear map."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import TowerPrompts
from prompts.learner import PromptLearner, TrainInfo
from prompts.parts.context import STD, check_depth, context_plan, initial_rows, needs_vit
from prompts.parts.prompt_lengths import deep_rows, read_lengths


class MaPLe(PromptLearner):
    """`n_ctx` tokens per block in the first `depth` blocks of both towers. The words of `init` beyond n_ctx stay fixed text,
    as in the published code ("a photo of a" with n_ctx=2 keeps "of a").

    `prompt_lengths` (a dpl.json, its folder, or {"text": [...], "image": [...]}) gives every block a number of its own instead:
    that of the text tower, as each visual prompt is made from a text prompt. The first block needs some.
    """

    def __init__(
        self,
        n_ctx: int = 2,
        depth: int = 9,
        init: str | None = "a photo of a",
        prompt_lengths: str | Mapping[str, Any] | None = None,
    ):
        super().__init__()
        if n_ctx < 1 or depth < 1:
            raise ValueError(f"MaPLe with method.n_ctx={n_ctx}, method.depth={depth} learns nothing: choose 1 or more of both.")
        self.found = read_lengths(prompt_lengths) if prompt_lengths else None
        if self.found:
            self.found_settings = self.found.settings
        self.lengths = self.found.text if self.found else [n_ctx] * depth
        if self.found and not self.lengths[0]:
            raise ValueError("MaPLe's prompts enter with the text, and prompt_lengths is 0 in the first text block: use ivlp.")
        self.init = init

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        needs_vit(clip, "MaPLe")
        if self.found:
            self.found.check(clip)
            self.init = self.found.words_that_reach(clip, self.init)
        check_depth(len(self.lengths), clip.text_blocks, "text")
        check_depth(len(self.lengths), clip.image_blocks, "image")
        self.ctx = nn.Parameter(initial_rows(clip, self.lengths[0], self.init))  # (n,D_text)
        self.proj = nn.Linear(clip.text_width, clip.image_width)
        deep = [nn.Parameter(STD * torch.randn(n, clip.text_width)) for n in self.lengths[1:] if n]
        self.compound_prompts_text = nn.ParameterList(deep)
        couple = nn.Linear(clip.text_width, clip.image_width)  # the published code starts all deep maps alike
        self.compound_prompt_projections = nn.ModuleList(copy.deepcopy(couple) for _ in deep)

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        self.plan = context_plan(clip, classnames, self.lengths[0], self.init)

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        return self._rows([self.ctx, *self.compound_prompts_text])

    def image_prompts(self) -> TowerPrompts:
        pairs = zip(self.compound_prompt_projections, self.compound_prompts_text, strict=True)
        return self._rows([self.proj(self.ctx), *(couple(p) for couple, p in pairs)])

    def _rows(self, prompts: list[Tensor]) -> TowerPrompts:
        blocks = [str(i) for i, n in enumerate(self.lengths) if n]
        return deep_rows(dict(zip(blocks, prompts, strict=True)), self.lengths)
