"""AAPE (Huang et al., NeurIPS 2024, arXiv 2410.23698): prompts made from the image, learned from a language model's sentences.

In training an aggregator summarises the reference prompts of an image's class in a vector close to the image, and a generator
h learns to predict that vector from the image alone. Only h and the head g are saved: an evaluation needs no label, no prompt
file and no aggregator. A reconstruction, as no code was published: docs/aape.md says which defaults are the paper's.

Shapes: B images, C classes, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.sending import send
from prompts.learner import Outputs, PromptLearner, TrainInfo
from prompts.parts.aape_aggregator import PromptAggregator, ReferenceBank, Space, clip_reward, distance
from prompts.parts.aape_head import BottleneckHead, LinearHead, generator
from prompts.parts.context import fixed_plan
from prompts.parts.prompt_folders import file_of
from prompts.parts.reference_prompts import Prompts, encode_prompts, load_reference_prompts
from prompts.parts.settings import check_at_least, check_choice

Head = Literal["bottleneck", "linear_relu", "h_only"]
Schedule = Literal["joint", "two_stage"]
AggregatorOptimizer = Literal["adamw", "configured"]


class AAPE(PromptLearner):
    """The text of a class for an image is g([w; h(x)]), w being CLIP's feature of `template`.

    Args:
        prompts: file of reference prompts, folder of the published files, or {class name: sentences}; only training reads it.
        dataset: its name chooses a file of the folder, see `prompts.parts.prompt_folders`.
        prompts_per_query, dedup, aliases, fallback: see `load_reference_prompts`.
        unit_prompts: reference prompts have length 1 before they are averaged and attended to.
        aggregator: makes the aggregator from (d, images, classes).
        head: bottleneck or linear_relu; h_only has none and classifies h(x) instead of the image (appendix B.2).
        hidden: width of h and of the bottleneck; null: d / 16.
        residual: the head adds to the class's own text feature.
        norm_h: h(x) has length 1 in the head.
        distill_weight: lambda of the loss. With 0 there are neither reference prompts nor an aggregator.
        distill_space: unit compares directions; raw, the vectors as they are.
        detach: no gradient of the distillation flows into the aggregator.
        reward_scale: the factor of CLIPScore, which the aggregator maximises.
        schedule: joint, or two_stage: first the aggregator alone for `aggregator_share` of the epochs, then h and g with the
            aggregator fixed.
        aggregator_optimizer: adamw, or configured: the one of h and g.

    Raises:
        ValueError: an unknown choice; from `setup`: prompts that are absent, not in the format or lack classes.
    """

    training_only = ("aggregator.",)
    takes_captions = False  # reference prompts are of the training classes

    def __init__(
        self,
        prompts: str | Path | Prompts | None = None,
        dataset: str | None = None,
        prompts_per_query: int | None = None,
        dedup: bool = False,
        aliases: Mapping[str, str] | None = None,
        fallback: str | None = None,
        unit_prompts: bool = True,
        aggregator: Callable[[int, int, int], PromptAggregator] = PromptAggregator,
        template: str = "a photo of a {}.",
        head: Head = "bottleneck",
        hidden: int | None = None,
        h_bias: bool = True,
        g_bias: bool = False,
        residual: bool = False,
        norm_h: bool = False,
        distill_weight: float = 5.0,
        distill_space: Space = "unit",
        detach: bool = True,
        reward_scale: float = 2.5,
        schedule: Schedule = "joint",
        aggregator_share: float = 0.5,
        aggregator_optimizer: AggregatorOptimizer = "adamw",
        aggregator_lr: float = 1e-3,
    ):
        super().__init__()
        check_choice("head", head, Head)
        check_choice("distill_space", distill_space, Space)
        check_choice("schedule", schedule, Schedule)
        check_choice("aggregator_optimizer", aggregator_optimizer, AggregatorOptimizer)
        if hidden is not None and hidden < 1:
            raise ValueError(f"method.hidden={hidden}: give a width of 1 or more, or null for a sixteenth of the embedding's.")
        if prompts_per_query is not None and prompts_per_query < 1:
            raise ValueError(f"method.prompts_per_query={prompts_per_query}: give a number, 1 or more, or null for all.")
        check_at_least(0, aggregator_lr=aggregator_lr, reward_scale=reward_scale, distill_weight=distill_weight)
        if schedule == "two_stage" and not (detach and 0 < aggregator_share < 1):
            raise ValueError(
                "method.schedule=two_stage fixes the aggregator before h learns: it needs method.detach=true and "
                f"0 < method.aggregator_share < 1, not {aggregator_share}."
            )
        self.prompts, self.dataset, self.unit_prompts, self.make_aggregator = prompts, dataset, unit_prompts, aggregator
        self.prompt_options: dict[str, Any] = {
            "aliases": aliases,
            "fallback": fallback,
            "dedup": dedup,
            "per_query": prompts_per_query,
        }
        self.template, self.head, self.hidden, self.residual = template, head, hidden, residual
        self.h_bias, self.g_bias, self.norm_h = h_bias, g_bias, norm_h
        self.distill_weight, self.distill_space, self.detach = distill_weight, distill_space, detach
        self.reward_scale, self.schedule, self.aggregator_share = reward_scale, schedule, aggregator_share
        self.aggregator_optimizer, self.aggregator_lr = aggregator_optimizer, aggregator_lr
        self.g: BottleneckHead | LinearHead | None = None
        self.aggregator: PromptAggregator | None = None
        self.step_seed = 0

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes h and g and, for training with distillation, encodes the reference prompts and makes the aggregator."""
        d = clip.embed_dim
        hidden = self.hidden or max(1, d // 16)
        self.h = generator(d, hidden, self.h_bias)
        if self.head == "bottleneck":
            self.g = BottleneckHead(d, hidden, self.g_bias, self.residual)
        elif self.head == "linear_relu":
            self.g = LinearHead(d, self.g_bias, self.residual)
        if not info.fit or not self.distill_weight:
            return
        self.bank = self.reference_bank(clip, info.classnames)
        self.images = info.num_images
        self.aggregator = self.make_aggregator(d, self.images, len(info.classnames))

    def reference_bank(self, clip: FrozenCLIP, classnames: Sequence[str]) -> ReferenceBank:
        """The encoded reference prompts of these classes. ValueError where there are none, or not for all classes."""
        if self.prompts is None:
            raise ValueError(
                "AAPE learns from reference prompts: name a file with method.prompts=PATH (docs/aape.md says where to "
                "get one), or train without them by method.distill_weight=0."
            )
        lists = load_reference_prompts(file_of(self.prompts, self.dataset), classnames, **self.prompt_options)
        return ReferenceBank(*encode_prompts(clip, lists), self.unit_prompts)

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the fixed text."""
        self.plan = fixed_plan(clip, classnames, self.template)

    def sample(self, labels: Tensor, batch_index: Tensor, seed: int) -> None:
        """All classes; keeps the seed for `draws`."""
        self.step_seed = seed

    def logits(self, clip: FrozenCLIP, image: Tensor, text: Tensor) -> Tensor:
        """(B,C): the scaled cosines of the images and g."""
        with torch.autocast(image.device.type, enabled=False):
            x, w = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
            h = self.h(x)
            if self.g is None:
                return clip.logits(h, w)
            h = F.normalize(h, dim=-1) if self.norm_h else h
            return clip.logit_scale * self.g.cosine(x, w, h)

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Cross-entropy; in training also the aggregator's reward, negated, and the distance of h(x) to its summary."""
        losses = super().losses(out, labels, index)
        if self.aggregator is None:
            return losses
        with torch.autocast(out.image_features.device.type, enabled=False):
            x = F.normalize(out.image_features.float(), dim=-1)
            draws = self.draws(index) if self.aggregator.kind == "random" else None
            summary = self.aggregator(self.bank, labels, index, x, draws)
            if summary.requires_grad:  # the aggregators mean and random have no parameters
                losses["reward"] = -clip_reward(x, summary, self.reward_scale)
            target = summary.detach() if self.detach else summary
            losses["distill"] = self.distill_weight * self.distance(self.h(x), target)
        return losses

    def distance(self, h: Tensor, target: Tensor) -> Tensor:
        """(B,) squared Euclidean distances of h(x) (B,d) and the summary (B,d)."""
        return distance(h, target, self.distill_space)

    def joint_vectors(
        self, clip: FrozenCLIP, image: Tensor, classnames: Sequence[str]
    ) -> Iterator[tuple[str, Literal["image", "class"], Tensor]]:
        """h(x), and the mean reference prompts of the classes where reference prompts are given."""
        yield "h(x)", "image", self.h(F.normalize(image.float(), dim=-1))
        if self.prompts is not None:
            yield "mean reference prompts", "class", self.reference_bank(clip, classnames).mean

    def draws(self, index: Tensor) -> Tensor:
        """Random numbers (B,) in [0, 1), which depend on the step and the image alone, and not on the number of ranks."""
        generator = torch.Generator().manual_seed(self.step_seed)
        return send(torch.rand(self.images, generator=generator), index.device)[index]

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters of h and g, which an evaluation needs."""
        return [p for part in (self.h, self.g) if part is not None for p in part.parameters()]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """h and g follow `optim`; the aggregator has a rate and a span, and by default an optimiser, of its own."""
        head: dict[str, Any] = {"params": self.head_parameters()}
        if self.aggregator is None or not list(self.aggregator.parameters()):
            return [head]
        aggregator: dict[str, Any] = {"params": list(self.aggregator.parameters()), "lr": self.aggregator_lr}
        if self.aggregator_optimizer == "adamw":
            aggregator["optimizer"] = torch.optim.AdamW
        if self.schedule == "two_stage":
            head["span"], aggregator["span"] = (self.aggregator_share, 1.0), (0.0, self.aggregator_share)
        return [head, aggregator]

    def effective_parameters(self) -> int:
        """The parameters of h and g; no logit depends on the aggregator."""
        return sum(p.numel() for p in self.head_parameters())
