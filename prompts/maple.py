"""MaPLe (Khattak et al., CVPR 2023, section 3.2): deep text prompts, each coupled to a visual one by its own linear map.

Shapes: n prompts of a block, D width of the text tower.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import TowerPrompts
from prompts.learner import Loss, TrainInfo
from prompts.parts.context import STD, initial_rows
from prompts.parts.deep_prompts import DeepPrompts, deep_rows


class MaPLe(DeepPrompts):
    """`n_ctx` prompts in each of the first `depth` blocks of both towers. The words of `init` beyond n_ctx stay as fixed text,
    as in the published code ("a photo of a" with n_ctx=2 keeps "of a").

    `prompt_lengths` of the text tower hold for both towers, as each visual prompt is made from a text prompt. The first block
    needs at least one prompt.
    """

    def __init__(
        self,
        n_ctx: int = 2,
        depth: int = 9,
        init: str | None = "a photo of a",
        prompt_lengths: str | Mapping[str, Any] | None = None,
        loss: Loss = "softmax",
    ):
        if n_ctx < 1 or depth < 1:
            raise ValueError(f"MaPLe with method.n_ctx={n_ctx}, method.depth={depth} learns nothing: choose 1 or more of both.")
        super().__init__(n_ctx, n_ctx, depth, depth, init, prompt_lengths, loss)
        self.image_lengths = self.text_lengths
        if not self.text_enters:
            raise ValueError("MaPLe's prompts enter with the text, and prompt_lengths is 0 in the first text block: use ivlp.")

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes the text prompts (n,D) and the maps from each to its visual prompt."""
        self.fit_to(clip)
        self.ctx = nn.Parameter(initial_rows(clip, self.text_lengths[0], self.init))
        self.proj = nn.Linear(clip.text_width, clip.image_width)
        deep = [nn.Parameter(STD * torch.randn(n, clip.text_width)) for n in self.text_lengths[1:] if n]
        self.compound_prompts_text = nn.ParameterList(deep)
        couple = nn.Linear(clip.text_width, clip.image_width)  # the published code gives all deep maps the same initial values
        self.compound_prompt_projections = nn.ModuleList(copy.deepcopy(couple) for _ in deep)

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        """The text prompts by block."""
        return self._rows([self.ctx, *self.compound_prompts_text])

    def image_prompts(self) -> TowerPrompts:
        """The text prompts, mapped, by block."""
        pairs = zip(self.compound_prompt_projections, self.compound_prompts_text, strict=True)
        return self._rows([self.proj(self.ctx), *(couple(p) for couple, p in pairs)])

    def _rows(self, prompts: list[Tensor]) -> TowerPrompts:
        blocks = [str(i) for i, n in enumerate(self.text_lengths) if n]
        return deep_rows(dict(zip(blocks, prompts, strict=True)), self.text_lengths)
