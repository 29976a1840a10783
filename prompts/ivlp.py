"""Independent vision-language prompting (the baseline of MaPLe, section 3, and of PromptSRC): deep prompts in both towers,
uncoupled. Without visual prompts it is deep language prompting."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import TowerPrompts
from prompts.learner import TrainInfo
from prompts.parts.context import STD, initial_rows
from prompts.parts.deep_prompts import DeepPrompts, deep_rows


class IVLP(DeepPrompts):
    """Separate prompts in every prompted block of both towers. The arguments are those of `DeepPrompts`."""

    published_names = {
        r"prompt_learner\.ctx": "text_ctx.0",
        r"text_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow": r"text_ctx.\1",
        r"image_encoder\.VPT": "image_ctx.0",
        r"image_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow": r"image_ctx.\1",
    }

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes a tensor (n,D) for each prompted block, by its number; block 0's is at the tower's input."""
        self.fit_to(clip)
        text = {i: STD * torch.randn(n, clip.text_width) for i, n in enumerate(self.text_lengths) if i and n}
        if self.text_enters:
            text[0] = initial_rows(clip, self.text_lengths[0], self.init)
        image = {i: STD * torch.randn(n, clip.image_width) for i, n in enumerate(self.image_lengths) if n}
        self.text_ctx = nn.ParameterDict({str(i): text[i] for i in sorted(text)})
        self.image_ctx = nn.ParameterDict({str(i): image[i] for i in sorted(image)})

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        """The text tower's rows by block."""
        return deep_rows(self.text_ctx, self.text_lengths)

    def image_prompts(self) -> TowerPrompts:
        """The image tower's rows by block."""
        return deep_rows(self.image_ctx, self.image_lengths)
