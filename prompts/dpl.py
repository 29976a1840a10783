"""DPL: differentiable prompt learning (IJCAI 2025, arXiv 2501.00457): how many prompts each block gets is searched for, then
fresh prompts of those numbers are trained.

Prompts are keys and values only: they have no queries, so no block hands them on. In the search every block mixes the
attention outputs of all options, weighted by a softmax over its alphas.

Shapes: L blocks of a tower, t options, m rows of one, C classes, D width of the tower.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from files.whole import whole_file, write_text
from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import ExtraKV, TowerPrompts
from prompts.learner import Outputs, PromptLearner, TrainInfo
from prompts.parts.context import STD, fixed_plan, needs_vit
from prompts.parts.dpl_picture import heat_maps
from prompts.parts.prompt_lengths import FILE, PromptLengths, read_found
from prompts.parts.teacher import Teacher, divergence


class DPL(PromptLearner):
    """The supernet of the search or, with `prompt_lengths`, the subnet that is trained.

    Args:
        phase: search; train, on `prompt_lengths`; or both, where the search is a run of its own that is done before, unless
            there are `prompt_lengths`.
        lengths: the options of a block in the search. Without 0 every block gets prompts.
        prompt_lengths: what a search found: a dpl.json, its folder, or {"text": [...], "image": [...]}. Where all are 0 there
            is nothing to train and the result is zero-shot CLIP.
        template: the text, "{}" standing for the class name.
        alpha_lr: constant rate of the alphas' own optimiser, Adam.
        val_batch_size: validation images per step on the alphas, over all ranks.
        paper_init: start the search from N(0,1) images and U(0,1) text rows, as released, instead of N(0,0.02).
        kd_weight: of KL(zero-shot || prompted) in training, the zero-shot text being the mean over `teacher_templates`.
    """

    def __init__(
        self,
        phase: Literal["search", "train", "both"] = "both",
        lengths: Sequence[int] = (0, 2, 4, 6),
        prompt_lengths: str | Mapping[str, Any] | None = None,
        template: str = "a photo of a {}.",
        alpha_lr: float = 0.0035,
        val_batch_size: int = 16,
        paper_init: bool = False,
        kd_weight: float = 0.0,
        teacher_templates: Sequence[str] = ("a photo of a {}.",),
    ):
        super().__init__()
        if phase not in ("search", "train", "both"):
            raise ValueError(f"method.phase={phase!r} is none of search, train, both.")
        self.lengths = _options(lengths)
        self.template, self.alpha_lr, self.paper_init, self.kd_weight = template, alpha_lr, paper_init, kd_weight
        self.content: dict[str, Any] | None = None  # of the dpl.json that is trained
        self.on_alphas = False  # whose turn it is in the search
        if phase == "train" and not prompt_lengths:
            raise ValueError("method.phase=train needs method.prompt_lengths=PATH, the dpl.json or folder of a search.")
        if phase == "search" and prompt_lengths:
            raise ValueError("method.phase=search finds prompt_lengths and takes none: train those with method.phase=train.")
        if not isinstance(val_batch_size, int) or val_batch_size < 1:
            raise ValueError(f"method.val_batch_size={val_batch_size!r}: give a number of images, 1 or more.")
        for key, value in {"alpha_lr": alpha_lr, "kd_weight": kd_weight}.items():
            if value < 0:
                raise ValueError(f"method.{key}={value}: give a number, 0 or more.")
        self.val_batch = val_batch_size
        self.first_stage = {"phase": "search"} if phase == "both" else {}
        self.teacher = Teacher(teacher_templates) if kd_weight else None
        if prompt_lengths:
            self.use(read_found(prompt_lengths))

    def take_over(self, folder: Path) -> None:
        self.use(read_found(folder))

    def use(self, content: dict[str, Any]) -> None:
        """From now on a subnet of these lengths, to be made by `setup`."""
        found = PromptLengths(content["text"], content["image"])
        self.content, self.found, self.first_stage, self.val_batch = content, found, {}, 0
        self.found_settings = {"phase": "train", **found.settings}
        self.uses_gradients = any(found.text + found.image)

    @property
    def searching(self) -> bool:
        return self.content is None

    # ---------------------------------------------------------------- tensors

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        needs_vit(clip, "DPL")
        self.num_images = info.num_images
        text, image = (clip.text_blocks, clip.text_width), (clip.image_blocks, clip.image_width)
        if not self.searching:
            self.found.check(clip)
            self.text_ctx, self.image_ctx = (  # by block, those without prompts left out; (m,D) each
                nn.ParameterDict({str(i): STD * torch.randn(n, width) for i, n in enumerate(lengths) if n})
                for lengths, (_, width) in ((self.found.text, text), (self.found.image, image))
            )
            return
        draws = (torch.rand, torch.randn) if self.paper_init else (lambda *size: STD * torch.randn(*size),) * 2
        self.text_options, self.image_options = (  # by block, then by length; (m,D) each
            nn.ModuleList(nn.ParameterDict({str(n): draw(n, width) for n in self.lengths if n}) for _ in range(blocks))
            for draw, (blocks, width) in zip(draws, (text, image), strict=True)
        )
        self.text_alphas, self.image_alphas = (  # (L,t)
            nn.Parameter(1e-3 * torch.randn(blocks, len(self.lengths))) for blocks, _ in (text, image)
        )

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        self.plan = fixed_plan(clip, classnames, self.template)
        if self.teacher:
            self.teacher.bind(clip, classnames)

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        return _mixed(self.text_options, self.text_alphas, self.lengths) if self.searching else _chosen(self.text_ctx)

    def image_prompts(self) -> TowerPrompts:
        return _mixed(self.image_options, self.image_alphas, self.lengths) if self.searching else _chosen(self.image_ctx)

    # ---------------------------------------------------------------- training

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        losses = super().losses(out, labels, index)
        if self.searching:
            self.on_alphas = bool(index[0] >= self.num_images)
        elif self.teacher:
            teacher = self.teacher.logits(self.teacher.image(out.images))
            losses["kd"] = self.kd_weight * divergence(out.logits, teacher) / teacher.shape[-1]
        return losses

    @property
    def alphas(self) -> list[nn.Parameter]:
        return [self.text_alphas, self.image_alphas]

    def parameter_groups(self) -> list[dict[str, Any]]:
        if not self.searching:
            return super().parameter_groups()
        adam = partial(torch.optim.Adam, lr=self.alpha_lr, betas=(0.5, 0.999), weight_decay=0.0)
        options = [*self.text_options.parameters(), *self.image_options.parameters()]
        return [{"params": options}, {"params": self.alphas, "optimizer": adam, "scheduled": False}]

    def before_step(self) -> None:
        """A validation batch moves the alphas alone, a training batch the prompts alone: first-order, alternating."""
        if not self.searching:
            return
        alphas = {id(p) for p in self.alphas}
        for p in self.parameters():
            if (id(p) in alphas) != self.on_alphas:
                p.grad = None

    # ---------------------------------------------------------------- what was found

    def configuration(self) -> dict[str, Any]:
        """Options, the length of every block, and the alphas these come from, as plain lists by tower."""
        if not self.searching:
            return self.content
        alphas = {"text": self.text_alphas.tolist(), "image": self.image_alphas.tolist()}
        found = {tower: [most_weighted(row, self.lengths) for row in rows] for tower, rows in alphas.items()}
        return {"options": self.lengths, **found, "alphas": alphas}

    def keep(self, folder: Path) -> list[Path]:
        """`dpl.json` and, where the alphas are known, their picture."""
        content, path, picture = self.configuration(), folder / FILE, folder / "dpl.png"
        write_text(path, _readable(content))
        if "alphas" not in content:
            return [path]
        with whole_file(picture) as temporary:
            heat_maps(content).savefig(temporary, dpi=120, format="png")
        return [path, picture]


def most_weighted(alphas: Sequence[float], lengths: Sequence[int]) -> int:
    """The length of the largest alpha; of equal ones the smallest length."""
    return min(n for n, alpha in zip(lengths, alphas, strict=True) if alpha == max(alphas))


def _options(lengths: Sequence[int]) -> list[int]:
    options = list(lengths)
    if not all(type(n) is int and n >= 0 for n in options) or len(set(options)) != len(options) or len(options) < 2:
        raise ValueError(f"method.lengths={options} must be two or more different numbers of prompts, such as [0,2,4,6].")
    return sorted(options)


def _mixed(options: nn.ModuleList, alphas: Tensor, lengths: Sequence[int]) -> TowerPrompts:
    weights = alphas.float().softmax(-1)  # (L,t)
    extra = {}
    for i, rows in enumerate(options):
        none = next(iter(rows.values())).new_zeros(0, next(iter(rows.values())).shape[-1])
        extra[i] = ExtraKV([rows[str(n)] if n else none for n in lengths], weights[i])
    return TowerPrompts(extra=extra)


def _chosen(rows: nn.ParameterDict) -> TowerPrompts:
    return TowerPrompts(extra={int(block): ExtraKV([each]) for block, each in rows.items()})


def _readable(content: Mapping[str, Any]) -> str:
    """JSON with one line for a list of numbers."""
    lines = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            inner = [
                f'  "{name}": [\n' + ",\n".join(f"   {json.dumps(row)}" for row in rows) + "\n  ]"
                for name, rows in value.items()
            ]
            lines.append(f' "{key}": {{\n' + ",\n".join(inner) + "\n }")
        else:
            lines.append(f' "{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"
