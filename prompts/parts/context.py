"""Learnable context vectors in the text, as introduced by CoOp and used by most methods.

Shapes: n context tokens, D width of the text tower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.engine.text_plan import Position, TextPlan, token_lists
from prompts.parts.named_learners import learner_classes

STD = 0.02  # of random initial vectors in every published method


def initial_rows(clip: FrozenCLIP, n_ctx: int, words: str | None) -> Tensor:
    """(n,D) float32: the embeddings of the first `n_ctx` tokens of `words`, or N(0, 0.02) where there are none.
    ValueError where `words` has fewer tokens."""
    if words is None:
        return STD * torch.randn(n_ctx, clip.text_width)
    ids = clip.tokenizer.encode(words)
    if len(ids) < n_ctx:
        raise ValueError(
            f"method.init {words!r} has {len(ids)} tokens, fewer than the n_ctx={n_ctx} it should start: "
            f"give more words,{f' set method.n_ctx={len(ids)},' if ids else ''} or method.init=null for random vectors."
        )
    return clip.embed_tokens(torch.tensor(ids[:n_ctx])).cpu().clone()


def context_plan(
    clip: FrozenCLIP,
    classnames: Sequence[str],
    n_ctx: int,
    words: str | None,
    position: Position = "end",
    class_slots: bool = False,
) -> TextPlan:
    """The text "words NAME." with slots in place of the first `n_ctx` tokens of `words`; further words stay fixed text.

    Without words the slots stand alone before the name. `class_slots`: each class has its own vectors in the slots.
    """
    template, replaced = (f"{words} {{}}.", n_ctx) if words else ("{}.", 0)
    return TextPlan(token_lists(clip.tokenizer, classnames, template, n_ctx, position, replaced), class_slots)


def fixed_plan(clip: FrozenCLIP, classnames: Sequence[str], template: str) -> TextPlan:
    """A template's text without slots, "{}" being the class name. ValueError where it has no {}."""
    if "{}" not in template:
        raise ValueError(f"the template {template!r} has no {{}} for the class name: write it as in 'a photo of a {{}}.'")
    return TextPlan(token_lists(clip.tokenizer, classnames, template, 0, "end"))


def check_depth(depth: int, blocks: int, tower: str) -> None:
    """ValueError where a method prompts more blocks than a tower has. The depth counts the input as the first block's."""
    if 1 <= depth <= blocks:
        return
    if blocks == 1:
        raise ValueError(
            f"a prompt depth of {depth} does not fit the {tower} tower, which takes prompts at its input alone: choose 1."
        )
    raise ValueError(f"a prompt depth of {depth} does not fit the {tower} tower's {blocks} blocks: choose 1 to {blocks}.")


def needs_vit(clip: FrozenCLIP, method: str) -> None:
    """ValueError where the image tower takes no prompts, with the methods that give it none."""
    if not clip.is_vit:
        kind = getattr(clip.image_tower, "kind", "of another kind")
        raise ValueError(
            f"{method} prompts the blocks of a vision transformer, and this CLIP's image tower is {kind}: use "
            f"a ViT, or a method that leaves the image tower alone ({', '.join(text_side_methods())})."
        )


def needs_text_blocks(clip: FrozenCLIP, method: str) -> None:
    """ValueError where the text tower takes prompts at its input alone."""
    if not clip.text_tower.blocks:
        raise ValueError(
            f"{method} prompts the blocks of the text tower, and this CLIP's takes prompts at its input alone: use another "
            "CLIP (docs/towers.md), or a method whose text prompts are at the input."
        )


def text_side_methods() -> list[str]:
    """The names of the methods that give the image tower no prompts: each says so itself (`PromptLearner.visual_prompts`)."""
    return [name for name, learner in learner_classes().items() if not learner.visual_prompts]
