"""AAPE's summary of an image's captions (arXiv 2410.23698): the aggregator, with the image's own captions in place of a class's
reference prompts, and the distance of h(x) to the summary. Used by the methods that train h on captioned images.

Shapes: B images, n the most captions of any of them, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompts.parts.aape_aggregator import PromptAggregator, ReferenceBank, Space, clip_reward, distance
from prompts.parts.settings import check_at_least, check_choice

MakeAggregator = Callable[[int, int, int], PromptAggregator]
shared_query: MakeAggregator = partial(PromptAggregator, query="shared")


class CaptionSummary(nn.Module):
    """The aggregator of an image's captions with its two losses. Only training needs it.

    Args:
        d, images: width, and number of training images.
        make_aggregator: makes the aggregator from (d, images, classes). As the captions are the image's own, one learned query
            vector for all images is enough.
        unit_captions: captions have length 1 before they are averaged and attended to.
        distill_space: unit compares directions; raw, the vectors as they are.
        detach: no gradient of the distillation flows into the aggregator.
        reward_scale: of CLIPScore, which the aggregator maximises.

    Raises:
        ValueError: an unknown choice, a negative scale, or a query per class, as captioned images have no classes.
    """

    def __init__(
        self,
        d: int,
        images: int,
        make_aggregator: MakeAggregator = shared_query,
        unit_captions: bool = True,
        distill_space: Space = "unit",
        detach: bool = True,
        reward_scale: float = 2.5,
    ):
        super().__init__()
        check_choice("distill_space", distill_space, Space)
        check_at_least(0, reward_scale=reward_scale)
        self.aggregator = make_aggregator(d, images, 1)
        if self.aggregator.query == "per_class":
            raise ValueError(
                "method.aggregator.query=per_class: images with captions of their own have no classes; choose shared, "
                "per_image, image_conditioned or mean."
            )
        self.images, self.unit_captions, self.space = images, unit_captions, distill_space
        self.detach, self.scale = detach, reward_scale

    def forward(self, x: Tensor, captions: Tensor, mask: Tensor, index: Tensor | None = None) -> Tensor:
        """The summaries (B,d).

        Args:
            x: (B,d) images.
            captions, mask: (B,n,d) un-normalised features of each image's captions, and (B,n) which of the rows are captions.
            index: (B,) positions in the training list; needed where each image has a query of its own.

        Raises:
            ValueError: an image has no caption, or `index` is needed.
        """
        if index is None and self.aggregator.kind in ("attention", "weights") and self.aggregator.query == "per_image":
            raise ValueError("method.aggregator.query=per_image needs to know which training image each is: choose shared.")
        if not mask.any(1).all():
            raise ValueError(f"images {(~mask.any(1)).nonzero()[:, 0].tolist()} of this batch have no caption to learn from.")
        own = torch.arange(len(x), device=x.device)  # each image is a class by itself
        index, images = (own, len(x)) if index is None else (index, self.images)
        # for every training image, so that an image's draw does not depend on the rank that has it
        draws = torch.rand(images).to(x.device)[index] if self.aggregator.kind == "random" else None
        bank = ReferenceBank(captions.float(), mask, self.unit_captions)
        return self.aggregator(bank, own, index, F.normalize(x.float(), dim=-1), draws)

    def losses(self, x: Tensor, h: Tensor, captions: Tensor, mask: Tensor, index: Tensor | None = None) -> dict[str, Tensor]:
        """{"reward": the negated reward of the summary, "distill": its squared distance to h(x), without its weight}, each
        (B,). No reward where the aggregator has nothing to learn. The arguments are those of `forward`, and h(x) (B,d)."""
        losses = {}
        with torch.autocast(x.device.type, enabled=False):
            summary = self(x, captions, mask, index)
            if summary.requires_grad:  # the aggregators mean and random have no parameters
                losses["reward"] = -clip_reward(x.float(), summary, self.scale)
            losses["distill"] = distance(h.float(), summary.detach() if self.detach else summary, self.space)
        return losses
