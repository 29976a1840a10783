"""What a prompt learner is.

A method is one file: a `PromptLearner` that makes its tensors in `setup`, lays out its text in `bind`, and returns its prompts
as data. It never edits a tower, and nothing else learns its name.

Shapes: B images, C classes, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import NO_PROMPTS, TowerPrompts
from prompts.engine.text_plan import TextPlan

if TYPE_CHECKING:
    from prompts.prompted_clip import PromptedCLIP


@dataclass(frozen=True)
class TrainInfo:
    """What the learnable tensors may depend on."""

    classnames: list[str]
    num_images: int
    fit: bool = True  # False: learned tensors are loaded next, so what training alone needs can be left out


@dataclass(frozen=True)
class ClassSample:
    """The classes of one training step, where a method does not use them all."""

    ids: Tensor  # (K,) distinct class ids: the columns of the step's logits
    allowed: Tensor  # (B,K) bool: the classes that an image is told apart from, and its own
    targets: Tensor  # (B,) the column of each image's own class


@dataclass(frozen=True)
class Outputs:
    logits: Tensor  # (B,C) float32; (B,K) over `sample.ids` where there is a sample
    image: Tensor  # (B,d) un-normalised
    text: Tensor | None  # (C,d) or (B,C,d) un-normalised; None where the head uses no text
    images: Tensor  # (B,3,S,S) the pixels, for teachers
    sample: ClassSample | None = None


class PromptLearner(nn.Module):
    """Base of all methods. Override what the method changes; the defaults are CLIP with the fixed text in `self.plan`."""

    uses_gradients = True  # False: fitted by `fit`, not by an optimiser
    class_specific = False  # True: the tensors belong to the class list of `setup` and serve no other
    text_varies = False  # True: `encode_text` reads more that changes than `image` and the learner's tensors, so it runs anew
    published_names: Mapping[str, str] = {}  # patterns of tensor names in the published checkpoints -> ours, where they differ
    may_lack_gradient: Sequence[str] = ()  # prefixes of trainable tensors that a training step may leave without a gradient
    training_only: Sequence[str] = ()  # prefixes of state_dict names that last.ckpt needs and prompts.safetensors does not
    plan: TextPlan | None = None
    val_batch = 0  # images of the validation batches that take turns with training batches; their index is num_images or more
    # settings of this method for a run that is done before this one, and whose folder `take_over` gets
    first_stage: Mapping[str, Any] = {}
    found_settings: Mapping[str, Any] = {}  # what was read from files or found by an earlier stage: kept with the prompts

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes the learnable tensors, float32, once."""

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Rebuilds what depends on the class list (`self.plan`). Makes no learnable tensors; called at any time."""
        raise NotImplementedError

    def image_prompts(self) -> TowerPrompts:
        return NO_PROMPTS

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        """`image` (B,d) are the un-normalised image features, for methods whose text depends on the image."""
        return NO_PROMPTS

    def encode_text(self, clip: FrozenCLIP, image: Tensor, classes: Tensor | None = None) -> Tensor | None:
        """(C,d) or (B,C,d); of the classes with these ids (K,) only, in their order, if given.

        Called again when what it reads of `image` and of the learner's tensors has changed (`text_varies`)."""
        return clip.encode_text(self.plan, self.text_prompts(image), classes)

    def sample(self, labels: Tensor, place: Tensor, seed: int) -> ClassSample | None:
        """The classes of a training step; None: all. `place` (B,) says where in the step's global batch an image stands and
        `seed` is the same for the whole step, so that what is drawn from the two depends on no number of ranks."""
        return None

    def logits(self, clip: FrozenCLIP, image: Tensor, text: Tensor | None) -> Tensor:
        """(B,C) float32"""
        return clip.logits(image, text)

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Named losses, each (B,) per sample or a scalar that does not depend on the batch; their sum is minimised.

        `labels` (B,) are class ids, `index` (B,) the images' places in the training list.
        """
        return {"ce": F.cross_entropy(out.logits, labels, reduction="none")}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser gets: groups of parameters, with settings of their own where they differ from `optim`. A group may
        also hold an "optimizer" of its own, "scheduled" and "span": see `lightning_modules/optimizers.py`."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def effective_parameters(self) -> int:
        """How many of the trainable numbers can change a logit."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def take_over(self, folder: Path) -> None:
        """Takes what the run of `first_stage` left in its folder."""

    def before_step(self) -> None:
        """Called before each step of the optimiser, its gradients being complete; one set to None moves nothing."""

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Called after each training epoch (0-based) on every rank, before anything is evaluated or saved."""

    def keep(self, folder: Path) -> list[Path]:
        """Writes what a finished run leaves beside its prompts, and says which files."""
        return []

    def fit(self, model: PromptedCLIP, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], seed: int) -> None:
        """For learners without gradients: fits on (features (N,d), labels (N,)) of the training and validation images."""
