"""DPL, differentiable prompt learning (IJCAI 2025, arXiv 2501.00457): prompts of the lengths that a search found for each block
(`prompts.dpl_search`), trained from scratch.

Prompts are keys and values only: they have no queries, so no block passes them on.

Shapes: m rows of a block, C classes, D width of the tower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import ExtraKV, TowerPrompts
from prompts.learner import Outputs, PromptLearner, TrainInfo, TrainingHooks
from prompts.parts.context import STD, fixed_plan, needs_text_blocks, needs_vit
from prompts.parts.dpl_text import text_template
from prompts.parts.prompt_lengths import PromptLengths, read_search
from prompts.parts.search_files import write_lengths
from prompts.parts.settings import check_at_least
from prompts.parts.teacher import SIXTY_TEMPLATES, Teacher, divergence


class DPL(PromptLearner, TrainingHooks):
    """Prompts of the lengths that a finished search chose.

    Args:
        prompt_lengths: those of a search: a dpl.json, its folder, or {"text": [...], "image": [...]}. Where all are 0 there
            is nothing to train and the result is zero-shot CLIP.
        template: the text, "{}" standing for the class name.
        custom_templates: the released code's text for the dataset called `dataset` (conf/data) instead of `template`.
        kd_weight: weight of KL(zero-shot || prompted), by the number of classes as in the released code. 0 needs no teacher.
        teacher_templates: the zero-shot text is the mean of their features; None: the released code's 60.
        teacher: builds the CLIP that makes the zero-shot predictions; None, or a mapping without `_target_`: the CLIP that is
            prompted.

    Raises:
        ValueError: no lengths, or ones that cannot be read; a negative weight; no released text for the dataset; from
            `setup`: lengths of another backbone.
    """

    visual_prompts = True

    def __init__(
        self,
        prompt_lengths: str | Mapping[str, Any] | None = None,
        template: str = "a photo of a {}.",
        custom_templates: bool = False,
        dataset: str = "",
        kd_weight: float = 0.0,
        teacher_templates: Sequence[str] | None = None,
        teacher: Callable[[], FrozenCLIP] | Mapping[str, bool] | None = None,
    ):
        super().__init__()
        if not prompt_lengths:
            raise ValueError(
                "DPL trains prompts of the lengths that a search found, and method.prompt_lengths is null: give the folder of "
                "a finished method=dpl_search run, or its dpl.json."
            )
        check_at_least(0, kd_weight=kd_weight)
        self.template, self.kd_weight = text_template(template, custom_templates, dataset), kd_weight
        templates = SIXTY_TEMPLATES if teacher_templates is None else teacher_templates
        self.teacher = Teacher(templates, teacher if callable(teacher) else None) if kd_weight else None
        self.content = read_search(prompt_lengths)  # of the dpl.json, written again beside the prompts
        self.lengths = PromptLengths(self.content["text"], self.content["image"])
        self.found_settings = self.lengths.settings
        self.uses_gradients = any(self.lengths.text + self.lengths.image)

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes the prompts of the blocks that have some."""
        needs_vit(clip, "DPL")
        needs_text_blocks(clip, "DPL")
        self.lengths.check(clip)
        self.text_ctx, self.image_ctx = (  # by block, those without prompts left out; (m,D) each
            nn.ParameterDict({str(i): STD * torch.randn(n, width) for i, n in enumerate(lengths) if n})
            for lengths, width in ((self.lengths.text, clip.text_width), (self.lengths.image, clip.image_width))
        )

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the fixed text, for the teacher too."""
        self.plan = fixed_plan(clip, classnames, self.template)
        if self.teacher:
            self.teacher.bind(clip, classnames)

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        """The keys and values of each text block."""
        return _extra(self.text_ctx)

    def image_prompts(self) -> TowerPrompts:
        """The keys and values of each image block."""
        return _extra(self.image_ctx)

    def image_teacher(self) -> Teacher | None:
        """The frozen CLIP, where it is used."""
        return self.teacher

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Cross-entropy and, with `kd_weight`, the distillation from zero-shot CLIP."""
        losses = super().losses(out, labels, index)
        if self.teacher:
            teacher = self.teacher.logits(self.teacher.image_of(out))
            losses["kd"] = self.kd_weight * divergence(out.logits, teacher) / teacher.shape[-1]
        return losses

    def artifacts(self, folder: Path) -> list[Path]:
        """The `dpl.json` that was trained and, where the alphas are known, their picture."""
        return write_lengths(self.content, folder)


def _extra(rows: nn.ParameterDict) -> TowerPrompts:
    return TowerPrompts(extra={int(block): ExtraKV([prompts]) for block, prompts in rows.items()})
