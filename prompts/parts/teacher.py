"""A frozen zero-shot CLIP as a teacher: its features, its logits, and how far a student's are from them.

Shapes: B images, C classes, K classes in use, S image size in pixels, d width of the teacher's embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.engine.clip import IMAGENET_TEMPLATES, FrozenCLIP
from prompts.engine.sending import send
from prompts.engine.text_plan import Caption, TextPlan, token_lists
from prompts.parts.context import fixed_plan

if TYPE_CHECKING:
    from prompts.learner import Outputs

PLAIN = "a photo of a {}."
MOST_KEPT = 2**17  # captions whose features are kept: 0.3 GB at d = 512
SIXTY_TEMPLATES = [PLAIN, *(t for t in IMAGENET_TEMPLATES if t != PLAIN)][:60]  # PromptSRC's list, which DPL's code has, too


class Teacher:
    """The CLIP that is prompted, or one that `make` builds when training first needs it. Its text feature of a class is the
    mean over `templates` of un-normalised features, then normalised, as in PromptSRC's code.

    Text is encoded once per class list, when training first needs it, and never for the class lists of an evaluation. With
    several templates, a caption is encoded by itself and kept, as it comes again in other lists. Not an nn.Module, so that
    neither the CLIP nor the features become part of a learner's state.
    """

    def __init__(self, templates: Sequence[str] = ("a photo of a {}.",), make: Callable[[], FrozenCLIP] | None = None):
        if not templates:
            raise ValueError("the frozen teacher needs at least one template: name some, or give the dataset its own.")
        self.templates, self.make = list(templates), make
        self._made: FrozenCLIP | None = None
        self._cache: tuple[tuple[list[str], torch.device], Tensor] | None = None  # of the text features
        self._captions: dict[str, Tensor] = {}  # (d,) sums over the templates, which do not depend on the rest of a list

    def bind(self, student: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Takes the class list, and the CLIP whose preprocessing the images have. Encodes nothing. ValueError
        where the teacher is the student itself and that is trained."""
        if self.make is None and student.trained:
            raise ValueError(
                "clip.trainable changes the CLIP, which is this method's own teacher and must stay as it was: leave "
                "clip.trainable at null, or choose another method."
            )
        self.student, self.classnames = student, list(classnames)

    @property
    def clip(self) -> FrozenCLIP:
        """The teacher's CLIP, frozen, on the student's device."""
        if self.make is None:
            return self.student
        device = self.student.device
        if self._made is None:
            self._made = self.make().requires_grad_(False).eval()
            if self._made.trained:
                raise ValueError("a teacher is frozen: leave out the trainable of its clip.")
            kind = device.type
            if kind == "cuda" and torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16:
                self._made.store_bf16()
        return self._made if self._made.device == device else self._made.to(device)

    @torch.no_grad()
    def text(self) -> Tensor:
        """Text features of the bound classes: (C,d), unit length."""
        clip = self.clip
        if self._cache is None or self._cache[0] != (self.classnames, clip.device):
            captions = [text for text in self.classnames if isinstance(text, Caption)]
            if len(self.templates) > 1 and captions:
                total: Any = torch.stack([self._of_caption(clip, caption) for caption in captions])
            else:
                total = sum(clip.encode_text(fixed_plan(clip, self.classnames, t)) for t in self.templates)
            self._cache = (self.classnames, clip.device), F.normalize(total, dim=-1)
        return self._cache[1]

    def _of_caption(self, clip: FrozenCLIP, caption: Caption) -> Tensor:
        """(d,)"""
        if caption not in self._captions:
            if len(self._captions) >= MOST_KEPT:
                self._captions.clear()
            lists = [tokens for t in self.templates for tokens in token_lists(clip.tokenizer, [caption], t, 0, "end")]
            self._captions[caption] = clip.encode_text(TextPlan(lists)).sum(0)
        return self._captions[caption]

    @torch.no_grad()
    def image(self, images: Tensor) -> Tensor:
        """Pixels (B,3,S,S), uint8 or normalised as the student wants them -> image features (B,d), unit length."""
        return F.normalize(self.encode(images), dim=-1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """As `image`, un-normalised."""
        images = self.student.normalised(images)
        return self.clip.encode_image(converted(images, self.student.image_spec, self.clip.image_spec))

    @torch.no_grad()
    def image_of(self, out: Outputs) -> Tensor:
        """As `image`, of a step's images; their features may be known (`PromptLearner.image_teacher`)."""
        known = out.teacher_features
        return self.image(out.pixels) if known is None else F.normalize(known, dim=-1)

    @torch.no_grad()
    def logits(self, image: Tensor, ids: Tensor | None = None) -> Tensor:
        """Image features (B,d) -> (B,C), or (B,K) over the classes with these ids (K,)."""
        text = self.text()
        return self.clip.logits(image, text if ids is None else text[send(ids, text.device)])


def converted(images: Tensor, spec: Mapping[str, Any], wanted: Mapping[str, Any]) -> Tensor:
    """Pixels (B,3,S,S) as another model wants them: its size, by its interpolation, and its normalisation. Both specs hold
    "size", "mean" and "std", `wanted` may hold "interpolation". The same tensor where nothing differs.

    The images are square, and all resize modes treat a square alike. Only training has teachers, and its images are random
    crops, in which no resize mode leaves bars or changes shapes.
    """
    if all(spec[key] == wanted[key] for key in ("size", "mean", "std")):
        return images

    def channels(values: Sequence[float]) -> Tensor:
        return images.new_tensor(values)[:, None, None]

    pixels = images * channels(spec["std"]) + channels(spec["mean"])
    if spec["size"] != wanted["size"]:
        size = (wanted["size"], wanted["size"])
        mode = wanted.get("interpolation", "bicubic")
        pixels = F.interpolate(pixels, size, mode=mode, antialias=True, align_corners=False).clamp(0, 1)
    return (pixels - channels(wanted["mean"])) / channels(wanted["std"])


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) in nats between the softmax of logits (B,K) at a temperature: (B,). Entries that are -inf in both
    contribute nothing."""
    masked = teacher.isneginf()
    target = (teacher / temperature).log_softmax(-1)
    prediction = (student / temperature).log_softmax(-1)
    return (target.exp() * (target - prediction).masked_fill(masked, 0.0)).sum(-1)


def soft_cross_entropy(student: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits (B,K) with probabilities (B,K): (B,). Logits may be -inf where the probability is 0."""
    return -(target * student.log_softmax(-1).masked_fill(student.isneginf(), 0.0)).sum(-1)
