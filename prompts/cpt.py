"""CPT on CLIP (Yao et al., arXiv 2109.11797; on CLIP as in ReCLIP's code): zero-shot grounding by what is drawn on the image.

Each proposal is marked on a copy of the image, a sentence names the mark, and CLIP says how well copy and sentence agree.
docs/cpt.md says what is published and what is inferred.

Shapes: B images with one expression each, N_i proposals of image i, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.learner import GradientFree
from prompts.parts.markers import PHOTO, Marker, make_markers
from prompts.parts.marking import ResizeMode
from prompts.parts.region_images import KeptFeatures, encode_drawn
from prompts.parts.region_texts import RegionTexts, drawn_captions
from prompts.parts.settings import check_at_least, check_choice

Combine = Literal["sum", "max"]


def check_regions(images: Sequence[Tensor], boxes: Sequence[Tensor], texts: Sequence[str], *more: Sequence[Any] | None) -> None:
    """ValueError where there are not as many of each as there are images, or an image has no proposal."""
    counts = [len(images), len(boxes), len(texts), *(len(part) for part in more if part is not None)]
    if len(set(counts)) > 1:
        raise ValueError(f"{counts} images, lists of boxes, expressions and so on: give one of each for every image.")
    if empty := [i for i, of_image in enumerate(boxes) if not len(of_image)]:
        raise ValueError(
            f"the expression {texts[empty[0]]!r} has no proposals to choose among: give its image a box, such as all of it."
        )


class CPT(GradientFree):
    """Zero-shot scores of proposals.

    Args:
        markers: what is drawn, each on copies of its own: names or {name: ..., options} of `prompts.parts.markers`.
        combine: how the scores of several markers become one.
        clips: further CLIPs beside the run's own, by any name, each what makes one; loaded once, when they are first needed.
        combine_clips: how the scores of several CLIPs, by one marker, become one.
        subtract: how many captions of the bank are drawn whose mean score is subtracted (0: none), see `set_bank`.
        bank_seed: draws them.
        resize_mode: how a marked copy becomes a CLIP's square.
        chunk: how many marked copies exist at once, at most.

    Raises:
        ValueError: an unknown choice or marker; from `region_scores`: no bank, no proposals, a box outside its image.
    """

    offers = ("scores of regions",)

    def __init__(
        self,
        markers: Sequence[Any] = ("fill_box",),
        combine: Combine = "sum",
        clips: Mapping[str, Callable[..., FrozenCLIP]] | None = None,
        combine_clips: Combine = "sum",
        subtract: int = 0,
        bank_seed: int = 0,
        resize_mode: ResizeMode = "squash",
        chunk: int = 64,
    ):
        super().__init__()
        check_choice("combine", combine, Combine)
        check_choice("combine_clips", combine_clips, Combine)
        check_choice("resize_mode", resize_mode, ResizeMode)
        check_at_least(0, subtract=subtract, bank_seed=bank_seed)
        check_at_least(1, chunk=chunk)
        self.markers: list[Marker] = make_markers(markers)
        self.combine, self.combine_clips, self.resize_mode, self.chunk = combine, combine_clips, resize_mode, chunk
        self.subtract, self.bank_seed = subtract, bank_seed
        self.make_clips, self._made = dict(clips or {}), {}
        self.texts, self.kept = RegionTexts(), KeptFeatures()
        self._bank: list[str] | None = None

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Nothing: there are no classes."""

    def clips(self, clip: FrozenCLIP) -> list[FrozenCLIP]:
        """The run's CLIP and the further ones, frozen, on its device."""
        for name, make in self.make_clips.items():
            if name not in self._made:
                self._made[name] = make().requires_grad_(False).eval()
            if self._made[name].device != clip.device:
                self._made[name].to(clip.device)
        return [clip, *self._made.values()]

    @property
    def needs_masks(self) -> bool:
        """Whether a marker draws the masks of proposals."""
        return any(marker.needs_mask for marker in self.markers)

    def set_bank(self, clip: FrozenCLIP, texts: Sequence[str]) -> None:
        """Takes the captions whose mean score is subtracted from a query's (FGVP's code): `subtract` of them, in the sentence
        "a photo of ...". ValueError where there are none."""
        if not texts:
            raise ValueError("the bank of captions for score subtraction is empty: give texts, or method.subtract=0.")
        self._bank = drawn_captions(texts, self.subtract, self.bank_seed)

    @torch.no_grad()
    def text_vectors(self, clip: FrozenCLIP, template: str, texts: Sequence[str]) -> Tensor:
        """(B,d): what the unit features of copies are multiplied with."""
        features = self.texts.features(clip, template, texts)
        if not self.subtract:
            return features
        if self._bank is None:
            raise ValueError(
                "method.subtract subtracts the scores of a bank of captions, and there is none: set method.subtract=0."
            )
        return features - self.texts.features(clip, PHOTO, self._bank).mean(0)

    @torch.no_grad()
    def region_scores(
        self,
        clip: FrozenCLIP,
        images: Sequence[Tensor],
        boxes: Sequence[Tensor],
        texts: Sequence[str],
        masks: Sequence[Tensor | None] | None = None,
        keys: Sequence[Hashable] | None = None,
    ) -> list[Tensor]:
        """How well each proposal fits its expression: logit_scale x cosine, combined over markers and CLIPs.

        Args:
            images: (3,H,W) uint8 of each expression.
            boxes: (N_i,4) of its proposals, in pixels of the image, with exclusive far edges.
            texts: the expressions.
            masks: (N_i,H,W) bool of the proposals, for markers that draw them.
            keys: what tells the images apart; copies of an image whose key came before are not encoded again.

        Returns:
            (N_i,) float32 for each expression.
        """
        check_regions(images, boxes, texts, masks, keys)
        boxes = [torch.as_tensor(of_image, dtype=torch.float32) for of_image in boxes]
        of_markers = []
        for number, marker in enumerate(self.markers):
            named = region_keys(keys, boxes, number)
            of_clips = []
            for model in self.clips(clip):
                features = self.kept.of(model, named, self._maker(model, marker, images, boxes, masks))
                vectors = self.text_vectors(model, marker.text, texts)
                of_clips.append([model.logit_scale * (f @ t) for f, t in zip(features, vectors, strict=True)])
            of_markers.append([combined(scores, self.combine_clips) for scores in zip(*of_clips, strict=True)])
        return [combined(scores, self.combine) for scores in zip(*of_markers, strict=True)]

    def grounding_losses(self, scores: Sequence[Tensor], targets: Sequence[int]) -> dict[str, Tensor]:
        """{"ce": (B,)}, see `region_losses`; no loss where the target is -1."""
        return region_losses(scores, targets)

    def _maker(
        self, clip: FrozenCLIP, marker: Marker, images: Sequence[Tensor], boxes: Sequence[Tensor], masks: Any
    ) -> Callable[[list[int]], list[Tensor]]:
        """What encodes the marked copies of the images at some positions."""

        def make(wanted: list[int]) -> list[Tensor]:
            def draw(at: int, first: int, last: int) -> Tensor | list[Tensor]:
                i, part = wanted[at], slice(first, last)
                of_image = None if masks is None or masks[i] is None else masks[i][part]
                return marker.mark(images[i].to(clip.device), boxes[i][part], of_image)

            return encode_drawn(clip, [len(boxes[i]) for i in wanted], draw, self.chunk, self.resize_mode)

        return make


