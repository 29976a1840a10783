"""The error message for a loss that is not finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from datamodules.known_features import IMAGE


def why_not_finite(
    where: str,
    losses: Mapping[str, Tensor],
    outputs: Tensor,
    batch: Mapping[str, Tensor],
    trainable: Mapping[str, Tensor],
    what_to_lower: str,
) -> str:
    """One sentence on why the sum of these losses is NaN or infinite.

    Args:
        where: the epoch and step.
        losses: scalars by name.
        outputs: the tensor that the losses are computed from, such as logits (B,C).
        trainable: the trained tensors, by name.
        what_to_lower: the advice for numbers that overflow, such as "lower optim.lr".
    """
    bad = [name for name, loss in losses.items() if not torch.isfinite(loss)]
    broken = [name for name, tensor in trainable.items() if not torch.isfinite(tensor).all()]
    if IMAGE in batch and not torch.isfinite(batch[IMAGE]).all():
        cause = f"an image is not finite (one of training indices {batch['index'].tolist()}): check the transform"
    elif broken:
        cause = f"the prompts are not finite any more ({', '.join(broken)}): lower optim.lr"
    elif not torch.isfinite(outputs).all():
        cause = f"the logits are not: {what_to_lower}"
    else:
        cause = "the logits are finite, so the fault is in this loss term itself"
    return f"the loss is not finite in {where} ({', '.join(bad) or 'their sum'}): {cause}."
