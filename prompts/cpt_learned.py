"""CPT with learned prompts (after Yao et al., arXiv 2109.11797, whose few-shot form tunes the whole language model): context
vectors around the query and the marker's colour and transparency, on a frozen CLIP. A form of our own: docs/cpt.md.

Shapes: B images with one expression each, N_i proposals of image i, n context vectors, D width of the text tower, d width of
the shared embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import Rows, TowerPrompts
from prompts.engine.text_plan import TextPlan
from prompts.learner import PromptLearner, TrainInfo
from prompts.parts import marking
from prompts.parts.context import STD
from prompts.parts.marker_bases import Painted
from prompts.parts.markers import make_markers
from prompts.parts.marking import ResizeMode
from prompts.parts.region_images import KeptFeatures, encode_drawn
from prompts.parts.region_texts import RegionTexts, framed, query_of
from prompts.parts.regions import Regions, RegionScorer, region_losses
from prompts.parts.settings import check_at_least, check_choice

MARGIN = 0.05  # by which the sigmoid of a colour goes beyond 0 and 1: the released red has no green, which 0 itself never is
NoTarget = Literal["skip", "logit"]


def bounded(raw: Tensor) -> Tensor:
    """Numbers from 0 to 1 of raw ones, by a sigmoid that is a little wider and cut. Gradients pass the cut."""
    wide = (1 + 2 * MARGIN) * raw.sigmoid() - MARGIN
    return wide + (wide.clamp(0, 1) - wide).detach()


def unbounded(values: Tensor) -> Tensor:
    """The raw numbers of numbers from 0 to 1."""
    return torch.logit((values + MARGIN) / (1 + 2 * MARGIN))


class LearnedCPT(RegionScorer, PromptLearner):
    """Few-shot scores of proposals. With `n_before` 0 training starts at the zero-shot scores of the same marker.

    Args:
        marker: one of `prompts.parts.markers`, by name or with options.
        n_before: random context vectors in front of the marker's sentence.
        learn_context: the words of the sentence around the query are vectors that learn, beside those of `n_before`.
        learn_marker: its colour and its transparency learn: of fill_box, fill_mask, outline_box, ellipse.
        temperature: a factor of all scores learns.
        none: of expressions whose thing no proposal covers: skip, or a further logit that learns and is used in training alone.
        marker_lr: the rate of the marker and the temperature; null: that of `optim`.
        resize_mode, chunk: as in `CPT`.

    Raises:
        ValueError: nothing that learns, an unknown choice, or a marker without a colour of its own.
    """

    training_only = ("none_logit",)

    def __init__(
        self,
        marker: Any = "fill_box",
        n_before: int = 0,
        learn_context: bool = True,
        learn_marker: bool = True,
        temperature: bool = False,
        none: NoTarget = "skip",
        marker_lr: float | None = None,
        resize_mode: ResizeMode = "squash",
        chunk: int = 64,
    ):
        super().__init__()
        check_choice("none", none, NoTarget)
        check_choice("resize_mode", resize_mode, ResizeMode)
        check_at_least(0, n_before=n_before, marker_lr=marker_lr)
        check_at_least(1, chunk=chunk)
        self.marker = make_markers([marker])[0]
        if learn_marker and not isinstance(self.marker, Painted):
            raise ValueError(
                f"method.marker={marker!r} has no colour that could be learned: set method.learn_marker=false, or fill_box."
            )
        if not (learn_context or learn_marker or n_before):
            raise ValueError(
                "method.learn_context=false, learn_marker=false and n_before=0 leave nothing to learn: choose method=cpt."
            )
        self.needs_masks = self.marker.needs_mask
        self.n_before, self.learn_context, self.learn_marker = n_before, learn_context, learn_marker
        self.with_temperature, self.none, self.marker_lr = temperature, none, marker_lr
        self.resize_mode, self.chunk = resize_mode, chunk
        self.texts, self.kept, self._kept_for = RegionTexts(), KeptFeatures(), b""

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes the context, from the words of the marker's sentence, and the marker as it is released."""
        encode = clip.tokenizer.encode
        self.words = [encode(part) for part in self.marker.text.split("{}")]
        framed(clip.tokenizer, [0] * (self.n_before + len(self.words[0])), "x", self.words[1])  # ValueError without room
        learned = [i for part in self.words for i in part] if self.learn_context else []
        if not (learned or self.n_before or self.learn_marker):
            raise ValueError(f"the marker's text {self.marker.text!r} has no words to learn: set method.n_before.")
        if learned or self.n_before:
            rows = [STD * torch.randn(self.n_before, clip.text_width)]
            rows += [clip.embed_tokens(torch.tensor(learned)).cpu()] if learned else []
            self.ctx = nn.Parameter(torch.cat(rows))  # (n,D)
        if self.learn_marker:
            marker: Any = self.marker
            released = torch.tensor([*marker.colour, marker.alpha], dtype=torch.float64) / 255
            self.look = nn.Parameter(unbounded(released).float())  # (4,) red, green, blue, alpha, raw
        if self.with_temperature:
            self.log_factor = nn.Parameter(torch.zeros(()))
        if self.none == "logit":
            self.none_logit = nn.Parameter(torch.zeros(()))

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Nothing: there are no classes."""

    @property
    def appearance(self) -> Tensor:
        """(4,) the learned marker's red, green, blue and alpha, from 0 to 1."""
        return bounded(self.look)

    def encode_queries(self, clip: FrozenCLIP, texts: Sequence[str]) -> Tensor:
        """(B,d) of unit length: the expressions within the context."""
        if not hasattr(self, "ctx"):
            return self.texts.features(clip, self.marker.text, texts)
        queries = [query_of(text) for text in texts]
        each = list(dict.fromkeys(queries))
        before, after = self.words
        slots = iter(range(-1, -1 - len(self.ctx), -1))
        in_front = [next(slots) for _ in range(self.n_before)]
        if self.learn_context:
            before, after = [next(slots) for _ in before], [next(slots) for _ in after]
        plan = TextPlan([framed(clip.tokenizer, [*in_front, *before], query, after) for query in each])
        encoded = F.normalize(clip.encode_text(plan, TowerPrompts(Rows(self.ctx))).float(), dim=-1)
        return encoded[torch.tensor([each.index(query) for query in queries], device=encoded.device)]

    def draw(self, image: Tensor, boxes: Tensor, masks: Tensor | None = None) -> Tensor | list[Tensor]:
        """Marked copies (N,3,H,W) of an image (3,H,W) uint8, for boxes (N,4) and masks (N,H,W): in levels from 0 to 255 where
        the marker learns, whose gradients come from its own place alone; else uint8, and crops as a list."""
        if not self.learn_marker:
            return self.marker.mark(image, boxes, masks)
        levels, (height, width) = image.float(), image.shape[-2:]
        places = marking.clamp_boxes(torch.as_tensor(boxes, dtype=torch.float32, device=levels.device), height, width)
        area = self.marker.area(places, height, width, None if masks is None else masks.to(levels.device).bool())
        look = self.appearance
        return torch.where(area[:, None], marking.blend(levels, look[:3] * 255, look[3]), levels)

    def scores_of(self, clip: FrozenCLIP, regions: Regions) -> list[Tensor]:
        """logit_scale x cosine: (N_i,) float32 for each expression. Copies are kept by their keys where the marker does not
        learn in this call."""
        training = torch.is_grad_enabled()
        learns = self.learn_marker and training
        if self.learn_marker and (now := self.look.detach().cpu().numpy().tobytes()) != self._kept_for:
            self.kept, self._kept_for = KeptFeatures(), now  # the marker is another one

        def encoded(some: list[int]) -> list[Tensor]:
            def draw(at: int, first: int, last: int) -> Tensor | list[Tensor]:
                return self.draw(*regions.copies(clip.device, some[at], slice(first, last)))

            with torch.set_grad_enabled(learns):
                return encode_drawn(clip, [len(regions.boxes[i]) for i in some], draw, self.chunk, self.resize_mode)

        def make(wanted: list[int]) -> list[Tensor]:
            if learns or not training:
                return encoded(wanted)
            # The last bits of a feature depend on what is encoded beside it. What training keeps is encoded image by image: a
            # resumed run meets its images in other batches first, and must go on as if it had not stopped.
            return [features for i in wanted for features in encoded([i])]

        keys = [None] * len(regions.boxes) if learns else regions.copy_keys("learned")
        features = self.kept.of(clip, keys, make)
        vectors = self.encode_queries(clip, regions.texts)
        factor = clip.logit_scale * (self.log_factor.exp() if self.with_temperature else 1)
        return [factor * (f @ t) for f, t in zip(features, vectors, strict=True)]

    def grounding_losses(self, scores: Sequence[Tensor], targets: Sequence[int]) -> dict[str, Tensor]:
        """{"ce": (B,)}, see `region_losses`. A target of -1, no proposal, costs nothing, or is the further logit's."""
        return region_losses(scores, targets, self.none_logit if self.none == "logit" else None)

    def set_bank(self, clip: FrozenCLIP, texts: Sequence[str]) -> None:
        """Nothing: what is learned needs no captions to be measured against."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The context follows `optim`; the marker and the temperature have no decay, and perhaps a rate of their own."""
        named = {name: p for name, p in self.named_parameters() if p.requires_grad}
        own: dict[str, Any] = {"weight_decay": 0.0} | ({} if self.marker_lr is None else {"lr": self.marker_lr})
        groups: list[Mapping[str, Any]] = [
            {"params": [p for name, p in named.items() if name == "ctx"]},
            {"params": [p for name, p in named.items() if name != "ctx"], **own},
        ]
        return [dict(group) for group in groups if group["params"]]
