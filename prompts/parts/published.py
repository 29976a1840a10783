"""Checkpoints of the published implementations (CoOp's, MaPLe's and PromptSRC's repositories): `model.pth.tar-50` and the like.

They are pickles with live scheduler objects inside; `prompts.engine.archives` reads their tensors and runs nothing. They do not
say which CLIP they were trained on: only their shapes are checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from files.untrusted import regular_file
from prompts.engine.archives import read_tensors

# left out, as they are rebuilt from CLIP and the class names: the backbone, a frozen teacher, and buffers of the class list
NOT_LEARNED = re.compile(
    r"(prompt_learner\.)?((train_|test_)?token_(prefix|suffix)|ZS_image_encoder\.)|image_encoder\.|text_encoder\.|logit_scale"
)


def read_published(path: Path) -> dict[str, Tensor]:
    """The state dict, float32. ValueError where the file is no such checkpoint."""
    try:
        archive = read_tensors(regular_file(path, "the checkpoint"))
    except ValueError as error:
        raise ValueError(
            f"{path} is neither prompts of this suite nor a published checkpoint with a state_dict ({error}): copy it again."
        ) from error
    if archive.is_script:
        raise ValueError(
            f"{path} is a TorchScript archive, which holds no prompts: give a published checkpoint or saved prompts."
        )
    return {name: tensor.float() for name, tensor in archive.tensors.items()}


def learned_tensors(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """A published state dict in our tensors' names. `names` maps patterns of published names to ours (`re` syntax); without a
    match a learner's tensor keeps its name, less the prefix that whole-model checkpoints have."""
    learned = {}
    for name, tensor in state.items():
        for pattern, ours in names.items():
            if match := re.fullmatch(pattern, name):
                learned[match.expand(ours)] = tensor
                break
        else:
            if not NOT_LEARNED.match(name):
                learned[name.removeprefix("prompt_learner.")] = tensor
    return learned
