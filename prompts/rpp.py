"""RPP (arXiv 2409.06166): separate learnable query, key and value prompts in every prompted block, and soft labels of a CLIP
teacher beside the hard ones.

A reconstruction, as no code is public: docs/pretraining.md says what comes from the paper and what is our choice.

Shapes: B images, K classes in use, n slots of a block, L blocks of a tower, D its width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import Rows, TowerPrompts
from prompts.learner import ClassSample, Outputs, TrainInfo
from prompts.parts.context import STD, initial_rows
from prompts.parts.deep_prompts import DeepPrompts, deep_rows
from prompts.parts.distillation import Distillation
from prompts.parts.local_contrast import LocalContrast, cross_entropy
from prompts.parts.settings import check_choice
from prompts.parts.teacher import Teacher

Share = Literal["shared", "unshared", "kv_only"]
ResidualSource = Literal["q", "k", "v", "mean", "none"]
PromptUpdate = Literal["replace", "carry"]
FirstLayerEntry = Literal["clip", "raw"]
STREAMS: dict[Share, str] = {"shared": "q", "unshared": "qkv", "kv_only": "kv"}  # the tensors of a block
ALL_CLASSES, SOFT_LABELS = LocalContrast(), Distillation()


class RPP(DeepPrompts):
    """Deep prompts whose queries, keys and values differ.

    Args:
        n_text, n_image, depth_text, depth_image, init: as in `DeepPrompts`; `init` starts the first text rows of every stream.
        qkv_share: the rows that a block's queries, keys and values are computed from in the slots: separate rows for each
            (unshared), the same rows (shared: deep prompts as in IVLP), or separate rows for keys and values, with the keys'
            rows for the queries too (kv_only).
        residual_source: which rows the residual carries; none: the output of the block before (at the first block: the
            queries).
        prompt_update: later blocks replace the output of the block before in the slots, or keep it and add their rows.
        first_layer_entry: clip: the first rows get position embeddings (text) or pass ln_pre (images), as words and patches do;
            raw: they enter the first block unchanged.
        tied_init: the streams of a block start equal; otherwise their random rows are independent draws.
        local_contrast: which classes an image is classified against in training.
        distillation: the soft labels, and the teacher that gives them.
        prompt_lengths: as in `DeepPrompts`. Where the number of slots changes, the slots are new, as at the first block, and no
            output of the block before is in them.

    Raises:
        ValueError: an unknown choice, or what `DeepPrompts`, `LocalContrast` and `Distillation` refuse.
    """

    def __init__(
        self,
        n_text: int = 4,
        n_image: int = 4,
        depth_text: int = 9,
        depth_image: int = 9,
        qkv_share: Share = "unshared",
        residual_source: ResidualSource = "q",
        prompt_update: PromptUpdate = "replace",
        first_layer_entry: FirstLayerEntry = "clip",
        init: str | None = None,
        tied_init: bool = False,
        local_contrast: LocalContrast | Mapping[str, Any] = ALL_CLASSES,
        distillation: Distillation | Mapping[str, Any] = SOFT_LABELS,
        prompt_lengths: str | Mapping[str, Any] | None = None,
    ):
        super().__init__(n_text, n_image, depth_text, depth_image, init, prompt_lengths)
        check_choice("qkv_share", qkv_share, Share)
        check_choice("residual_source", residual_source, ResidualSource)
        check_choice("prompt_update", prompt_update, PromptUpdate)
        check_choice("first_layer_entry", first_layer_entry, FirstLayerEntry)
        self.streams, self.residual_source, self.add = STREAMS[qkv_share], residual_source, prompt_update == "carry"
        self.raw, self.tied_init = first_layer_entry == "raw", tied_init
        self.local_contrast, self.distillation = LocalContrast.of(local_contrast), Distillation.of(distillation)
        self.teacher = self.distillation.make_teacher()

    # ---------------------------------------------------------------- prompts

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes the streams of every prompted block."""
        self.fit_to(clip)
        self.text_ctx = self._tensors(self.text_lengths, clip.text_width)
        self.image_ctx = self._tensors(self.image_lengths, clip.image_width or 0)
        if self.text_enters and self.init is not None:
            enter: Any = self.text_ctx[0]
            for rows in enter.values():
                rows.data.copy_(initial_rows(clip, self.text_lengths[0], self.init))
        self.no_effect = self._slots_without_effect(self.text_lengths, clip.text_blocks) * clip.text_width
        self.no_effect += self._slots_without_effect(self.image_lengths, clip.image_blocks) * (clip.image_width or 0)

    def _tensors(self, lengths: Sequence[int], width: int) -> nn.ModuleList:
        """For each block a dict of tensors (n,D), one for each stream that has its own; empty where n is 0."""

        def block(n: int) -> nn.ParameterDict:
            if not n:
                return nn.ParameterDict()
            first = STD * torch.randn(n, width)
            draws = [first, *(first.clone() if self.tied_init else STD * torch.randn(n, width) for _ in self.streams[1:])]
            return nn.ParameterDict({name: nn.Parameter(draw) for name, draw in zip(self.streams, draws, strict=True)})

        return nn.ModuleList(map(block, lengths))

    def _slots_without_effect(self, lengths: Sequence[int], blocks: int) -> int:
        """How many slots' query rows have no effect. A query only changes its own slot's output. The next prompted block
        overwrites or drops that output, unless it keeps the output of the block before; after the last block nothing reads
        it."""
        if self.streams != "qkv":
            return 0
        count, is_read = 0, len(lengths) < blocks  # whether anything that counts reads the slots' output
        for i in reversed(range(len(lengths))):
            if i + 1 < len(lengths):  # with residual_source=none the output passes the block that overwrites the streams
                is_read = lengths[i] == lengths[i + 1] and (self.add or (self.residual_source == "none" and is_read))
            count += 0 if is_read else lengths[i]
        return count

    def effective_parameters(self) -> int:
        """Without the query rows that have no effect on any feature and an exactly zero gradient."""
        return super().effective_parameters() - self.no_effect

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the text, for the teacher too."""
        if self.teacher:
            self.teacher.bind(clip, classnames)
        super().bind(clip, classnames)

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        """The text tower's rows by block."""
        prompts = self._prompts(self.text_ctx, self.text_lengths)
        if self.text_enters and self.raw:  # words enter with positions; the slots are filled in the first block alone
            return replace(prompts, inputs=Rows(torch.zeros_like(prompts.rows[0].q)))
        return prompts

    def image_prompts(self) -> TowerPrompts:
        """The image tower's rows by block."""
        return self._prompts(self.image_ctx, self.image_lengths)

    def _prompts(self, blocks: Any, lengths: Sequence[int]) -> TowerPrompts:
        rows = {
            str(i): self._rows(block, new=not i or lengths[i] != lengths[i - 1]) for i, block in enumerate(blocks) if lengths[i]
        }
        prompts = deep_rows(rows, lengths)
        if self.raw and prompts.inputs:
            return TowerPrompts(rows={0: prompts.inputs, **prompts.rows})
        return prompts

    def _rows(self, block: nn.ParameterDict, new: bool) -> Rows:
        if self.streams == "q":
            residual: Literal["q", "arrived"] = "arrived" if self.residual_source == "none" and not new else "q"
            return Rows(block["q"], residual=residual, add=self.add and not new)
        k, v = block["k"], block["v"]
        q = block.get("q", k)
        residuals = {"q": "q", "k": k, "v": v, "mean": (q + k + v) / 3, "none": "q" if new else "arrived"}
        return Rows(q, k, v, residuals[self.residual_source], add=self.add and not new)

    # ---------------------------------------------------------------- supervision

    def sample(self, labels: Tensor, batch_index: Tensor, seed: int) -> ClassSample | None:
        """Sampled classes, as in POMP; with soft labels over all classes these are all encoded."""
        total = len(self.plan)
        drawn = self.local_contrast.sample(labels, batch_index, total, seed)
        if drawn is None or not (self.distillation.class_set == "all" and self.teacher):
            return drawn
        # all classes are columns, for the soft labels; what an image's hard label is classified against stays as drawn
        allowed = torch.zeros(len(labels), total, dtype=torch.bool)
        allowed[:, drawn.ids] = drawn.allowed
        return ClassSample(torch.arange(total), allowed, labels)

    def image_teacher(self) -> Teacher | None:
        """The frozen CLIP, where it is used."""
        return self.teacher

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Cross-entropy over the classes in use and, with a teacher, its soft labels."""
        sample, total = out.sample, len(self.plan)
        hard = self.local_contrast.corrected(out.logits, sample, total)
        ce = cross_entropy(hard, sample, labels)
        if self.teacher is None:
            return {"ce": ce}
        student = out.logits
        teacher = self.teacher.logits(self.teacher.image_of(out), None if sample is None else sample.ids)
        if sample is not None and self.distillation.class_set == "sampled":
            if self.distillation.local_correction and self.local_contrast.local_correction:
                shift = self.local_contrast.shift(sample, total)
                student, teacher = student + shift, teacher + shift
            student, teacher = (x.masked_fill(~sample.allowed, float("-inf")) for x in (student, teacher))
        return self.distillation.losses(ce, hard, student, teacher)
