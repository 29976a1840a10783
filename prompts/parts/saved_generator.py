"""AAPE's generator h as a finished run left it in its prompts file, which anyone may have made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from files.untrusted import parse_json, regular_file
from prompts.engine.clip import FrozenCLIP

FILE, ABOUT, START = "prompts.safetensors", "about", "h."
FIRST, SECOND = ("linear1.weight", "linear1.bias"), ("linear2.weight", "linear2.bias")
MOST = 2**16  # of a width


@dataclass(frozen=True)
class SavedGenerator:
    """`sizes`: the arguments hidden and bias of `generator`; `state`: its tensors by name, empty where they are loaded later;
    `backbone`: the identity of the CLIP that it was trained on."""

    sizes: dict[str, Any]
    state: dict[str, Tensor] = field(default_factory=dict)
    backbone: Any = None
    where: str = ""

    def into(self, h: nn.Module, clip: FrozenCLIP) -> None:
        """Puts the tensors into a generator of these sizes. ValueError where they belong to another CLIP."""
        if not self.state:
            return
        here = dict(clip.identity)
        there = self.backbone if isinstance(self.backbone, dict) else {}
        if differ := [key for key in here if there.get(key) != here[key]]:
            what = "; ".join(f"{key} {str(there.get(key))[:120]!r} there and {here[key]!r} here" for key in differ)
            raise ValueError(f"method.h={self.where} was trained on another CLIP ({what}): train it on this one.")
        h.load_state_dict(self.state)


def read_generator(source: str | Mapping[str, Any]) -> SavedGenerator:
    """The h of a run's folder or of its prompts file; or a mapping with its sizes alone, as the settings of saved prompts hold.

    Raises:
        ValueError: there is no such file, it is damaged, or its tensors are not those of two layers.
    """
    if isinstance(source, Mapping):
        hidden, bias = source.get("hidden"), source.get("bias")
        if set(source) != {"hidden", "bias"} or type(hidden) is not int or not 1 <= hidden <= MOST or type(bias) is not bool:
            raise ValueError(f"method.h={str(dict(source))[:100]}: give the folder of a run of aape_captions.")
        return SavedGenerator({"hidden": hidden, "bias": bias})
    path = Path(os.path.expanduser(source))
    path = path / FILE if os.path.isdir(path) else path
    try:
        regular_file(path, "the prompts file")
        with safe_open(path, framework="pt") as file:
            about = parse_json((file.metadata() or {}).get(ABOUT, "{}"), "what it says about itself")
            state = {name.removeprefix(START): file.get_tensor(name) for name in file.keys() if name.startswith(START)}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"method.h={source}: {str(error).rstrip('.')}: give the folder of a finished run of aape_captions."
        ) from error
    sizes = _sizes(state)
    if sizes is None:
        raise ValueError(f"method.h={source}: {path} holds no h of two layers: give the folder of a run of aape_captions.")
    return SavedGenerator(sizes, state, about.get("backbone") if isinstance(about, dict) else None, str(source))


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The sizes of h, from its tensors; None where they are not the tensors of an h, or are not finite."""
    bias = "linear1.bias" in state
    names = {FIRST[0], SECOND[0], *((FIRST[1], SECOND[1]) if bias else ())}
    if set(state) != names or any(t.dtype != torch.float32 or not t.isfinite().all() for t in state.values()):
        return None
    down, up = state[FIRST[0]], state[SECOND[0]]
    if down.dim() != 2 or up.shape != down.shape[::-1] or not 1 <= len(down) <= MOST:
        return None
    if bias and (state[FIRST[1]].shape != down.shape[:1] or state[SECOND[1]].shape != up.shape[:1]):
        return None
    return {"hidden": len(down), "bias": bias}
