"""The contrastive loss between images and all of their captions, or the captions' means, in place of one drawn caption.

Shapes: B images of a rank, G of all ranks, n the most captions of any image, d width of the shared embedding.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from prompts.engine.sharding import gather_rows, several_ranks

Pairing = Literal["drawn", "all", "mean"]


def mean_caption(captions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (B,1,d) of each image's captions (B,n,d), each of length 1, and whether there is one (B,1)."""
    unit = F.normalize(captions.float(), dim=-1) * mask[..., None]
    return unit.sum(1, keepdim=True) / mask.sum(1).clamp_min(1)[:, None, None], mask.any(1, keepdim=True)


def contrast(query: Tensor, captions: Tensor, mask: Tensor, index: Tensor, scale: Tensor) -> Tensor:
    """(B,) nats: for each image the mean over its captions of half the cross-entropy of image to text, among the captions of
    all ranks' images, and half that of text to image, among these images.

    Args:
        query: (B,d) a vector for each image; gradients flow back to the ranks that the gathered rows come from.
        captions, mask: (B,n,d), and (B,n) which rows are captions. An image without any is no candidate, and its loss is 0.
        index: (B,) positions in the training list: other views of an image are no candidates.
        scale: the factor of the cosines.
    """
    rank, count = dist.get_rank() if several_ranks() else 0, len(query)
    own = torch.arange(rank * count, (rank + 1) * count, device=query.device)
    query, captions = scale * F.normalize(query.float(), dim=-1), F.normalize(captions.float(), dim=-1)
    queries_G, captions_G, mask_G, index_G = (gather_rows(part) for part in (query, captions, mask.long(), index))
    is_own = own[:, None] == torch.arange(len(index_G), device=query.device)  # (B,G)
    candidate = (index[:, None] != index_G) & (mask_G > 0).any(1) | is_own
    to_texts = torch.einsum("bd,gnd->bgn", query, captions_G)
    allowed = candidate[..., None] & (mask_G > 0) | (is_own & ~mask.any(1, keepdim=True))[..., None]  # else a row may be empty
    to_texts = to_texts.masked_fill(~allowed, -torch.inf).flatten(1).log_softmax(1).unflatten(1, mask_G.shape)
    to_images = torch.einsum("bnd,gd->bgn", captions, queries_G)
    to_images = to_images.masked_fill(~candidate[..., None], -torch.inf).log_softmax(1)
    of_own = (to_texts + to_images)[torch.arange(count, device=query.device), own]  # (B,n)
    return -of_own.masked_fill(~mask, 0).sum(1) / (2 * mask.sum(1).clamp_min(1))
