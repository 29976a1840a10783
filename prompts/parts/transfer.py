"""Prompts of one method as the start of another.

Tensors are matched by what they are, and their names say that: `ctx` is a context at the text tower's input, `text_ctx.J` and
`image_ctx.J` are the rows of block J (0: the input), with `.q`, `.k`, `.v` behind it where the streams differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from prompts.prompted_clip import PromptedCLIP


class Place(NamedTuple):
    tower: str
    block: int


def place_of(name: str) -> tuple[Place, str] | None:
    """Where the tensor of this name stands, and its stream ("" for all three); None where it is no prompt's rows."""
    if name == "ctx":
        return Place("text", 0), ""
    if match := re.fullmatch(r"(text|image)_ctx\.(\d+)(?:\.([qkv]))?", name):
        return Place(match[1], int(match[2])), match[3] or ""
    if match := re.fullmatch(r"compound_prompts_text\.(\d+)", name):  # MaPLe counts its deep prompts from the second block
        return Place("text", int(match[1]) + 1), ""
    return None


def rows_for(stream: str, given: Mapping[str, Tensor]) -> Tensor:
    """What a stream ("": all three in one) starts from, of a place's streams.

    One token for all three takes the mean of keys and values, as queries of replaced prompts have hardly any effect. A query
    of its own takes the keys where there is none, as `qkv_share=kv_only` does.
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
    """Copies the rows that `tensors` (another method's, or this one's, by name) hold for this learner's prompts, and tensors of
    equal name and shape -> the names that got a value. ValueError where a shape disagrees or nothing fits."""
    source: dict[Place, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if found := place_of(name):
            source.setdefault(found[0], {})[found[1]] = tensor
    own, _ = model.prompt_state()
    taken = {}
    for name, here in own.items():
        found = place_of(name)
        if found and found[0] in source:
            rows = rows_for(found[1], source[found[0]])
            if here.dim() == 3 and rows.dim() == 2:  # every class's own context starts from the common one
                rows = rows.expand(len(here), -1, -1)
            if rows.shape != here.shape:
                raise ValueError(
                    f"init_from holds {tuple(rows.shape)} rows where {name} has {tuple(here.shape)}: configure as many prompt "
                    "tokens as it was trained with, and the same clip."
                )
            taken[name] = rows
        elif not found and name in tensors and tensors[name].shape == here.shape:
            taken[name] = tensors[name]
    if not any(place_of(name) for name in taken):
        raise ValueError(
            f"init_from holds nothing that {type(model.learner).__name__} could start from: it has "
            f"{', '.join(sorted(tensors)[:4])}, this method {', '.join(sorted(own)[:4]) or 'no tensors'}."
        )
    model.load_prompt_state(own | taken, model.prompt_state()[1])
    return sorted(taken)
