"""The search of DPL, differentiable prompt learning (IJCAI 2025, arXiv 2501.00457): how many prompts each block gets. The
supernet of all lengths is trained; `prompts.dpl` then trains fresh prompts of the lengths that were found.

Prompts are keys and values only: they have no queries, so no block passes them on. Every block mixes the attention outputs of
all options, weighted by a softmax over its alphas.

Shapes: L blocks of a tower, t options, m rows of one option, C classes, D width of the tower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import ExtraKV, TowerPrompts
from prompts.engine.sending import arriving
from prompts.learner import Outputs, PromptLearner, TrainInfo, TrainingHooks
from prompts.parts.context import STD, fixed_plan, needs_text_blocks, needs_vit
from prompts.parts.dpl_text import text_template
from prompts.parts.search_files import write_lengths


class DPLSearch(PromptLearner, TrainingHooks):
    """The supernet. Training batches update the prompts and validation batches the alphas, in alternation: the method needs
    `data.alternating_batch_size`.

    Args:
        lengths: the options of a block. Without 0 every block gets prompts.
        template: the text, "{}" standing for the class name.
        custom_templates: the released code's text for the dataset called `dataset` (conf/data) instead of `template`.
        alpha_lr: constant rate of the alphas' own optimiser, Adam.
        paper_init: start from N(0,1) image and U(0,1) text rows, as released, instead of N(0,0.02).

    Raises:
        ValueError: lengths that are no options, a negative rate, no released text for the dataset; from `setup`: no alternating
            batches, or a ResNet.
    """

    visual_prompts = True
    alternates = True

    def __init__(
        self,
        lengths: Sequence[int] = (0, 2, 4, 6),
        template: str = "a photo of a {}.",
        alpha_lr: float = 0.0035,
        paper_init: bool = False,
        custom_templates: bool = False,
        dataset: str = "",
    ):
        super().__init__()
        if alpha_lr < 0:
            raise ValueError(f"method.alpha_lr={alpha_lr}: give a number, 0 or more.")
        self.lengths = _options(lengths)
        self.template = text_template(template, custom_templates, dataset)
        self.alpha_lr, self.paper_init = alpha_lr, paper_init
        self.first_index: Callable[[], float] = lambda: 0  # gives the index of the first image in the batch of this step

    # ---------------------------------------------------------------- tensors

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes the prompts of every option and the alphas."""
        needs_vit(clip, "DPL")
        needs_text_blocks(clip, "DPL")
        if info.fit and not info.alternating:
            raise ValueError(
                "DPL's search fits its alphas on validation images, in batches that alternate with the training batches: "
                "give data.alternating_batch_size=16, or another number of images."
            )
        self.num_images = info.num_images
        towers = ((clip.text_blocks, clip.text_width), (clip.image_blocks, clip.image_width))
        draws: Any = (torch.rand, torch.randn) if self.paper_init else (lambda *size: STD * torch.randn(*size),) * 2
        self.text_options, self.image_options = (  # by block, then by length; (m,D) each
            nn.ModuleList(nn.ParameterDict({str(n): draw(n, width) for n in self.lengths if n}) for _ in range(blocks))
            for draw, (blocks, width) in zip(draws, towers, strict=True)
        )
        self.text_alphas, self.image_alphas = (  # (L,t)
            nn.Parameter(1e-3 * torch.randn(blocks, len(self.lengths))) for blocks, _ in towers
        )

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the fixed text."""
        self.plan = fixed_plan(clip, classnames, self.template)

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        """All options of each text block, weighted."""
        return _mixed(self.text_options, self.text_alphas, self.lengths)

    def image_prompts(self) -> TowerPrompts:
        """All options of each image block, weighted."""
        return _mixed(self.image_options, self.image_alphas, self.lengths)

    # ---------------------------------------------------------------- training

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Cross-entropy; validation images are those whose index is beyond the training list."""
        self.first_index = arriving(index[0])
        return super().losses(out, labels, index)

    @property
    def alphas(self) -> list[nn.Parameter]:
        """The alphas of the text tower and of the image tower, (L,t) each."""
        return [self.text_alphas, self.image_alphas]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The prompts follow `optim`; the alphas have an Adam of constant rate."""
        adam = partial(torch.optim.Adam, lr=self.alpha_lr, betas=(0.5, 0.999), weight_decay=0.0)
        options = [*self.text_options.parameters(), *self.image_options.parameters()]
        return [{"params": options}, {"params": self.alphas, "optimizer": adam, "scheduled": False}]

    def before_step(self) -> None:
        """Drops the gradients of the prompts in a validation batch and those of the alphas in a training batch (first-order
        alternating optimisation)."""
        alphas, on_alphas = {id(p) for p in self.alphas}, self.first_index() >= self.num_images
        for p in self.parameters():
            if (id(p) in alphas) != on_alphas:
                p.grad = None

    # ---------------------------------------------------------------- the result of the search

    def configuration(self) -> dict[str, Any]:
        """The content of dpl.json: the options, the chosen length of every block, and the alphas, as plain lists by tower."""
        alphas = {"text": self.text_alphas.tolist(), "image": self.image_alphas.tolist()}
        lengths = {tower: [most_weighted(row, self.lengths) for row in rows] for tower, rows in alphas.items()}
        return {"options": self.lengths, **lengths, "alphas": alphas}

    def artifacts(self, folder: Path) -> list[Path]:
        """`dpl.json` and its picture."""
        return write_lengths(self.configuration(), folder)


def most_weighted(alphas: Sequence[float], lengths: Sequence[int]) -> int:
    """The length of the largest alpha; of equal ones the smallest length."""
    return min(n for n, alpha in zip(lengths, alphas, strict=True) if alpha == max(alphas))


def _options(lengths: Sequence[int]) -> list[int]:
    options = list(lengths)
    if not all(type(n) is int and n >= 0 for n in options) or len(set(options)) != len(options) or len(options) < 2:
        raise ValueError(f"method.lengths={options} must be two or more different numbers of prompts, such as [0,2,4,6].")
    return sorted(options)


def _mixed(options: Any, alphas: Tensor, lengths: Sequence[int]) -> TowerPrompts:
    weights = alphas.float().softmax(-1)  # (L,t)
    extra = {}
    for i, rows in enumerate(options):
        none = next(iter(rows.values())).new_zeros(0, next(iter(rows.values())).shape[-1])
        extra[i] = ExtraKV([rows[str(n)] if n else none for n in lengths], weights[i])
    return TowerPrompts(extra=extra)
