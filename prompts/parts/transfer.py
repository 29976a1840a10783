"""Prompts of one method as the start of another.

Tensors are matched by their names: `ctx` is a context at the text tower's input, `text_ctx.J` and `image_ctx.J` are the rows of
block J (0: the input), followed by `.q`, `.k`, `.v` where queries, keys and values have different rows (streams).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from prompts.prompted_clip import PromptedCLIP


class PromptBlock(NamedTuple):
    """The rows at the input of a block (0: the tower's input)."""

    tower: str
    block: int


def block_of(name: str) -> tuple[PromptBlock, str] | None:
    """The block whose input holds the tensor of this name, and its stream ("" for all three); None for other tensors."""
    if name == "ctx":
        return PromptBlock("text", 0), ""
    if match := re.fullmatch(r"(text|image)_ctx\.(\d+)(?:\.([qkv]))?", name):
        return PromptBlock(match[1], int(match[2])), match[3] or ""
    if match := re.fullmatch(r"compound_prompts_text\.(\d+)", name):  # MaPLe counts its deep prompts from the second block
        return PromptBlock("text", int(match[1]) + 1), ""
    return None


def rows_for(stream: str, given: Mapping[str, Tensor]) -> Tensor:
    """The initial rows (n,D) of a stream ("": one for all three), from the streams (n,D) that the source has for the block.

    One stream for all three takes the mean of keys and values, as queries of replaced prompts have hardly any effect. Queries
    take the keys where the source has none, as `qkv_share=kv_only` does. ValueError where the streams do not fit together.
    """
    if stream in given:
        return given[stream]
    if len(given) == 1:
        return next(iter(given.values()))
    if "k" not in given or (stream == "" and ("v" not in given or given["k"].shape != given["v"].shape)):
        raise ValueError(
            f"init_from holds the streams {', '.join(sorted(given))} of a block, which are not keys and values of one shape: "
            "it is damaged, or was not written here."
        )
    return (given["k"] + given["v"]) / 2 if stream == "" else given["k"]


@torch.no_grad()
def start_from(model: PromptedCLIP, tensors: Mapping[str, Tensor]) -> list[str]:
    """Copies the rows that `tensors` (of this method or another, by name) hold for this learner's prompts, and tensors of equal
    name and shape -> the names that got a value. ValueError where a shape disagrees or nothing fits."""
    source: dict[PromptBlock, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if position := block_of(name):
            block, stream = position
            source.setdefault(block, {})[stream] = tensor
    ours, _ = model.prompt_state()
    copied = {}
    for name, tensor in ours.items():
        position = block_of(name)
        if position and position[0] in source:
            block, stream = position
            rows = rows_for(stream, source[block])
            if tensor.dim() == 3 and rows.dim() == 2:  # all class-specific contexts start from the shared one
                rows = rows.expand(len(tensor), -1, -1)
            if rows.shape != tensor.shape:
                raise ValueError(
                    f"init_from holds {tuple(rows.shape)} rows where {name} has {tuple(tensor.shape)}: configure as many "
                    "prompt tokens as it was trained with, and the same clip."
                )
            copied[name] = rows
        elif not position and name in tensors and tensors[name].shape == tensor.shape:
            copied[name] = tensors[name]
    # prompts, or all that a method of the same tensors has learned
    if not any(block_of(name) for name in copied) and not (copied and copied.keys() == ours.keys() == tensors.keys()):
        raise ValueError(
            f"init_from holds nothing that {type(model.learner).__name__} could start from: it has "
            f"{', '.join(sorted(tensors)[:4])}, this method {', '.join(sorted(ours)[:4]) or 'no tensors'}."
        )
    model.load_prompt_state(ours | copied, model.prompt_state()[1])
    return sorted(copied)
