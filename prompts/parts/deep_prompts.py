"""Deep prompts: at each of the first blocks of both towers, new learned rows replace those in the slots. Shared by IVLP, VPT,
PromptSRC, MaPLe and RPP.

Shapes: n prompts of a block, C classes, D width of the tower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import NO_PROMPTS, Rows, TowerPrompts
from prompts.learner import Loss, PromptLearner
from prompts.parts.context import check_depth, context_plan, fixed_plan, needs_vit
from prompts.parts.prompt_lengths import read_lengths
from prompts.parts.settings import check_at_least, check_choice


class DeepPrompts(PromptLearner):
    """Computes how many prompts each block has and lays out the text; a subclass makes the tensors.

    Args:
        n_text, n_image: prompts of each block that has some; 0 leaves that tower alone.
        depth_text, depth_image: the number of blocks, from the first one, that have some.
        init: words whose embeddings start the first text prompts; null: random. Words beyond n_text stay as fixed text.
        prompt_lengths: a dpl.json, its folder, or {"text": [...], "image": [...]}: a number of prompts for each block, instead
            of the four arguments above. Where the first text block has more prompts than `init` has words, they start at
            random.
        loss: softmax over the classes, as published, or sigmoid, for CLIPs that were trained with it (`prompts.learner`).

    Raises:
        ValueError: a negative number, no prompts at all, or lengths that cannot be read.
    """

    visual_prompts = True

    trains_clip = True

    def __init__(
        self,
        n_text: int = 2,
        n_image: int = 2,
        depth_text: int = 12,
        depth_image: int = 12,
        init: str | None = "a photo of a",
        prompt_lengths: str | Mapping[str, Any] | None = None,
        loss: Loss = "softmax",
    ):
        super().__init__()
        check_choice("loss", loss, Loss)
        self.loss = loss
        check_at_least(0, n_text=n_text, n_image=n_image, depth_text=depth_text, depth_image=depth_image)
        self.found_lengths = read_lengths(prompt_lengths) if prompt_lengths else None
        if self.found_lengths:
            self.found_settings = self.found_lengths.settings
            self.text_lengths, self.image_lengths = self.found_lengths.text, self.found_lengths.image
        else:
            self.text_lengths, self.image_lengths = [n_text] * depth_text, [n_image] * depth_image
        if not any(self.text_lengths) and not any(self.image_lengths):
            raise ValueError(
                f"{type(self).__name__} without a prompt in any block learns nothing: choose a length and a depth of 1 or "
                "more, or method.prompt_lengths that are not all 0."
            )
        self.init = init

    def fit_to(self, clip: FrozenCLIP) -> None:
        """Checks the lengths against the towers, and drops an `init` that is too short for found lengths.

        Raises:
            ValueError: more prompted blocks than a tower has, lengths of another backbone, or visual prompts for an image tower
                that takes none.
        """
        if any(self.image_lengths):
            needs_vit(clip, type(self).__name__)
        if self.found_lengths:
            self.found_lengths.check(clip)
        if any(self.text_lengths):
            check_depth(len(self.text_lengths), clip.text_blocks, "text")
        if any(self.image_lengths):
            check_depth(len(self.image_lengths), clip.image_blocks, "image")
        if self.found_lengths and self.text_enters:
            self.init = self.found_lengths.words_that_reach(clip, self.init)

    @property
    def text_enters(self) -> bool:
        """Whether the first text block has prompts, so that the text has slots for them."""
        return any(self.text_lengths[:1])

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out "words NAME.", with slots for the prompts of the first text block."""
        if self.text_enters:
            self.plan = context_plan(clip, classnames, self.text_lengths[0], self.init)
        else:
            self.plan = fixed_plan(clip, classnames, f"{self.init or 'a photo of a'} {{}}.")


def deep_rows(rows: Mapping[str, Tensor | Rows] | nn.ParameterDict, lengths: Sequence[int]) -> TowerPrompts:
    """The prompts of a tower, from rows (n,D) by block number: those of each block replace the rows in the slots. A block of
    length 0 removes the slots of the block before."""
    if not any(lengths):
        return NO_PROMPTS
    given = {int(i): block if isinstance(block, Rows) else Rows(block) for i, block in rows.items()}
    some = next(iter(given.values())).q
    none = Rows(some.new_zeros(0, some.shape[-1]))
    changes = {i: given[i] if n else none for i, n in enumerate(lengths) if n or (i and lengths[i - 1])}
    return TowerPrompts(changes.pop(0, None), changes)
