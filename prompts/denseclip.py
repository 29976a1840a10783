"""DenseCLIP (Rao et al., CVPR 2022, arXiv 2112.01518): segmentation by a feature pyramid that a score map of image and class
texts is concatenated to. docs/denseclip.md says what is published and what is inferred.

Shapes: B images of H x W pixels, K classes, h x w positions of a map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.learner import PromptLearner, TrainInfo
from prompts.parts.guided_maps import Guidance, GuidedMaps
from prompts.parts.rank_norm import Norm, RankBatchNorm
from prompts.parts.segmentation_heads import SemanticFPN, UPerNet
from prompts.parts.settings import check_at_least, check_choice
from prompts.parts.text_branch import learner_of
from prompts.parts.training_draws import Draws, Step

Head = Literal["fpn", "upernet", "none"]
IGNORE = 255  # of label maps: pixels without a class
HEADS = {"fpn": SemanticFPN, "upernet": UPerNet}
CHANNELS = {"fpn": 256, "upernet": 512}  # mmsegmentation's


@dataclass(frozen=True)
class DenseOutputs:
    """Predictions for a batch's pixels, float32: `logits` (B,K,h,w), and the cosines of the score map (B,K,h',w'), None without
    texts. Both cover the images exactly, each at its own resolution."""

    logits: Tensor
    score_map: Tensor | None


class DenseCLIP(PromptLearner):
    """Semantic segmentation with class texts conditioned on the image.

    Args:
        guidance: where the image conditions the class texts: "post" after the text tower, "pre" before it, "text" nowhere;
            "none": no texts at all, CLIP-FPN.
        text: {name: METHOD, ...}, another method whose class texts are used instead of those with contexts, and those of its
            settings that differ from its constructor's defaults. Its losses, head and visual prompts are not used.
        n_ctx: contexts between the first token and the raw class name.
        head: Semantic FPN, UPerNet, or "none": the score map alone, which then serves any class list.
        channels: width of the head; None: 256 for fpn, 512 for upernet.
        norm: normalisation of maps: over the batch of all ranks, as published, or over groups of channels. "batch" refuses
            micro-batches (accumulate), which have no statistics of the whole batch.
        head_dropout: rate of the dropout of whole channels before the last layer, in training.
        tau: the temperature of the score map in its loss, fixed.
        score_weight: weight of the score map's loss; 0 leaves it out.
        neck_rate: factor of the learning rate of the neck, which makes a pyramid of a vision transformer's maps. In the
            released code the neck is a part of the backbone.
        blocks, decoder_width, decoder_heads, decoder_layers, dropout, class_embedding_twice: as `GuidedMaps` takes them.

    Raises:
        ValueError: a value out of range, or settings that exclude each other; from `setup`: a CLIP without such maps,
            micro-batches where `norm` is "batch".
    """

    offers = ("pixel logits",)
    takes_captions = False
    trains_clip = True

    def __init__(
        self,
        guidance: Guidance = "post",
        text: Mapping[str, Any] | None = None,
        n_ctx: int = 8,
        decoder_width: int = 256,
        decoder_heads: int = 4,
        decoder_layers: int = 3,
        dropout: float = 0.1,
        head: Head = "fpn",
        channels: int | None = None,
        norm: Norm = "batch",
        head_dropout: float = 0.1,
        blocks: Sequence[int] | None = None,
        tau: float = 0.07,
        score_weight: float = 0.4,
        neck_rate: float = 0.1,
        class_embedding_twice: bool = False,
    ):
        super().__init__()
        check_choice("guidance", guidance, Guidance)
        check_choice("head", head, Head)
        check_choice("norm", norm, Norm)
        check_at_least(0, n_ctx=n_ctx, score_weight=score_weight, neck_rate=neck_rate)
        check_at_least(
            1, decoder_width=decoder_width, decoder_heads=decoder_heads, decoder_layers=decoder_layers, channels=channels
        )
        for key, rate in {"dropout": dropout, "head_dropout": head_dropout}.items():
            if not 0 <= rate < 1:
                raise ValueError(f"method.{key}={rate}: give a share from 0 to below 1.")
        if tau <= 0:
            raise ValueError(f"method.tau={tau}: give a temperature above 0.")
        _check_widths(decoder_width, decoder_heads, norm, channels)
        if guidance == "none" and head == "none":
            raise ValueError("method.guidance=none and method.head=none leave nothing that says a class: give one of them.")
        self.learner = None if text is None else learner_of(text)
        if self.learner is not None:
            self.found_settings = {"text": dict(text) | dict(self.learner.found_settings)}
        self.options: dict[str, Any] = {
            "guidance": guidance,
            "n_ctx": n_ctx,
            "decoder_width": decoder_width,
            "decoder_heads": decoder_heads,
            "decoder_layers": decoder_layers,
            "dropout": dropout,
            "blocks": blocks,
            "norm": norm,
            "pyramid": head != "none",
            "class_embedding_twice": class_embedding_twice,
        }
        self.head_kind, self.channels, self.norm, self.head_dropout = head, channels or CHANNELS.get(head), norm, head_dropout
        self.tau, self.score_weight, self.neck_rate = tau, score_weight, neck_rate
        self.class_specific = head != "none" or bool(self.learner and self.learner.class_specific)
        gradients = n_ctx > 0 if self.learner is None else self.learner.uses_gradients
        self.uses_gradients = gradients or guidance in ("post", "pre") or head != "none"

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes contexts, context decoder, neck and head."""
        learner, self.learner = self.learner, None  # its tensors belong to `guided`
        self.guided = GuidedMaps(clip, info.classnames, text=learner, info=info, **self.options)
        self.head = None
        if self.head_kind != "none":
            sizes = self.channels, self.head_dropout, self.norm
            self.head = HEADS[self.head_kind](self.guided.channels, len(info.classnames), *sizes)
        if info.fit and info.accumulate > 1 and any(isinstance(module, RankBatchNorm) for module in self.modules()):
            raise ValueError(
                f"method.norm=batch normalises over the whole batch of a step, which accumulate={info.accumulate} divides: set "
                "method.norm=group or accumulate=1."
            )

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the class names."""
        self.guided.bind(clip, classnames)

    def segment(self, clip: FrozenCLIP, pixels: Tensor, step: Step | None = None) -> DenseOutputs:
        """Predictions for the pixels of images (B,3,H,W), uint8 or normalised, of any size.

        Args:
            step: the training step, which decides dropout and the images that count for BatchNorm. Given in training alone.
        """
        assert (step is not None) == self.training, "a training step is needed in training, and only there"
        draws = None if step is None else Draws(step, pixels.device)
        maps = self.guided(clip, pixels, draws)
        score_map = None if maps.score_map is None else maps.of_image(maps.score_map)
        if self.head is None:
            return DenseOutputs(score_map / self.tau, score_map)
        return DenseOutputs(maps.of_image(self.head(maps.levels, draws)), score_map)

    def dense_losses(self, out: DenseOutputs, mask: Tensor) -> dict[str, Tensor]:
        """The losses of images with label maps (B,H,W) uint8, each (B,): cross-entropy of the logits at the size of the label
        map, and that of the score map, weighted. Pixels labelled 255 are ignored; the mean is over all pixels, as in
        mmsegmentation, and 0 where all are ignored."""
        losses = {"ce": pixel_losses(out.logits, mask)}
        if out.score_map is not None and self.score_weight and self.head_kind != "none":
            losses["score_map"] = self.score_weight * pixel_losses(out.score_map / self.tau, mask)
        return losses

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Tensors whose name contains "norm" have no weight decay, as in the released code; those of the neck have their rate
        multiplied by `neck_rate`."""
        named = {name: p for name, p in self.named_parameters() if p.requires_grad}
        neck = {name: p for name, p in named.items() if name.startswith("guided.neck.")}
        norms = {name: p for name, p in named.items() if "norm" in name and name not in neck}
        rest = {name: p for name, p in named.items() if name not in neck and name not in norms}
        groups = {"rest": {}, "norms": {"weight_decay": 0.0}, "neck": {"factor": self.neck_rate}}
        tensors = {"rest": rest, "norms": norms, "neck": neck}
        return [{"params": list(tensors[key].values()), **settings} for key, settings in groups.items() if tensors[key]]


def _check_widths(decoder_width: int, decoder_heads: int, norm: Norm, channels: int | None) -> None:
    """ValueError for widths that nothing can be made of."""
    if decoder_width % decoder_heads:
        raise ValueError(
            f"method.decoder_width={decoder_width} cannot be divided among method.decoder_heads={decoder_heads}: give a "
            "multiple."
        )
    if norm == "group" and channels == 1:
        raise ValueError("method.norm=group normalises over several channels: give method.channels=2 or more.")


def pixel_losses(logits: Tensor, mask: Tensor) -> Tensor:
    """(B,): the cross-entropy of logits (B,K,h,w), resized to a label map (B,H,W), summed over the pixels that are not ignored
    and divided by the number of all pixels."""
    logits = F.interpolate(logits.float(), mask.shape[-2:], mode="bilinear", align_corners=False)
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(logits, mask.long(), ignore_index=IGNORE, reduction="none").mean((1, 2))
