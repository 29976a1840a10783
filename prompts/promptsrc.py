"""PromptSRC (Khattak et al., ICCV 2023, section 3): independent deep prompts in both towers, kept close to the frozen CLIP by
three losses (3.2) and averaged over the epochs with Gaussian weights (3.3).

Shapes: B images, C classes, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.ivlp import IVLP
from prompts.learner import Outputs, TrainInfo, TrainingHooks
from prompts.parts.settings import check_at_least
from prompts.parts.teacher import SIXTY_TEMPLATES, Teacher, divergence


def gaussian_weights(epochs: int, mu: float, sigma: float) -> Tensor:
    """(epochs,) float64, summing to 1: for epochs 1, 2, ... proportional to the density of Normal(mu, sigma)."""
    epoch = torch.arange(1, epochs + 1, dtype=torch.float64)
    return (-((epoch - mu) ** 2) / (2 * sigma**2)).softmax(0)


class PromptSRC(IVLP, TrainingHooks):
    """IVLP with the text features (weight `text_weight`), image features (`image_weight`) and predictions (`kl_weight`) of the
    frozen CLIP as targets; `mu` and `sigma`, in epochs, say which epochs the final prompts are averaged over (`sigma` null: the
    last one alone).

    Only the prompts are averaged, in float32; the published code averages the frozen half-precision weights with them.
    """

    training_only = ("averaged",)
    averaged: Tensor  # the weighted sum of the prompts so far, flat
    trains_clip = False  # the CLIP is its own teacher

    def __init__(
        self,
        n_text: int = 4,
        n_image: int = 4,
        depth_text: int = 9,
        depth_image: int = 9,
        init: str | None = "a photo of a",
        text_weight: float = 25.0,
        image_weight: float = 10.0,
        kl_weight: float = 1.0,
        mu: float = 15.0,
        sigma: float | None = 1.0,
        prompt_lengths: str | Mapping[str, Any] | None = None,
    ):
        super().__init__(n_text, n_image, depth_text, depth_image, init, prompt_lengths)
        if not any(self.text_lengths) or not any(self.image_lengths):
            raise ValueError("PromptSRC prompts both towers: set method.n_text and method.n_image to 1 or more.")
        if sigma is not None and sigma <= 0:
            raise ValueError(f"method.sigma={sigma} is no width of a Gaussian: give a number of epochs above 0, or null.")
        check_at_least(0, text_weight=text_weight, image_weight=image_weight, kl_weight=kl_weight)
        self.weights = {"text": text_weight, "image": image_weight, "kl": kl_weight}
        self.mu, self.sigma = mu, sigma
        self.teacher = Teacher(SIXTY_TEMPLATES)

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes the prompts and the buffer of their average."""
        super().setup(clip, info)
        self.register_buffer("averaged", torch.zeros(sum(p.numel() for p in self.parameters())))

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the text, for the teacher too."""
        super().bind(clip, classnames)
        self.teacher.bind(clip, classnames)

    def image_teacher(self) -> Teacher | None:
        """The frozen CLIP, where it is used."""
        return self.teacher

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Cross-entropy and the three weighted distances to the frozen CLIP (3.2)."""
        image, text = self.teacher.image_of(out), self.teacher.text()
        terms = {
            "text": (F.normalize(out.text_features, dim=-1) - text).abs().mean(),
            "image": (F.normalize(out.image_features, dim=-1) - image).abs().mean(-1),
            "kl": divergence(out.logits, self.teacher.logits(image)) / out.logits.shape[-1],
        }
        return super().losses(out, labels, index) | {name: self.weights[name] * term for name, term in terms.items()}

    @torch.no_grad()
    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Adds the epoch's prompts to the average; after the last epoch the prompts become the average (3.3)."""
        if self.sigma is None:
            return
        prompts = list(self.parameters())
        self.averaged += gaussian_weights(epochs, self.mu, self.sigma)[epoch].item() * torch.cat([p.flatten() for p in prompts])
        if epoch + 1 == epochs:
            for prompt, mean in zip(prompts, self.averaged.split([p.numel() for p in prompts]), strict=True):
                prompt.copy_(mean.view_as(prompt))
