"""Text towers of Hugging Face's transformers, which take prompts at their input embeddings alone.

Shapes: C classes, S sequences, L tokens, D width, d width of the shared embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prompts.engine.padded_text import Padded, fill, slots_of
from prompts.engine.rows import TowerPrompts
from prompts.engine.text_plan import TextPlan
from prompts.engine.untyped import AnyModule


@dataclass(frozen=True)
class HFTextTower(Padded):
    """open_clip's HFTextEncoder. Padding is hidden from all rows, so texts are padded to the longest of their list only."""

    module: AnyModule

    @property
    def blocks(self) -> tuple[()]:
        """Empty: no block takes prompts."""
        return ()

    @property
    def size(self) -> tuple[int, int]:
        """1 (the input), and D."""
        return 1, self.module.transformer.get_input_embeddings().weight.shape[1]

    def check(self, plan: TextPlan, prompts: TowerPrompts) -> None:
        """ValueError for prompts that do not fit, or that are not at the input."""
        super().check(plan, prompts)
        inputs = prompts.inputs
        if prompts.rows or prompts.extra or (inputs and any(t is not None for t in (inputs.k, inputs.v))):
            raise ValueError(
                f"this CLIP's text tower is transformers' {type(self.module.transformer).__name__}, which takes prompts at "
                "its input alone: use a text depth of 1, or a method whose text prompts are at the input."
            )

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings without positions, float32: (...) -> (...,D)."""
        return self.module.transformer.get_input_embeddings()(ids).float()

    def ids(self, plan: TextPlan, classes: Tensor) -> Tensor:
        """(C,L) ids and slots of classes (C,), padded."""
        return plan.padded(int(plan.lengths.max()) + len(plan.prefix), self.pad)[classes]

    def run(self, ids_CL: Tensor, classes: Tensor, prompts: TowerPrompts, groups: int) -> Tensor:
        """Features (S,d) of the classes' padded texts, in the order (group, class)."""
        x = self.embed(ids_CL.clamp_min(0)).repeat(groups, 1, 1)
        if prompts.inputs is not None:
            x = fill(x, prompts.inputs, slots_of(ids_CL).repeat(groups, 1), classes, groups).residual
        mask = (ids_CL != self.module.config.pad_token_id).long().repeat(groups, 1)
        transformer = self.module.transformer
        output = transformer(inputs_embeds=x.to(next(transformer.parameters()).dtype), attention_mask=mask)
        with torch.autocast(x.device.type, enabled=False):
            return self.module.proj(self.module.pooler(output, mask).float())
