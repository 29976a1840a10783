"""Which tensors of a CLIP are trained (`clip.trainable`), and at which share of the learner's rate.

clip.trainable=layer_norm                              both towers, at the learner's rate
clip.trainable={image: all}                            one tower
clip.trainable={image: {last_2_blocks: 0.1, bias: 1}}  parts of a tower, each with the factor of its rate
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

KINDS = "bias, layer_norm, last_N_blocks (such as last_2_blocks) or all"
TOWERS = ("image", "text")
PREFIX = "clip."  # of a trained tensor's name in prompts.safetensors


@dataclass(frozen=True)
class Trained:
    """Tensors of a CLIP that are trained at one rate: `rate` times the learner's."""

    tensors: dict[str, nn.Parameter]  # by their names in the state dict of the open_clip model
    rate: float


def trained_tensors(model: nn.Module, blocks: Mapping[str, Sequence[nn.Module]], trainable: Any) -> list[Trained]:
    """The tensors that `trainable` names, by rate; none for null. A tensor that two parts hold belongs to the first of them.

    Args:
        model: an open_clip model.
        blocks: by tower its blocks, in their order; none where it has none that follow each other.

    Raises:
        ValueError: one sentence, for what is no part of a tower, a part that this tower lacks, or a factor that is no rate.
    """
    named = dict(model.named_parameters())
    taken: set[str] = set()
    groups = []
    for tower, parts in _by_tower(trainable).items():
        of_tower = {name: p for name, p in named.items() if tower_of(name) == tower}
        for part, rate in _rates(parts, tower).items():
            names = _names(part, tower, model, of_tower, blocks[tower])
            groups.append(Trained({name: of_tower[name] for name in of_tower if name in names - taken}, rate))
            taken |= names
    return [group for group in groups if group.tensors]


def tower_of(name: str) -> str | None:
    """The tower ("image" or "text") of a tensor of an open_clip model; None for the temperature, the bias of logits and a text
    decoder, which no feature depends on."""
    if name.startswith(("logit_", "text_decoder.")):
        return None
    return "image" if name.startswith("visual.") else "text"


def _by_tower(trainable: Any) -> dict[str, Any]:
    """The value of `clip.trainable` for each tower."""
    if trainable is None:
        return {}
    if isinstance(trainable, str):
        return dict.fromkeys(TOWERS, trainable)
    if not isinstance(trainable, Mapping) or not trainable:
        raise ValueError(
            f"clip.trainable={trainable!r:.80}: give {KINDS}, a mapping from image or text to one of these, or null."
        )
    if odd := next((key for key in trainable if key not in TOWERS), None):
        raise ValueError(f"clip.trainable has a part {odd!r:.80}: its towers are image and text, as in {{image: layer_norm}}.")
    return {tower: trainable[tower] for tower in TOWERS if trainable.get(tower) is not None}


def _rates(parts: Any, tower: str) -> dict[str, float]:
    """The factor of the rate, by part."""
    if isinstance(parts, str):
        return {parts: 1.0}
    if not isinstance(parts, Mapping) or not parts:
        raise ValueError(
            f"clip.trainable.{tower}={parts!r:.80}: give {KINDS}, or a mapping from these to a factor of the rate."
        )
    for part, rate in parts.items():
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
            raise ValueError(f"clip.trainable.{tower}.{part}={rate!r:.80}: give a factor of the learner's rate, above 0.")
    return dict(parts)


def _names(part: Any, tower: str, model: nn.Module, of_tower: Mapping[str, Tensor], blocks: Sequence[nn.Module]) -> set[str]:
    """The names of a part's tensors. ValueError where there are none."""
    last = re.fullmatch(r"last_(\d{1,4})_blocks?", str(part))
    if part == "all":
        names = set(of_tower)
    elif part == "bias":
        names = {name for name in of_tower if re.search(r"(^|[._])bias$", name)}
    elif part == "layer_norm":
        norms = [m for m in model.modules() if re.search("LayerNorm|RMSNorm", type(m).__name__)]
        names = _of_modules(norms, of_tower)
    elif last:
        if not 1 <= int(last[1]) <= len(blocks):
            has = f"{len(blocks)} blocks" if blocks else "no blocks of one kind; give bias, layer_norm or all"
            raise ValueError(f"clip.trainable.{tower}={part}: this CLIP's {tower} tower has {has}.")
        names = _of_modules(blocks[-int(last[1]) :], of_tower)
    else:
        raise ValueError(f"clip.trainable={part!r:.80} is no part of a tower: give {KINDS}.")
    if not names:
        raise ValueError(f"clip.trainable={part}: this CLIP's {tower} tower has no such tensor; choose another part or tower.")
    return names


def _of_modules(modules: Sequence[nn.Module], of_tower: Mapping[str, Tensor]) -> set[str]:
    """The names of the tower's tensors that the modules hold."""
    held = {id(p) for module in modules for p in module.parameters()}
    return {name for name, p in of_tower.items() if id(p) in held}


def check_fit(tensors: Mapping[str, Tensor], named: Mapping[str, Tensor]) -> None:
    """ValueError for the first of a file's trained tensors that does not fit those of a CLIP, both by name."""
    for name, tensor in tensors.items():
        here = tuple(named[name].shape) if name in named and tower_of(name) else "absent"
        if here != tuple(tensor.shape):
            raise ValueError(
                f"the checkpoint's trained tensor {name[:80]} of the CLIP is {tuple(tensor.shape)} there and {here} here: give "
                "the clip that it was trained on."
            )
        if not tensor.float().isfinite().all():
            raise ValueError(
                f"the checkpoint's trained tensor {name[:80]} of the CLIP holds NaN or infinite numbers: train it again."
            )
