"""CoCoOp (Zhou et al., CVPR 2022, section 3.2): CoOp's context plus a bias that a small network makes from the
image.

Shapes: B images, n context tokens, d width of the shared embedding, D width of the text tower.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import Rows, TowerPrompts
from prompts.learner import Loss, PromptLearner, TrainInfo
from prompts.parts.context import context_plan, initial_rows
from prompts.parts.settings import check_choice


class CoCoOp(PromptLearner):
    """Every image has its own text features: all classes are encoded once per image, in one batch of any size."""

    trains_clip = True

    def __init__(self, n_ctx: int = 4, init: str | None = "a photo of a", loss: Loss = "softmax"):
        super().__init__()
        if n_ctx < 1:
            raise ValueError(f"method.n_ctx={n_ctx} leaves no context to learn: choose 1 or more.")
        check_choice("loss", loss, Loss)
        self.n_ctx, self.init, self.loss = n_ctx, init, loss

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes the context and the network, whose hidden layer is a sixteenth of d wide."""
        self.ctx = nn.Parameter(initial_rows(clip, self.n_ctx, self.init))  # (n,D)
        d, hidden = clip.embed_dim, clip.embed_dim // 16
        layers = [("linear1", nn.Linear(d, hidden)), ("relu", nn.ReLU()), ("linear2", nn.Linear(hidden, clip.text_width))]
        self.meta_net = nn.Sequential(OrderedDict(layers))

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the context and the class names."""
        self.plan = context_plan(clip, classnames, self.n_ctx, self.init)

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        """A context for each image."""
        bias_BD = self.meta_net(F.normalize(image, dim=-1))
        return TowerPrompts(Rows(self.ctx + bias_BD[:, None].float(), per="image"))  # (B,n,D)
