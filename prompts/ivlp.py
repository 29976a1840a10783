"""Independent vision-language prompting (the baseline of MaPLe, section 3, and of PromptSRC): deep prompts in both towers,
uncoupled. Without visual prompts it is deep language prompting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import TowerPrompts
from prompts.learner import PromptLearner, TrainInfo
from prompts.parts.context import STD, check_depth, context_plan, fixed_plan, initial_rows, needs_vit
from prompts.parts.prompt_lengths import deep_rows, read_lengths


class IVLP(PromptLearner):
    """`n_text` tokens in the first `depth_text` blocks of the text tower, `n_image` in the first `depth_image` of the image
    tower; a length of 0 leaves that tower alone. The words of `init` beyond n_text stay fixed text.

    `prompt_lengths` (a dpl.json, its folder, or {"text": [...], "image": [...]}) gives every block a number of its own instead;
    where the first text block has more tokens than `init` has words, they start at random.
    """

    published_names = {
        r"prompt_learner\.ctx": "text_ctx.0",
        r"text_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow": r"text_ctx.\1",
        r"image_encoder\.VPT": "image_ctx.0",
        r"image_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow": r"image_ctx.\1",
    }

    def __init__(
        self,
        n_text: int = 2,
        n_image: int = 2,
        depth_text: int = 12,
        depth_image: int = 12,
        init: str | None = "a photo of a",
        prompt_lengths: str | Mapping[str, Any] | None = None,
    ):
        super().__init__()
        lengths = {"n_text": n_text, "n_image": n_image, "depth_text": depth_text, "depth_image": depth_image}
        for key, value in lengths.items():
            if value < 0:
                raise ValueError(f"method.{key}={value}: give a number, 0 or more.")
        self.found = read_lengths(prompt_lengths) if prompt_lengths else None
        if self.found:
            self.found_settings = self.found.settings
            self.text_lengths, self.image_lengths = self.found.text, self.found.image
        else:
            self.text_lengths, self.image_lengths = [n_text] * depth_text, [n_image] * depth_image
        if not any(self.text_lengths) and not any(self.image_lengths):
            raise ValueError(
                f"{type(self).__name__} without a prompt in any block learns nothing: choose a length and a depth of 1 or "
                "more, or method.prompt_lengths that are not all 0."
            )
        self.init = init

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        text, image = {}, {}
        if any(self.image_lengths):
            needs_vit(clip, "a visual prompt")
        if self.found:
            self.found.check(clip)
        if any(self.text_lengths):
            check_depth(len(self.text_lengths), clip.text_blocks, "text")
            text = {i: STD * torch.randn(n, clip.text_width) for i, n in enumerate(self.text_lengths) if i and n}
            if self.text_lengths[0]:
                self.init = self.found.words_that_reach(clip, self.init) if self.found else self.init
                text[0] = initial_rows(clip, self.text_lengths[0], self.init)
        if any(self.image_lengths):
            check_depth(len(self.image_lengths), clip.image_blocks, "image")
            image = {i: STD * torch.randn(n, clip.image_width) for i, n in enumerate(self.image_lengths) if n}
        # by block: what enters the tower, then what takes its place in blocks 1, 2, ...; (n,D) each
        self.text_ctx = nn.ParameterDict({str(i): text[i] for i in sorted(text)})
        self.image_ctx = nn.ParameterDict({str(i): image[i] for i in sorted(image)})

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        if any(self.text_lengths) and self.text_lengths[0]:
            self.plan = context_plan(clip, classnames, self.text_lengths[0], self.init)
        else:
            self.plan = fixed_plan(clip, classnames, f"{self.init or 'a photo of a'} {{}}.")

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        return deep_rows(self.text_ctx, self.text_lengths)

    def image_prompts(self) -> TowerPrompts:
        return deep_rows(self.image_ctx, self.image_lengths)
