"""LiMBeR (Merullo et al., ICLR 2023, arXiv 2209.15162): a linear map from a frozen CLIP's image positions into the embedding
space of a frozen language model; and AAPE's h(x) beside it (Huang et al., NeurIPS 2024, arXiv 2410.23698, section 4), through a
linear map of its own. docs/language_models.md says what is published and what is inferred.

Shapes: B images, n rows of a prefix, D width of the image positions, d width of the shared embedding, `width` of the language
model's embedding space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.learner import PromptLearner, TrainInfo
from prompts.parts.aape_head import generator
from prompts.parts.caption_summary import CaptionSummary, MakeAggregator, shared_query
from prompts.parts.saved_generator import SavedGenerator, read_generator
from prompts.parts.settings import check_at_least, check_choice

Position = Literal["after", "before"]


@dataclass(frozen=True)
class Prefix:
    """The prefixes of images for a language model, float32.

    `rows` (B,n,width) in its embedding space; `image` (B,d) CLIP's un-normalised features; `h` (B,d) h(x), where there is one.
    """

    rows: Tensor
    image: Tensor
    h: Tensor | None = None


class LiMBeR(PromptLearner):
    """A prefix with a row for each position of an image, and some rows for h(x).

    Args:
        h: a finished run of aape_captions, whose h is used; None: the image's positions alone. For saved prompts the sizes of
            h.
        train_h: h is trained further, by the task's loss and by the distillation from the image's captions; else it is frozen.
        position: whether the rows of h(x) come after or before those of the image.
        tokens: how many rows are made of h(x).
        dropout: rate of the dropout of the image's rows, in training.
        distill_weight: with `train_h`, the weight of the distance of h(x) to the summary of the image's captions. With 0 no
            captions are read.
        aggregator: makes the aggregator of the captions from (d, images, classes).
        aggregator_lr: its rate; AdamW trains it.

    Raises:
        ValueError: a value out of range, `train_h` without h; from `setup`: no language model, or an h of another CLIP; from
            `prefix_losses`: an image without captions to learn from.
    """

    offers = ("a prefix for a language model",)
    training_only = ("summary.",)

    def __init__(
        self,
        h: str | Mapping[str, Any] | None = None,
        train_h: bool = False,
        position: Position = "after",
        tokens: int = 1,
        dropout: float = 0.1,
        distill_weight: float = 5.0,
        aggregator: MakeAggregator = shared_query,
        aggregator_lr: float = 1e-3,
    ):
        super().__init__()
        check_choice("position", position, Position)
        check_at_least(1, tokens=tokens)
        check_at_least(0, distill_weight=distill_weight, aggregator_lr=aggregator_lr)
        if not 0 <= dropout < 1:
            raise ValueError(f"method.dropout={dropout}: give a share from 0 to below 1.")
        if train_h and not h:
            raise ValueError(
                "method.train_h=true trains h(x), and method.h is null: give the folder of a run of aape_captions."
            )
        self.of_h: SavedGenerator | None = read_generator(h) if h else None
        self.found_settings = {"h": self.of_h.sizes} if self.of_h else {}
        self.train_h, self.position, self.tokens, self.dropout = train_h, position, tokens, dropout
        self.distill_weight, self.make_aggregator, self.aggregator_lr = distill_weight, aggregator, aggregator_lr
        self.wants_captions = train_h and distill_weight > 0
        self.h: nn.Sequential | None = None
        self.summary: CaptionSummary | None = None

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes the maps, h with its saved tensors and, where h is trained further, the aggregator of captions."""
        if info.prefix_width is None:
            raise ValueError("LiMBeR makes a prefix for a language model, and this run has none: choose one by lm=NAME.")
        size = clip.image_spec["size"]
        with torch.no_grad():
            width = clip.encode_dense(torch.zeros(1, 3, size, size, device=clip.device), [-1]).maps[-1].shape[1]
        self.image_map = nn.Linear(width, info.prefix_width)
        if self.of_h is None:
            return
        self.h = generator(clip.embed_dim, **self.of_h.sizes).requires_grad_(self.train_h)
        self.of_h.into(self.h, clip)
        self.h_map = nn.Linear(clip.embed_dim, self.tokens * info.prefix_width)
        if info.fit and self.wants_captions:
            self.summary = CaptionSummary(clip.embed_dim, info.num_images, self.make_aggregator)

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Does nothing: no text is encoded by CLIP."""

    def prefix(self, clip: FrozenCLIP, pixels: Tensor, index: Tensor | None = None, seed: int = 0) -> Prefix:
        """The prefixes of images (B,3,S,S), uint8 or normalised.

        Args:
            index: (B,) the images' positions in the training list. In training the dropout of an image depends on this and on
                `seed` alone; without it on its place in the batch.
        """
        with torch.no_grad():
            dense = clip.encode_dense(pixels, [-1])
        with torch.autocast(pixels.device.type, enabled=False):
            rows = self.image_map(dense.maps[-1].float().flatten(2).transpose(1, 2))
            if self.training and self.dropout:
                rows = rows * self.kept(rows, range(len(rows)) if index is None else index.tolist(), seed)
            if self.h is None:
                return Prefix(rows, dense.pooled)
            h = self.h(F.normalize(dense.pooled.float(), dim=-1))
            # h(x) was trained for its direction alone; its length is set to that of a vector of d ones
            of_h = self.h_map(F.normalize(h, dim=-1) * h.shape[-1] ** 0.5).unflatten(-1, (self.tokens, -1))
            parts = [rows, of_h] if self.position == "after" else [of_h, rows]
            return Prefix(torch.cat(parts, 1), dense.pooled, h)

    def kept(self, rows: Tensor, index: Sequence[int], seed: int) -> Tensor:
        """The factors (B,n,width) of dropout, 0 or 1 / (1 - dropout), drawn for each image separately, so that they do not
        depend on the rank."""
        factors = torch.empty(rows.shape)
        for image, factor in zip(index, factors, strict=True):
            draw = torch.Generator().manual_seed((seed * 1_000_003 + int(image)) % 2**63)
            factor.bernoulli_(1 - self.dropout, generator=draw)
        return factors.to(rows.device) / (1 - self.dropout)

    def prefix_losses(
        self, clip: FrozenCLIP, prefix: Prefix, captions: Tensor | None, mask: Tensor | None
    ) -> dict[str, Tensor]:
        """The losses beside the language model's, each (B,): where h learns, its distance to the summary of the image's
        captions, weighted, and the summary's reward, negated.

        Args:
            captions, mask: (B,n,d) un-normalised features by the frozen CLIP of each image's captions, and (B,n) which of the
                rows are captions. Only where `wants_captions`.
        """
        if self.summary is None:
            return {}
        if captions is None:
            raise ValueError(
                "method.train_h=true learns from the captions of the training images, and there are none here: give images "
                "with captions, or method.distill_weight=0."
            )
        losses = self.summary.losses(prefix.image, prefix.h, captions, mask)
        return losses | {"distill": self.distill_weight * losses["distill"]}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The maps, and h where it learns, follow `optim`; the aggregator has AdamW and a rate of its own."""
        of_summary = list(self.summary.parameters()) if self.summary else []
        own = {id(p) for p in of_summary}
        groups: list[dict[str, Any]] = [{"params": [p for p in self.parameters() if p.requires_grad and id(p) not in own]}]
        if of_summary:
            groups.append({"params": of_summary, "lr": self.aggregator_lr, "optimizer": torch.optim.AdamW})
        return groups

    def effective_parameters(self) -> int:
        """The parameters that the prefix depends on, without the aggregator's."""
        return sum(p.numel() for group in self.parameter_groups()[:1] for p in group["params"])
