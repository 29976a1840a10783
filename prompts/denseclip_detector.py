"""Detection and instance segmentation with DenseCLIP's features (Rao et al., CVPR 2022, arXiv 2112.01518, section 4.3):
RetinaNet or Mask R-CNN on a pyramid that a score map of image and class texts joins. docs/detection.md says what is published
and what is inferred.

Shapes: B images, K classes, N objects of an image, n found ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.learner import PromptLearner, TrainInfo
from prompts.parts.box_scores import STRIDE, score_loss, score_target
from prompts.parts.detectors import Detections, Detector, HeadNorm, MaskRCNNDetector, RetinaNetDetector, Seen, Target
from prompts.parts.guided_maps import Guidance, GuidedMaps, Maps
from prompts.parts.settings import check_at_least, check_choice
from prompts.parts.training_draws import Draws, Step

Kind = Literal["retinanet", "maskrcnn"]
KINDS: dict[str, type[Detector]] = {"retinanet": RetinaNetDetector, "maskrcnn": MaskRCNNDetector}
LEVELS = {"retinanet": (1, 2, 3), "maskrcnn": (0, 1, 2, 3)}  # of strides of about 4, 8, 16 and 32 pixels
SCALES = {"retinanet": 4.0, "maskrcnn": 8.0}
RESNET_STRIDES = (4, 8, 16, 32)


class DenseCLIPDetector(PromptLearner):
    """Boxes, and with Mask R-CNN masks, of the objects of a class list.

    Images of one size are seen together, others apart: what is found in an image, and its losses, depend on no other image.

    Args:
        detector: "retinanet" or "maskrcnn".
        guidance: where the image enters the class texts, as `DenseCLIP` has it; "none": no texts, the CLIP's features alone.
        n_ctx, decoder_width, decoder_heads, decoder_layers, dropout, blocks: as `GuidedMaps` takes them. Its maps are
            normalised over groups of channels: BatchNorm would let an image depend on others.
        levels: of the pyramid, by number, strides growing; null: as published, 1 to 3 for RetinaNet, 0 to 3 for Mask R-CNN.
        width: channels of the feature pyramid network and the heads.
        hidden: of the layers of Mask R-CNN that classify a region.
        sampled: how many anchors and how many regions of an image are drawn for the losses of Mask R-CNN, at most.
        anchor_scale: the side of a level's (smallest) anchors, in strides; null: 4 for RetinaNet, 8 for Mask R-CNN.
        head_norm: of the heads' convolutions: "none", as published, or "group": GroupNorm, with which they learn in few steps.
        tau: the temperature of the score map, in its loss and in the pyramid, as in the released code.
        score_weight: of the score map's loss; 0 leaves it out.
        least_score, most_boxes: what is found with no higher score is left out; at most so many boxes of an image are kept.
        neck_rate: the factor of the rate of what makes a pyramid of a vision transformer's maps.

    Raises:
        ValueError: a value out of range; from `setup`: a CLIP without such maps; from `detection_losses`: objects without masks
            where the detector needs them.
    """

    offers = ("boxes",)
    takes_captions = False
    trains_clip = True
    class_specific = True

    def __init__(
        self,
        detector: Kind = "retinanet",
        guidance: Guidance = "post",
        n_ctx: int = 8,
        decoder_width: int = 256,
        decoder_heads: int = 4,
        decoder_layers: int = 3,
        dropout: float = 0.1,
        blocks: Sequence[int] | None = None,
        levels: Sequence[int] | None = None,
        width: int = 256,
        hidden: int = 1024,
        sampled: Sequence[int] = (256, 512),
        anchor_scale: float | None = None,
        head_norm: HeadNorm = "none",
        tau: float = 0.07,
        score_weight: float = 1.0,
        least_score: float = 0.05,
        most_boxes: int = 100,
        neck_rate: float = 0.1,
    ):
        super().__init__()
        check_choice("detector", detector, Kind)
        check_choice("guidance", guidance, Guidance)
        check_choice("head_norm", head_norm, HeadNorm)
        check_at_least(0, n_ctx=n_ctx, score_weight=score_weight, neck_rate=neck_rate, least_score=least_score)
        check_at_least(1, decoder_width=decoder_width, decoder_heads=decoder_heads, decoder_layers=decoder_layers)
        check_at_least(1, width=width, hidden=hidden, most_boxes=most_boxes)
        if not 0 <= dropout < 1:
            raise ValueError(f"method.dropout={dropout}: give a share from 0 to below 1.")
        if tau <= 0 or (anchor_scale is not None and anchor_scale <= 0):
            raise ValueError(f"method.tau={tau} and method.anchor_scale={anchor_scale}: give numbers above 0.")
        levels = list(LEVELS[detector] if levels is None else levels)
        if not levels or levels != sorted(set(levels)) or not set(levels) <= set(range(4)):
            raise ValueError(f"method.levels={levels}: give different numbers from 0 to 3, the smallest first.")
        if len(sampled) != 2 or min(sampled) < 4:
            raise ValueError(f"method.sampled={list(sampled)}: give two numbers, 4 or more: of anchors and of regions.")
        self.kind, self.levels, self.width, self.hidden = detector, levels, width, hidden
        self.sampled = tuple(sampled)
        self.anchor_scale = anchor_scale or SCALES[detector]
        self.guidance, self.head_norm = guidance, head_norm
        self.of_maps: dict[str, Any] = {
            "guidance": guidance, "n_ctx": n_ctx, "decoder_width": decoder_width, "decoder_heads": decoder_heads,
            "decoder_layers": decoder_layers, "dropout": dropout, "blocks": blocks, "norm": "group",
            "score_factor": 1 / tau,
        }  # fmt: skip
        self.tau, self.score_weight = tau, score_weight
        self.least_score, self.most_boxes, self.neck_rate = least_score, most_boxes, neck_rate

    @property
    def needs_masks(self) -> bool:
        """Whether the objects of training images need masks."""
        return KINDS[self.kind].needs_masks

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes contexts, context decoder, neck and detector."""
        self.guided = GuidedMaps(clip, info.classnames, info=info, **self.of_maps)
        neck = self.guided.neck
        if self.guidance != "none" and self.guided.score_level not in self.levels:
            raise ValueError(
                f"method.levels={self.levels}: the score map joins level {self.guided.score_level} of this CLIP's pyramid, so "
                "that must be among them."
            )
        for i, level in enumerate(neck.levels if neck else ()):
            level.requires_grad_(i in self.levels)  # no loss reaches the others
        strides = [self.guided.unit[0] / 2**d for d in neck.doublings] if neck else RESNET_STRIDES
        self.stride = int(max(strides))
        more = {"hidden": self.hidden, "sampled": self.sampled} if self.kind == "maskrcnn" else {}
        self.detector = KINDS[self.kind](
            [self.guided.channels[i] for i in self.levels], [strides[i] for i in self.levels], len(info.classnames), self.width,
            self.anchor_scale, self.least_score, self.most_boxes, self.head_norm, **more,
        )  # fmt: skip
        self.classes = len(info.classnames)

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the class names."""
        self.guided.bind(clip, classnames)

    def detect(self, clip: FrozenCLIP, pixels: Tensor, size: Tensor) -> list[Detections]:
        """What is found in images (B,3,h,w), uint8 or normalised, at whose top left corner the images of `size` (B,2), height
        and width, stand. Boxes are in their pixels."""
        found: dict[int, Detections] = {}
        for (height, width), places in by_size(size).items():
            maps = self._maps(clip, pixels[places, :, :height, :width])
            with torch.autocast(pixels.device.type, enabled=False):
                found |= zip(places, self.detector.detect(self._seen(maps, (height, width))), strict=True)
        return [found[place] for place in range(len(pixels))]

    def detection_losses(
        self, clip: FrozenCLIP, pixels: Tensor, size: Tensor, targets: Sequence[Target], step: Step
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of a batch as `detect` takes it, by name, each (B,); and (B,) the largest of each image's outputs."""
        if self.needs_masks and any(target.masks is None for target in targets):
            raise ValueError(
                "Mask R-CNN learns masks, and these objects have none: give data with masks, or detector=retinanet."
            )
        parts: dict[str, list[tuple[int, Tensor]]] = {}
        for (height, width), places in by_size(size).items():
            own = [_cut(targets[place], height, width) for place in places]
            part = Step(step.seed, step.index[places], step.weight[places])
            maps = self._maps(clip, pixels[places, :, :height, :width], Draws(part, pixels.device))
            seeds = [(step.seed * 1_000_003 + index) % 2**63 for index in part.index.tolist()]
            with torch.autocast(pixels.device.type, enabled=False):
                losses, outputs = self.detector.losses(self._seen(maps, (height, width)), own, seeds)
                if maps.score_map is not None and self.score_weight:
                    losses["score_map"] = self.score_weight * self._score_losses(maps, own)
            losses["outputs"] = outputs.detach().flatten(1).abs().amax(1)
            for name, values in losses.items():
                parts.setdefault(name, []).extend(zip(places, values, strict=True))
        whole = {
            name: torch.stack([value for _, value in sorted(rows, key=lambda row: row[0])]) for name, rows in parts.items()
        }
        return {name: values for name, values in whole.items() if name != "outputs"}, whole["outputs"]

    def _maps(self, clip: FrozenCLIP, pixels: Tensor, draws: Draws | None = None) -> Maps:
        """The maps of images of one size, padded with the mean colour so that each level has a whole number of strides."""
        height, width = (-side % self.stride for side in pixels.shape[-2:])
        return self.guided(clip, F.pad(clip.normalised(pixels), (0, width, 0, height)), draws)

    def _seen(self, maps: Maps, size: tuple[int, int]) -> Seen:
        return Seen([maps.levels[i] for i in self.levels], size, maps.padded)

    def _score_losses(self, maps: Maps, targets: Sequence[Target]) -> Tensor:
        """(B,): the loss of each image's score map."""
        grid = max(1, maps.padded[0] // STRIDE), max(1, maps.padded[1] // STRIDE)
        wanted = [score_target(target.boxes, target.labels, self.classes, grid) for target in targets]
        return torch.stack([score_loss(m, *of_image, self.tau) for m, of_image in zip(maps.score_map, wanted, strict=True)])

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Tensors whose name contains "norm" have no weight decay, as in the released code; those of the neck have a factor of
        the rate."""
        groups: dict[str, list[Tensor]] = {"rest": [], "norms": [], "neck": []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                kind = "neck" if name.startswith("guided.neck.") else "norms" if "norm" in name else "rest"
                groups[kind].append(parameter)
        settings: dict[str, dict[str, float]] = {"rest": {}, "norms": {"weight_decay": 0.0}, "neck": {"factor": self.neck_rate}}
        return [{"params": tensors, **settings[kind]} for kind, tensors in groups.items() if tensors]


def by_size(size: Tensor) -> dict[tuple[int, int], list[int]]:
    """Places in a batch by the size (height, width) of their image, in the order of their first."""
    places: dict[tuple[int, int], list[int]] = {}
    for place, (height, width) in enumerate(size.tolist()):
        places.setdefault((height, width), []).append(place)
    return places


def _cut(target: Target, height: int, width: int) -> Target:
    """The target with masks of the image alone, without what was padded."""
    return target if target.masks is None else replace(target, masks=target.masks[:, :height, :width])
