"""A visual prompt with a text adapter: rows behind the patches, and a small network on the text features.

Shapes: B images, C classes, n rows, d width of the shared embedding, D width of the image tower.
"""

import torch
from torch import nn

from prompts.engine.rows import Rows, TowerPrompts
from prompts.learner import PromptLearner
from prompts.parts.context import STD, fixed_plan, needs_vit


class VisualAdapter(PromptLearner):
    """`n_ctx` visual prompts; the text features gain `share` times what a bottleneck of `hidden` units makes of them."""

    def __init__(self, n_ctx: int = 4, hidden: int = 16, share: float = 0.2, template: str = "a photo of a {}."):
        super().__init__()
        self.n_ctx, self.hidden, self.share, self.template = n_ctx, hidden, share, template

    def setup(self, clip, info):
        """Makes the rows (n,D) and the adapter."""
        needs_vit(clip, "VisualAdapter")
        self.rows = nn.Parameter(STD * torch.randn(self.n_ctx, clip.image_width))
        d = clip.embed_dim
        self.adapter = nn.Sequential(nn.Linear(d, self.hidden), nn.ReLU(), nn.Linear(self.hidden, d, bias=False))
        nn.init.zeros_(self.adapter[2].weight)  # training starts at CLIP's own text features

    def bind(self, clip, classnames):
        """The template's text."""
        self.plan = fixed_plan(clip, classnames, self.template)

    def image_prompts(self):
        """The rows enter with the patches."""
        return TowerPrompts(Rows(self.rows))

    def encode_text(self, clip, image, classes=None):
        """(C,d)"""
        text = super().encode_text(clip, image, classes)
        return text + self.share * self.adapter(text)
