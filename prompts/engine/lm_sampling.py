"""Calls of transformers' `generate` with our own settings alone, and with draws that do not depend on the batch.

Shapes: B sequences, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from prompts.engine.language_model import Generation


class GumbelNoise:
    """Adds standard Gumbel noise to scores (B,V): the largest sum is then a draw from their softmax.

    Each sequence has noise of its own, from the seed and its key, so that a draw depends neither on the batch nor on the
    device.
    """

    def __init__(self, seed: int, keys: Sequence[int]):
        self.generators = [torch.Generator().manual_seed(_mixed(seed, key)) for key in keys]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores (B,V) with noise, as a logits processor of transformers'."""
        uniform = torch.stack([torch.rand(scores.shape[1], generator=g, dtype=torch.float64) for g in self.generators])
        noise = -(-uniform.clamp(1e-300, 1 - 1e-16).log()).log()
        return scores.float() + noise.to(scores.device, torch.float32)


def _mixed(seed: int, key: int) -> int:
    """A seed of torch's from two numbers; different for different pairs of numbers below 2**32 and 2**31."""
    return (int(seed) % 2**32) * 2**31 + int(key) % 2**31


def generation_arguments(generation: Generation, end: int, keys: Sequence[int], cache: bool) -> dict[str, Any]:
    """The arguments of transformers' `generate` for a batch.

    A draw is the largest of scores with `GumbelNoise`, behind transformers' own temperature and top-p.

    Args:
        end: the token that ends a text; it also fills up what ended earlier.
        keys: one number per sequence.
        cache: whether keys and values of earlier rows are kept.
    """
    from transformers import GenerationConfig, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

    beams = generation.beams if generation.mode == "beam" else 1
    config = GenerationConfig(
        max_new_tokens=generation.max_tokens,
        do_sample=False,
        num_beams=beams,
        eos_token_id=end,
        pad_token_id=end,
        use_cache=cache,
    )
    arguments: dict[str, Any] = {"generation_config": config}
    if generation.mode == "sample":
        warpers = [TemperatureLogitsWarper(float(generation.temperature)), TopPLogitsWarper(float(generation.top_p))]
        arguments["logits_processor"] = LogitsProcessorList([*warpers, GumbelNoise(generation.seed, keys)])
    return arguments
