"""Zero-shot CLIP (Radford et al. 2021, section 3.1.4): one hand-written template, or the mean of several.

Per-template features are normalised, averaged, and normalised again by the logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.engine.clip import IMAGENET_TEMPLATES, FrozenCLIP
from prompts.engine.text_plan import TextPlan
from prompts.learner import GradientFree
from prompts.parts.context import fixed_plan

# the seven templates that OpenAI selected for ImageNet, in the order of CoOp's ensemble baseline
SELECTED_TEMPLATES = [
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
]


class ZeroShot(GradientFree):
    """`templates`: "single" (a photo of a {}.), "dataset" (those of the dataset), "selected" (the seven above and those of the
    dataset, CoOp's ensemble; ImageNet has the seven only), "imagenet80" (OpenAI's 80), or a list of templates.

    `dataset_templates` are those of the dataset, `dataset` is its name.
    """

    def __init__(
        self,
        templates: str | Sequence[str] = "dataset",
        dataset_templates: Sequence[str] = ("a photo of a {}.",),
        dataset: str = "",
    ):
        super().__init__()
        extra = [] if dataset == "imagenet" else list(dataset_templates)
        named = {
            "single": ["a photo of a {}."],
            "dataset": list(dataset_templates),
            "selected": SELECTED_TEMPLATES + extra,
            "imagenet80": IMAGENET_TEMPLATES,
        }
        if isinstance(templates, str) and templates not in named:
            raise ValueError(
                f"method.templates={templates!r} is none of {', '.join(named)}, nor a list of templates with a {{}}."
            )
        self.templates = named[templates] if isinstance(templates, str) else list(templates)
        if not self.templates:
            raise ValueError("zero-shot CLIP needs at least one template: set method.templates.")
        self.plans: list[TextPlan] = []

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the text of every template."""
        self.plans = [fixed_plan(clip, classnames, template) for template in self.templates]

    def encode_text(self, clip: FrozenCLIP, image: Tensor, classes: Tensor | None = None) -> Tensor:
        """(C,d), or (K,d) of the classes with these ids: the mean over templates of normalised features."""
        return torch.stack([F.normalize(clip.encode_text(plan, classes=classes), dim=-1) for plan in self.plans]).mean(0)
