"""Soft labels: the class probabilities that a frozen zero-shot CLIP gives, and how far a student is from them.

Shapes: B images, C classes, K classes in use, S image size in pixels, d width of the teacher's embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.clip import FrozenCLIP
from prompts.context import fixed_plan


class ZeroShotTeacher:
    """A frozen CLIP that is built when first asked. No module, so that no learner's tensors, parameters or files hold it.

    `make` builds it; its text features of a class list are computed once. "{}" in `template` stands for the class name.
    """

    def __init__(self, make: Callable[[], FrozenCLIP], template: str = "a photo of a {}."):
        self.make, self.template = make, template
        self.clip: FrozenCLIP | None = None
        self.text: tuple[list[str], Tensor] | None = None  # a class list and its features (C,d)

    @torch.no_grad()
    def logits(self, images: Tensor, spec: Mapping[str, Any], classnames: Sequence[str], ids: Tensor | None = None) -> Tensor:
        """(B,3,S,S), normalised as a student's `spec` says -> (B,C), or (B,K) over the classes with these ids."""
        clip = self._ready(images)
        if self.text is None or self.text[0] != list(classnames) or self.text[1].device != images.device:
            self.text = list(classnames), clip.encode_text(fixed_plan(clip, classnames, self.template))
        text = self.text[1] if ids is None else self.text[1][ids]
        return clip.logits(clip.encode_image(converted(images, spec, clip.image_spec)), text)

    def _ready(self, images: Tensor) -> FrozenCLIP:
        if self.clip is None:
            self.clip = self.make().requires_grad_(False).eval()
            device = images.device.type
            if device == "cuda" and torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16:
                self.clip.store_bf16()
        if self.clip.device != images.device:
            self.clip.to(images.device)
        return self.clip


def converted(images: Tensor, spec: Mapping[str, Any], wanted: Mapping[str, Any]) -> Tensor:
    """The same pictures in another model's size (bicubic) and normalisation; the same tensor where nothing differs."""
    if all(spec[key] == wanted[key] for key in ("size", "mean", "std")):
        return images

    def channels(values: Sequence[float]) -> Tensor:
        return images.new_tensor(values)[:, None, None]

    pixels = images * channels(spec["std"]) + channels(spec["mean"])
    if spec["size"] != wanted["size"]:
        size = (wanted["size"], wanted["size"])
        pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    return (pixels - channels(wanted["mean"])) / channels(wanted["std"])


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) in nats between the softmax of logits (B,K) at a temperature: (B,). Entries that are -inf in both
    have no part in it."""
    masked = teacher.isneginf()
    target = (teacher / temperature).log_softmax(-1)
    reached = (student / temperature).log_softmax(-1)
    return (target.exp() * (target - reached).masked_fill(masked, 0.0)).sum(-1)


def soft_cross_entropy(student: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits (B,K) with probabilities (B,K): (B,). Logits may be -inf where the probability is 0."""
    return -(target * student.log_softmax(-1).masked_fill(student.isneginf(), 0.0)).sum(-1)
