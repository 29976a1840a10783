"""Checkpoints of the published implementations (CoOp's, MaPLe's and PromptSRC's repositories): `model.pth.tar-50` and the like.

They are pickles with live scheduler objects inside; `prompts.engine.archives` reads their tensors and runs nothing. They do not
say which CLIP they were trained on: only their shapes are checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    """A published state dict in our tensors' names. `names` maps patterns of published names to ours (`re` syntax), or to ""
    for what is not used; without a match a tensor keeps its name, less the prefix that whole-model checkpoints have."""
    learned = {}
    for name, tensor in state.items():
        for pattern, ours in names.items():
            if match := re.fullmatch(pattern, name):
                if ours:
                    learned[match.expand(ours)] = tensor
                break
        else:
            if not NOT_LEARNED.match(name):
                learned[name.removeprefix("prompt_learner.")] = tensor
    return learned


# ---------------------------------------------------------------- which method a checkpoint belongs to

TEXT = r"text_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow"
IMAGE = r"image_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow"
CONTEXT, VISUAL = "prompt_learner.ctx", "image_encoder.VPT"
COMPOUND = r"prompt_learner\.compound_prompts_text\.\d+"
TEACHER = r"prompt_learner\.ZS_image_encoder\..*"


def kinds_of(state: Mapping[str, Tensor]) -> dict[str, dict[str, int | bool]]:
    """{method: settings} of the methods that can read a published state dict, the likeliest first. The settings are those that
    its shapes determine. Empty where it is no such state dict.

    POMP saves a class list for training, PromptSRC a frozen image tower, KgCoOp a network like CoCoOp's, which it does not use.
    """
    ctx, visual = state.get("ctx", state.get(CONTEXT)), state.get(VISUAL)
    if any(tensor is not None and tensor.dim() not in dims for tensor, dims in ((ctx, (2, 3)), (visual, (2,)))):
        return {}
    if ctx is None:
        return {} if visual is None else {"vpt": {"n_ctx": len(visual), "depth": 1 + _count(state, IMAGE)}}
    if (deep := _count(state, COMPOUND)) or "prompt_learner.proj.weight" in state:
        return {"maple": {"n_ctx": len(ctx), "depth": deep + 1}}
    if CONTEXT in state:
        settings = {"n_text": len(ctx), "depth_text": 1 + _count(state, TEXT), "n_image": 0, "depth_image": 0}
        if visual is not None:
            settings |= {"n_image": len(visual), "depth_image": 1 + _count(state, IMAGE)}
        return dict.fromkeys(("promptsrc", "ivlp") if _count(state, TEACHER) else ("ivlp", "promptsrc"), settings)
    return _shallow_kinds(state, ctx)


def _shallow_kinds(state: Mapping[str, Tensor], ctx: Tensor) -> dict[str, dict[str, int | bool]]:
    """`kinds_of` for a state dict whose only prompts are contexts `ctx` at the text tower's input."""
    tokens: dict[str, int | bool] = {"n_ctx": ctx.shape[-2]}
    if _count(state, r"meta_net\..*"):
        return {"kgcoop" if "bias_vectors" in state else "cocoop": tokens}
    coop = {"coop": tokens | {"class_context": ctx.dim() == 3}}
    if ctx.dim() == 3:
        return coop
    likeliest: dict[str, dict[str, int | bool]] = {"pomp": tokens} if "train_token_prefix" in state else {}
    return likeliest | coop | {"kgcoop": tokens, "pomp": tokens}


PUBLISHED = ("coop", "cocoop", "kgcoop", "pomp", "maple", "ivlp", "promptsrc", "vpt")  # the methods that can be recognised


def settings_for(method: str, state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The settings of a method that a checkpoint's shapes determine; empty for methods without published checkpoints.
    ValueError where it is another method's."""
    kinds = kinds_of(state)
    if method in PUBLISHED and kinds and method not in kinds:
        raise ValueError(f"{path} holds prompts of {' or '.join(kinds)}: add method={next(iter(kinds))}.")
    return dict(kinds.get(method, {}))


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return sum(bool(re.fullmatch(pattern, name)) for name in state)


# ---------------------------------------------------------------- writing the published form


def published_state(method: str, tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Our tensors under their published names. The released trainers load them, and accept that the backbone is missing.

    Returns:
        The name of the model, which is that of its folder in Dassl, and the state dict.

    Raises:
        ValueError: (one sentence) the method is none of `PUBLISHED`, or the format has no place for a tensor.
    """
    if method not in PUBLISHED:
        raise ValueError(f"method={method} has no published format; these methods have one: {', '.join(PUBLISHED)}.")
    if method in ("coop", "cocoop", "kgcoop", "pomp"):
        return "prompt_learner", dict(tensors)
    if method == "maple":
        state = {f"prompt_learner.{name}": tensor for name, tensor in tensors.items()}
        folder = "MultiModalPromptLearner"
    else:
        state = {_published_name(name): tensor for name, tensor in tensors.items()}
        folder = "prompt_learner" if method == "vpt" else "VLPromptLearner"
    for pattern in (TEXT, IMAGE):
        blocks = sorted(int(match[1]) for name in state if (match := re.fullmatch(pattern, name)))
        if blocks != list(range(1, len(blocks) + 1)):
            raise ValueError(
                "the published format takes prompts in the first blocks of a tower without gaps, and these prompts skip blocks."
            )
    for first, pattern in ((CONTEXT, f"{TEXT}|{COMPOUND}"), (VISUAL, IMAGE)):
        lengths = {len(tensor) for name, tensor in state.items() if name == first or re.fullmatch(pattern, name)}
        if len(lengths) > 1 or (lengths and first not in state):
            raise ValueError("the published format needs the same number of prompts in each block, and these numbers differ.")
    return folder, state


def _published_name(name: str) -> str:
    """The published name of the tensor of a block. ValueError where there is none."""
    match = re.fullmatch(r"(text|image)_ctx\.(\d+)", name)
    if not match:
        raise ValueError(f"the published format has no place for the tensor {name[:80]}.")
    tower, block = match.groups()
    if block == "0":
        return CONTEXT if tower == "text" else VISUAL
    return f"{tower}_encoder.transformer.resblocks.{block}.VPT_shallow"
