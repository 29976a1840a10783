"""RPP (arXiv 2409.06166): separate learnable query, key and value prompts in every prompted block, and soft labels of a CLIP
teacher beside the hard ones.

A reconstruction: no code is public. What the paper says and what is our choice stands in docs/pretraining.md.

Shapes: B images, K classes in use, n slots, J prompted blocks, L blocks of a tower, D its width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import Rows, TowerPrompts
from prompts.learner import ClassSample, Outputs, PromptLearner, TrainInfo
from prompts.parts.context import STD, check_depth, context_plan, fixed_plan, initial_rows, needs_vit
from prompts.parts.local_contrast import LocalContrast, cross_entropy
from prompts.parts.prompt_lengths import deep_rows, read_lengths
from prompts.parts.teacher import Teacher, divergence, soft_cross_entropy

STREAMS = {"shared": "q", "unshared": "qkv", "kv_only": "kv"}
OPTIONS = {
    "qkv_share": tuple(STREAMS),
    "residual_source": ("q", "k", "v", "mean", "none"),
    "prompt_update": ("replace", "carry"),
    "first_layer_entry": ("clip", "raw"),
    "kd_form": ("sum", "convex", "mixed_target"),
    "kd_class_set": ("sampled", "all"),
}


class RPP(PromptLearner):
    """`n_text` slots in the first `depth_text` blocks of the text tower, `n_image` in the first `depth_image` of the image
    tower; a length or a depth of 0 leaves that tower alone.

    Args:
        qkv_share: what a block's queries, keys and values see in the slots: rows of their own (unshared), the same ones
            (shared: deep prompts as in IVLP), or keys and values of their own, the keys standing in for queries (kv_only).
        residual_source: which rows the residual stream carries; none: what arrived there (at the first block: the queries).
        prompt_update: later blocks replace what arrived in the slots, or carry it on and add their rows.
        first_layer_entry: clip: the first rows get positions (text) or pass ln_pre (images), as words and patches do; raw:
            they stand in the first block as they are.
        init: words whose embeddings start the first text rows of every stream; null: random. Words beyond n_text stay.
        tied_init: the streams of a block start equal; otherwise their random rows are independent draws.
        num_sampled_classes, local_correction, correction_log_base, negative_groups: `prompts.parts.local_contrast`.
        teacher: builds the teacher, a CLIP of any size; null: hard labels alone.
        kd_weight: w of the soft labels. sum: CE + w T^2 KL; convex: (1-w) CE + w T^2 KL; mixed_target: cross-entropy with
            (1-w) hard + w soft labels. 0 needs no teacher.
        kd_class_set: soft labels over the classes sampled for each image, or over all.
        kd_local_correction: the local correction in both distributions of the soft labels, too.
        prompt_lengths: a dpl.json, its folder, or {"text": [...], "image": [...]}: slots of each block, in the place of
            lengths and depths. Where their number changes they are new, as at the first block: nothing arrives in them.
    """

    def __init__(
        self,
        n_text: int = 4,
        n_image: int = 4,
        depth_text: int = 9,
        depth_image: int = 9,
        qkv_share: Literal["shared", "unshared", "kv_only"] = "unshared",
        residual_source: Literal["q", "k", "v", "mean", "none"] = "q",
        prompt_update: Literal["replace", "carry"] = "replace",
        first_layer_entry: Literal["clip", "raw"] = "clip",
        init: str | None = None,
        tied_init: bool = False,
        num_sampled_classes: int | None = None,
        local_correction: bool = True,
        correction_log_base: Literal["10", "e"] | int = 10,
        negative_groups: int = 1,
        teacher: Callable[[], FrozenCLIP] | None = None,
        kd_weight: float = 1.0,
        kd_temperature: float = 1.0,
        kd_form: Literal["sum", "convex", "mixed_target"] = "sum",
        kd_class_set: Literal["sampled", "all"] = "sampled",
        kd_local_correction: bool = False,
        prompt_lengths: str | Mapping[str, Any] | None = None,
    ):
        super().__init__()
        for key, value in {
            "qkv_share": qkv_share,
            "residual_source": residual_source,
            "prompt_update": prompt_update,
            "first_layer_entry": first_layer_entry,
            "kd_form": kd_form,
            "kd_class_set": kd_class_set,
        }.items():
            if value not in OPTIONS[key]:
                raise ValueError(f"method.{key}={value!r} is none of {', '.join(OPTIONS[key])}.")
        if kd_temperature <= 0 or kd_weight < 0 or (kd_form != "sum" and kd_weight > 1):
            raise ValueError(
                f"method.kd_weight={kd_weight} with kd_form={kd_form} and kd_temperature={kd_temperature}: the temperature is "
                "positive, the weight not negative, and at most 1 in the forms convex and mixed_target."
            )
        if kd_form == "mixed_target" and kd_class_set == "all":
            raise ValueError("method.kd_form=mixed_target mixes labels over one class set: leave method.kd_class_set=sampled.")
        lengths = {"n_text": n_text, "n_image": n_image, "depth_text": depth_text, "depth_image": depth_image}
        for key, value in lengths.items():
            if value < 0:
                raise ValueError(f"method.{key}={value}: give a number, 0 or more.")
        self.found = read_lengths(prompt_lengths) if prompt_lengths else None
        if self.found:
            self.found_settings = self.found.settings
            self.text_lengths, self.image_lengths = self.found.text, self.found.image
        else:
            self.text_lengths, self.image_lengths = [n_text] * depth_text, [n_image] * depth_image
        if not any(self.text_lengths) and not any(self.image_lengths):
            raise ValueError(
                "RPP without text and without visual prompts learns nothing: set method.n_text or method.n_image, or give "
                "method.prompt_lengths that are not all 0."
            )
        self.names, self.residual_source, self.add = STREAMS[qkv_share], residual_source, prompt_update == "carry"
        self.raw, self.init, self.tied_init = first_layer_entry == "raw", init, tied_init
        self.contrast = LocalContrast(num_sampled_classes, local_correction, correction_log_base, negative_groups)
        self.teacher = Teacher(make=teacher) if teacher and kd_weight else None
        self.kd_weight, self.temperature, self.form = kd_weight, kd_temperature, kd_form
        self.kd_all, self.kd_correction = kd_class_set == "all", kd_local_correction

    # ---------------------------------------------------------------- prompts

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        if any(self.image_lengths):
            needs_vit(clip, "a visual prompt")
        if self.found:
            self.found.check(clip)
        if any(self.text_lengths):
            check_depth(len(self.text_lengths), clip.text_blocks, "text")
        if any(self.image_lengths):
            check_depth(len(self.image_lengths), clip.image_blocks, "image")
        self.text_ctx = self._tensors(self.text_lengths, clip.text_width)
        self.image_ctx = self._tensors(self.image_lengths, clip.image_width or 0)
        if self.text_enters and self.found:
            self.init = self.found.words_that_reach(clip, self.init)
        if self.text_enters and self.init is not None:
            for rows in self.text_ctx[0].values():
                rows.data.copy_(initial_rows(clip, self.text_lengths[0], self.init))
        self.no_effect = self._dead(self.text_lengths, clip.text_blocks) * clip.text_width
        self.no_effect += self._dead(self.image_lengths, clip.image_blocks) * (clip.image_width or 0)

    def _tensors(self, lengths: Sequence[int], width: int) -> nn.ModuleList:
        """By block a dict of (n,D), one tensor for each stream that has its own; empty where n is 0."""

        def block(n: int) -> nn.ParameterDict:
            if not n:
                return nn.ParameterDict()
            first = STD * torch.randn(n, width)
            draws = [first, *(first.clone() if self.tied_init else STD * torch.randn(n, width) for _ in self.names[1:])]
            return nn.ParameterDict({name: nn.Parameter(draw) for name, draw in zip(self.names, draws, strict=True)})

        return nn.ModuleList(map(block, lengths))

    def _dead(self, lengths: Sequence[int], blocks: int) -> int:
        """How many slots' query rows have no effect. A query shapes its own slot's output, which the next prompted block
        overwrites or drops, unless that carries on what arrived; behind the last block nothing reads it."""
        if self.names != "qkv":
            return 0
        dead, read = 0, len(lengths) < blocks  # whether anything that counts reads the slots' output
        for i in reversed(range(len(lengths))):
            if i + 1 < len(lengths):  # with residual_source=none the output passes the block that overwrites the streams
                read = lengths[i] == lengths[i + 1] and (self.add or (self.residual_source == "none" and read))
            dead += 0 if read else lengths[i]
        return dead

    def effective_parameters(self) -> int:
        """Without the query rows that have no effect on any feature and an exactly zero gradient."""
        return super().effective_parameters() - self.no_effect

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        if self.teacher:
            self.teacher.bind(clip, classnames)
        if self.text_enters:
            self.plan = context_plan(clip, classnames, self.text_lengths[0], self.init)
        else:
            self.plan = fixed_plan(clip, classnames, f"{self.init or 'a photo of a'} {{}}.")

    @property
    def text_enters(self) -> bool:
        """Whether the first text block has slots."""
        return any(self.text_lengths[:1])

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        prompts = self._prompts(self.text_ctx, self.text_lengths)
        if self.text_enters and self.raw:  # words enter with positions; the slots are filled in the first block alone
            return replace(prompts, inputs=Rows(torch.zeros_like(prompts.rows[0].q)))
        return prompts

    def image_prompts(self) -> TowerPrompts:
        return self._prompts(self.image_ctx, self.image_lengths)

    def _prompts(self, blocks: nn.ModuleList, lengths: Sequence[int]) -> TowerPrompts:
        rows = {
            str(i): self._rows(block, new=not i or lengths[i] != lengths[i - 1]) for i, block in enumerate(blocks) if lengths[i]
        }
        prompts = deep_rows(rows, lengths)
        if self.raw and prompts.inputs:
            return TowerPrompts(rows={0: prompts.inputs, **prompts.rows})
        return prompts

    def _rows(self, block: nn.ParameterDict, new: bool) -> Rows:
        if self.names == "q":
            residual = "arrived" if self.residual_source == "none" and not new else "q"
            return Rows(block["q"], residual=residual, add=self.add and not new)
        k, v = block["k"], block["v"]
        q = block.get("q", k)
        named = {"q": "q", "k": k, "v": v, "mean": (q + k + v) / 3, "none": "q" if new else "arrived"}
        return Rows(q, k, v, named[self.residual_source], add=self.add and not new)

    # ---------------------------------------------------------------- supervision

    def sample(self, labels: Tensor, batch_index: Tensor, seed: int) -> ClassSample | None:
        total = len(self.plan)
        drawn = self.contrast.sample(labels, batch_index, total, seed)
        if drawn is None or not (self.kd_all and self.teacher):
            return drawn
        # all classes are columns, for the soft labels; what an image's hard label is told apart from stays as drawn
        allowed = torch.zeros(len(labels), total, dtype=torch.bool, device=labels.device)
        allowed[:, drawn.ids] = drawn.allowed
        return ClassSample(torch.arange(total, device=labels.device), allowed, labels)

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        sample, total = out.sample, len(self.plan)
        hard = self.contrast.corrected(out.logits, sample, total)
        losses = {"ce": cross_entropy(hard, sample, labels)}
        if self.teacher is None:
            return losses
        student = out.logits
        teacher = self.teacher.logits(self.teacher.image(out.pixels), None if sample is None else sample.ids)
        if sample is not None and not self.kd_all:
            if self.kd_correction and self.contrast.correction:
                shift = self.contrast.shift(sample, total)
                student, teacher = student + shift, teacher + shift
            student, teacher = (x.masked_fill(~sample.allowed, float("-inf")) for x in (student, teacher))
        if self.form == "mixed_target":
            soft = soft_cross_entropy(hard, (teacher / self.temperature).softmax(-1))
        else:
            soft = self.temperature**2 * divergence(student, teacher, self.temperature)
        hard_weight = 1.0 if self.form == "sum" else 1 - self.kd_weight
        return {"ce": hard_weight * losses["ce"], "kd": self.kd_weight * soft}
