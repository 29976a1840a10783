"""Independent vision-language prompting (the baseline of MaPLe, section 3, and of PromptSRC): deep prompts in both towers,
uncoupled. Without visual prompts it is deep language prompting."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prompts.clip import FrozenCLIP
from prompts.context import STD, check_depth, context_plan, fixed_plan, initial_rows, needs_vit
from prompts.learner import PromptLearner, TrainInfo
from prompts.rows import NO_PROMPTS, Rows, TowerPrompts


class IVLP(PromptLearner):
    """`n_text` tokens in the first `depth_text` blocks of the text tower, `n_image` in the first `depth_image` of the image
    tower; a length of 0 leaves that tower alone. The words of `init` beyond n_text stay fixed text."""

    published_names = {
        r"prompt_learner\.ctx": "text_ctx.0",
        r"text_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow": r"text_ctx.\1",
        r"image_encoder\.VPT": "image_ctx.0",
        r"image_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow": r"image_ctx.\1",
    }

    def __init__(
        self, n_text: int = 2, n_image: int = 2, depth_text: int = 12, depth_image: int = 12, init: str | None = "a photo of a"
    ):
        super().__init__()
        if not n_text and not n_image:
            raise ValueError(
                "IVLP without text and without visual prompts learns nothing: set method.n_text or method.n_image."
            )
        self.n_text, self.n_image, self.depth_text, self.depth_image, self.init = n_text, n_image, depth_text, depth_image, init
        self.text_depends_on = "tensors" if n_text else "nothing"

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        text, image = [], []
        if self.n_text:
            check_depth(self.depth_text, clip.text_blocks, "text")
            deep = [STD * torch.randn(self.n_text, clip.text_width) for _ in range(self.depth_text - 1)]
            text = [initial_rows(clip, self.n_text, self.init), *deep]
        if self.n_image:
            needs_vit(clip, "a visual prompt")
            check_depth(self.depth_image, clip.image_blocks, "image")
            image = [STD * torch.randn(self.n_image, clip.image_width) for _ in range(self.depth_image)]
        self.text_ctx = nn.ParameterList(text)  # depth_text of (n_text,D_text): the input, then blocks 1, 2, ...
        self.image_ctx = nn.ParameterList(image)  # depth_image of (n_image,D_image)

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        if self.n_text:
            self.plan = context_plan(clip, classnames, self.n_text, self.init)
        else:
            self.plan = fixed_plan(clip, classnames, f"{self.init or 'a photo of a'} {{}}.")

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        return _deep(self.text_ctx)

    def image_prompts(self) -> TowerPrompts:
        return _deep(self.image_ctx)


def _deep(rows: nn.ParameterList) -> TowerPrompts:
    if not len(rows):
        return NO_PROMPTS
    return TowerPrompts(Rows(rows[0]), {i: Rows(r) for i, r in enumerate(rows) if i})