def region_keys(keys: Sequence[Hashable] | None, boxes: Sequence[Tensor], what: Hashable) -> list[Hashable | None]:
    """For each image what tells its copies apart from all others: its key, its boxes and what is drawn; None without keys."""
    if keys is None:
        return [None] * len(boxes)
    return [(what, key, of_image.numpy(force=True).tobytes()) for key, of_image in zip(keys, boxes, strict=True)]


def region_losses(scores: Sequence[Tensor], targets: Sequence[int], none: Tensor | None = None) -> dict[str, Tensor]:
    """The cross-entropy of each expression's proposals.

    Args:
        scores: (N_i,) of each expression.
        targets: which proposal is meant, or -1: none of them.
        none: a scalar; the score of "none of them" is the mean of the proposals' and this. Without it -1 costs nothing.

    Returns:
        {"ce": (B,)} nats
    """
    losses = []
    for of_image, target in zip(scores, targets, strict=True):
        if none is not None:
            of_image = torch.cat([of_image, (of_image.mean() + none)[None]])
        logs = of_image.log_softmax(0)
        losses.append(of_image.sum() * 0 if target < 0 and none is None else -logs[target])
    return {"ce": torch.stack(losses)}


def combined(scores: Sequence[Tensor], how: Combine) -> Tensor:
    """Scores (N,) of several markers or CLIPs as one, (N,)."""
    stacked = torch.stack(list(scores))
    return stacked.sum(0) if how == "sum" else stacked.amax(0)
