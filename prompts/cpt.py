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
from prompts.parts.colour_form import ANYTHING, Calibration, ColourForm, colours_of
from prompts.parts.marker_bases import PHOTO, Marker
from prompts.parts.markers import make_markers
from prompts.parts.marking import ResizeMode
from prompts.parts.region_images import KeptFeatures, encode_drawn
from prompts.parts.region_texts import RegionTexts, drawn_captions
from prompts.parts.regions import Regions, RegionScorer, region_losses
from prompts.parts.settings import check_at_least, check_choice

Combine = Literal["sum", "max"]
Form = Literal["per_box", "colours"]


class CPT(RegionScorer, GradientFree):
    """Zero-shot scores of proposals.

    Args:
        markers: what is drawn, each on copies of its own: names or {name: ..., options} of `prompts.parts.markers`.
        combine: how the scores of several markers become one.
        clips: further CLIPs beside the run's own, by any name, each what makes one; loaded once, when they are first needed.
        combine_clips: how the scores of several CLIPs, by one marker, become one.
        form: each proposal on a copy of its own, or several in one image, each in a colour of its own
            (`prompts.parts.colour_form`, as the next two).
        colours: the colours of the latter.
        calibrate: how it removes the preference for a colour's word.
        subtract: how many captions of the bank are drawn whose mean score is subtracted (0: none), see `set_bank`.
        bank_seed: draws them.
        resize_mode: how a marked copy becomes a CLIP's square.
        chunk: how many marked copies exist at once, at most.

    Raises:
        ValueError: an unknown choice or marker; from `region_scores`: no bank, no proposals, a box outside its image.
    """

    def __init__(
        self,
        markers: Sequence[Any] = ("fill_box",),
        combine: Combine = "sum",
        clips: Mapping[str, Callable[..., FrozenCLIP]] | None = None,
        combine_clips: Combine = "sum",
        form: Form = "per_box",
        colours: Sequence[str] | Mapping[str, Sequence[float]] | str | None = None,
        calibrate: Calibration = "cyclic",
        subtract: int = 0,
        bank_seed: int = 0,
        resize_mode: ResizeMode = "squash",
        chunk: int = 64,
    ):
        super().__init__()
        check_choice("combine", combine, Combine)
        check_choice("combine_clips", combine_clips, Combine)
        check_choice("form", form, Form)
        check_choice("calibrate", calibrate, Calibration)
        check_choice("resize_mode", resize_mode, ResizeMode)
        check_at_least(0, subtract=subtract, bank_seed=bank_seed)
        check_at_least(1, chunk=chunk)
        self.markers: list[Marker] = make_markers(markers)
        self.needs_masks = any(marker.needs_mask for marker in self.markers)
        if colours is not None and form != "colours":
            raise ValueError("method.colours is for method.form=colours; with per_box give method.markers a colour.")
        looks = colours_of(colours) if form == "colours" else {}
        self.colours = ColourForm(self.markers, looks, calibrate) if looks else None
        self.found_settings = {"colours": {word: list(look) for word, look in looks.items()}} if looks else {}
        if self.colours and subtract:
            raise ValueError("method.form=colours has a calibration of its own: set method.subtract=0.")
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
    def scores_of(self, clip: FrozenCLIP, regions: Regions) -> list[Tensor]:
        """logit_scale x cosine, combined over markers and CLIPs: (N_i,) float32 for each expression."""
        score = self._scores_of_colours if self.colours else self._scores_of_marker
        of_markers = []
        for number, marker in enumerate(self.markers):
            keys = regions.copy_keys(number)
            of_clips = [score(model, marker, regions, keys) for model in self.clips(clip)]
            of_markers.append([combined(scores, self.combine_clips) for scores in zip(*of_clips, strict=True)])
        return [combined(scores, self.combine) for scores in zip(*of_markers, strict=True)]

    def _scores_of_marker(
        self, clip: FrozenCLIP, marker: Marker, regions: Regions, keys: Sequence[Hashable | None]
    ) -> list[Tensor]:
        """Scores (N_i,) by one CLIP and one marker."""

        def draw(i: int, part: slice) -> Tensor | list[Tensor]:
            return marker.mark(*regions.copies(clip.device, i, part))

        features = self._encoded(clip, list(map(len, regions.boxes)), draw, keys)
        vectors = self.text_vectors(clip, marker.text, regions.texts)
        return [clip.logit_scale * (f @ t) for f, t in zip(features, vectors, strict=True)]

    def _scores_of_colours(
        self, clip: FrozenCLIP, marker: Marker, regions: Regions, keys: Sequence[Hashable | None]
    ) -> list[Tensor]:
        """Scores (N_i,) by one CLIP, the proposals of an image painted together."""
        form, texts = self.colours, regions.texts
        passes = [form.passes(len(boxes)) for boxes in regions.boxes]

        def draw(i: int, part: slice) -> Tensor:
            image, boxes, masks = regions.copies(clip.device, i, slice(None))
            return torch.stack([form.paint(image, boxes, masks, pairs) for pairs in passes[i][part]])

        features = self._encoded(clip, list(map(len, passes)), draw, keys)
        asked = torch.stack([self.texts.features(clip, sentence, texts) for sentence in form.sentences], 1)  # (B,M,d)
        neutral = torch.cat([self.texts.features(clip, sentence, [ANYTHING]) for sentence in form.neutral])  # (M,d)
        scale = clip.logit_scale
        each = zip(features, asked, regions.boxes, strict=True)
        return [form.scores(scale * (f @ t.T), scale * (f @ neutral.T), len(boxes)) for f, t, boxes in each]

    def _encoded(
        self,
        clip: FrozenCLIP,
        counts: Sequence[int],
        draw: Callable[[int, slice], Tensor | list[Tensor]],
        keys: Sequence[Hashable | None],
    ) -> list[Tensor]:
        """The unit features of each image's drawn copies, those that are kept not computed again."""

        def make(wanted: list[int]) -> list[Tensor]:
            def some(at: int, first: int, last: int) -> Tensor | list[Tensor]:
                return draw(wanted[at], slice(first, last))

            return encode_drawn(clip, [counts[i] for i in wanted], some, self.chunk, self.resize_mode)

        return self.kept.of(clip, keys, make)

    def grounding_losses(self, scores: Sequence[Tensor], targets: Sequence[int]) -> dict[str, Tensor]:
        """{"ce": (B,)}, see `region_losses`; no loss where the target is -1."""
        return region_losses(scores, targets)


def combined(scores: Sequence[Tensor], how: Combine) -> Tensor:
    """Scores (N,) of several markers or CLIPs as one, (N,)."""
    stacked = torch.stack(list(scores))
    return stacked.sum(0) if how == "sum" else stacked.amax(0)
