"""AAPE on images with captions (Huang et al., NeurIPS 2024, arXiv 2410.23698), for retrieval: h(x) replaces the image feature.

In training an aggregator summarises the image's own captions, and h learns to predict the summary from the image alone; the
task adds its contrastive loss between h(x) and captions. There is no head g, and h alone is saved. A reconstruction, as no code
was published: docs/aape.md says which defaults are the paper's.

Shapes: B images, C captions in the place of classes, n the most captions of any image, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.learner import Outputs, PromptLearner, TrainInfo
from prompts.parts.aape_aggregator import Space
from prompts.parts.aape_head import generator
from prompts.parts.caption_pairing import Pairing, contrast, mean_caption
from prompts.parts.caption_summary import CaptionSummary, MakeAggregator, shared_query
from prompts.parts.context import fixed_plan
from prompts.parts.settings import check_at_least, check_choice


class AAPECaptions(PromptLearner):
    """The query of an image is h(x), compared with CLIP's features of `template`.

    Args:
        template: the text that is encoded for a caption, "{}" being the caption.
        hidden: width of h; null: d / 16.
        h_bias: whether its two layers have biases.
        pairing: what an image is paired with in the contrastive loss: one drawn caption, which is the task's own loss; all of
            its captions; or their mean.
        distill_weight: lambda of the loss. With 0 there is no aggregator.
        unit_captions, distill_space, detach, reward_scale: see `CaptionSummary`.
        aggregator: makes the aggregator from (d, images, classes).
        aggregator_lr: its rate; AdamW trains it.

    Raises:
        ValueError: an unknown choice or a number out of range; from `losses`: there are no captions to learn from.
    """

    training_only = ("summary.",)

    scale: Tensor  # CLIP's logit scale, a scalar

    def __init__(
        self,
        template: str = "{}",
        hidden: int | None = None,
        h_bias: bool = True,
        pairing: Pairing = "drawn",
        distill_weight: float = 5.0,
        distill_space: Space = "unit",
        detach: bool = True,
        unit_captions: bool = True,
        reward_scale: float = 2.5,
        aggregator: MakeAggregator = shared_query,
        aggregator_lr: float = 1e-3,
    ):
        super().__init__()
        check_choice("pairing", pairing, Pairing)
        check_choice("distill_space", distill_space, Space)
        check_at_least(1, hidden=hidden)
        check_at_least(0, aggregator_lr=aggregator_lr, reward_scale=reward_scale, distill_weight=distill_weight)
        self.template, self.hidden, self.h_bias = template, hidden, h_bias
        self.pairing, self.distill_weight = pairing, distill_weight
        self.make_aggregator, self.aggregator_lr = aggregator, aggregator_lr
        self.of_summary: dict[str, Any] = {
            "unit_captions": unit_captions,
            "distill_space": distill_space,
            "detach": detach,
            "reward_scale": reward_scale,
        }
        self.wants_captions = bool(distill_weight) or pairing != "drawn"
        self.summary: CaptionSummary | None = None

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes h and, for training with distillation, the aggregator."""
        d = clip.embed_dim
        self.h = generator(d, self.hidden or max(1, d // 16), self.h_bias)
        if not info.fit:
            return
        self.register_buffer("scale", clip.logit_scale.detach().clone(), persistent=False)
        if self.distill_weight:
            self.summary = CaptionSummary(d, info.num_images, self.make_aggregator, **self.of_summary)

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the fixed text."""
        self.plan = fixed_plan(clip, classnames, self.template)

    def query(self, image: Tensor) -> Tensor:
        """h(x) (B,d) of un-normalised image features (B,d)."""
        with torch.autocast(image.device.type, enabled=False):
            return self.h(F.normalize(image.float(), dim=-1))

    def logits(self, clip: FrozenCLIP, image: Tensor, text: Tensor) -> Tensor:
        """(B,C): the scaled cosines of h(x) and the captions."""
        return clip.logits(self.query(image), text)

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Cross-entropy, half of the task's contrastive loss, or all of another pairing's; in training also the aggregator's
        reward, negated, and the distance of h(x) to its summary."""
        if not self.wants_captions:
            return super().losses(out, labels, index)
        if out.captions is None or out.caption_mask is None:
            raise ValueError(
                "method=aape_captions learns from the captions of the training images, and this task gives it none: train it "
                "on images with captions (task=retrieval), or choose method=aape."
            )
        x, captions, mask = out.image_features, out.captions, out.caption_mask
        query = self.query(x)
        if self.pairing == "drawn":
            losses = super().losses(out, labels, index)
        else:
            texts = mean_caption(captions, mask) if self.pairing == "mean" else (captions, mask)
            losses = {"contrast": contrast(query, *texts, index, self.scale)}
        if self.summary is not None:
            counts = mask.any(1, keepdim=True)  # images that do not count have no captions here
            losses |= self.summary.losses(x, query, captions, mask | ~counts, index)
            losses["distill"] = self.distill_weight * losses["distill"]
        return losses

    def joint_vectors(
        self, clip: FrozenCLIP, image: Tensor, classnames: Sequence[str]
    ) -> Iterator[tuple[str, Literal["image", "class"], Tensor]]:
        """h(x)."""
        yield "h(x)", "image", self.query(image)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """h follows `optim`; the aggregator has AdamW and a rate of its own."""
        groups: list[dict[str, Any]] = [{"params": list(self.h.parameters())}]
        if self.summary is not None and (of_summary := list(self.summary.parameters())):
            groups.append({"params": of_summary, "lr": self.aggregator_lr, "optimizer": torch.optim.AdamW})
        return groups

    def effective_parameters(self) -> int:
        """The parameters of h; no logit depends on the aggregator."""
        return sum(p.numel() for p in self.h.parameters())
