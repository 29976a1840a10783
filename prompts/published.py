"""Checkpoints of the published implementations (CoOp's, MaPLe's and PromptSRC's repositories): `model.pth.tar-50` and the like.

They are pickles with live scheduler objects inside, which a safe load refuses and an unsafe one would run. This reader rebuilds
tensors and nothing else; any other object becomes an inert blank.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

REBUILDS = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter")}
# the backbone, a frozen teacher, and buffers that belong to the training class list: rebuilt here from CLIP and class names
NOT_LEARNED = re.compile(
    r"(prompt_learner\.)?((train_|test_)?token_(prefix|suffix)|ZS_image_encoder\.)|image_encoder\.|text_encoder\.|logit_scale"
)


class _Blank:
    """Stands for any object that is not a tensor. Takes whatever a pickle does to it, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Blank:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def _ignore(self, *_: Any) -> None: ...

    __setstate__ = __setitem__ = append = extend = add = _ignore


class _TensorsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(module, name) if (module, name) in REBUILDS else _Blank


def read_published(path: Path) -> dict[str, Tensor]:
    """The state dict, float32. ValueError where the file is no such checkpoint."""
    reader = SimpleNamespace(Unpickler=_TensorsOnly, load=lambda file, **_: _TensorsOnly(file).load(), __name__="tensors_only")
    try:
        state = torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)["state_dict"]
        return {name: tensor.float() for name, tensor in state.items() if isinstance(tensor, Tensor)}
    except Exception as error:  # a hostile or torn pickle can fail in any way, and gets no further than here
        raise ValueError(
            f"{path} is neither prompts of this suite nor a published checkpoint with a state_dict ({error}): copy it again."
        ) from error


def learned_tensors(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """A published state dict in our tensors' names. `names` maps patterns of published names to ours (`re` syntax); without a
    match a learner's tensor keeps its name, less the prefix that whole-model checkpoints have."""
    learned = {}
    for name, tensor in state.items():
        for pattern, ours in names.items():
            if found := re.fullmatch(pattern, name):
                learned[found.expand(ours)] = tensor
                break
        else:
            if not NOT_LEARNED.match(name):
                learned[name.removeprefix("prompt_learner.")] = tensor
    return learned
