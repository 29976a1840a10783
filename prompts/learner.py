"""What a prompt learner is.

A method is one file: a `PromptLearner` that makes its tensors in `setup`, lays out its text in `bind`, and returns its prompts
as data (`prompts/engine/rows.py`). It never edits a tower, and nothing else learns its name. Methods without gradients derive
from `GradientFree`; methods that act during training or leave files also derive from `TrainingHooks`.

Shapes: B images, C classes, K sampled classes, d width of the shared embedding, S image size in pixels.
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
    """What the learnable tensors may depend on, and how they are going to be trained."""

    classnames: list[str]
    num_images: int  # of the training list
    fit: bool = True  # False: learned tensors are loaded next, so what training alone needs can be left out
    alternating: bool = False  # True: every second batch holds validation images, whose index is num_images or more


@dataclass(frozen=True)
class ClassSample:
    """The classes of one training step, where a method does not use them all."""

    ids: Tensor  # (K,) distinct class ids: the columns of the step's logits
    allowed: Tensor  # (B,K) bool: the classes that an image is classified against, and its own
    targets: Tensor  # (B,) the column of each image's own class


@dataclass(frozen=True)
class Outputs:
    """What a forward pass gives, for the losses."""

    logits: Tensor  # (B,C) float32; (B,K) over `sample.ids` where there is a sample
    image_features: Tensor  # (B,d) un-normalised
    text_features: Tensor | None  # (C,d) or (B,C,d) un-normalised; None where the head uses no text
    pixels: Tensor  # (B,3,S,S) the images themselves, for teachers
    sample: ClassSample | None = None


class PromptLearner(nn.Module):
    """Base of all methods. Override what the method changes; the defaults are CLIP with the fixed text in `self.plan`."""

    uses_gradients = True  # False: an optimiser has nothing to train
    class_specific = False  # True: the tensors belong to the class list of `setup` and serve no other
    published_names: Mapping[str, str] = {}  # patterns of tensor names in the published checkpoints -> ours, where they differ
    training_only: Sequence[str] = ()  # prefixes of state_dict names that last.ckpt needs and prompts.safetensors does not
    offers: Sequence[str] = ("class logits",)  # what a task can get from the method
    found_settings: Mapping[str, Any] = {}  # arguments that were read from files: kept with the prompts, in the files' place
    plan: TextPlan | None = None

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes the learnable tensors, float32, once. ValueError where the method does not fit this CLIP or training set."""

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Rebuilds what depends on the class list (`self.plan`). Makes no learnable tensors; called at any time."""
        raise NotImplementedError

    def image_prompts(self) -> TowerPrompts:
        """The prompts of the image tower."""
        return NO_PROMPTS

    def text_prompts(self, image: Tensor) -> TowerPrompts:
        """The prompts of the text tower. `image` (B,d) are the un-normalised image features, for methods whose text depends on
        the image."""
        return NO_PROMPTS

    def encode_text(self, clip: FrozenCLIP, image: Tensor, classes: Tensor | None = None) -> Tensor | None:
        """(C,d) or (B,C,d); of the classes with these ids (K,) only, in their order, if given.

        It runs again when what it read of `image` and of the learner's tensors has changed, or if it drew random numbers. So
        anything else that its result depends on, such as a counter, has to be a buffer of the learner.
        """
        return clip.encode_text(self.plan, self.text_prompts(image), classes)

    def sample(self, labels: Tensor, batch_index: Tensor, seed: int) -> ClassSample | None:
        """The classes of a training step; None: all.

        `labels` (B,) are class ids, `batch_index` (B,) the positions of the images in the step's global batch, and `seed` is
        the same for the whole step: what is drawn from the two does not depend on the number of ranks.
        """
        return None

    def logits(self, clip: FrozenCLIP, image: Tensor, text: Tensor | None) -> Tensor:
        """(B,C) float32, from image features (B,d) and what `encode_text` returned."""
        return clip.logits(image, text)

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Named losses, each (B,) per sample or a scalar that does not depend on the batch; their sum is minimised.

        `labels` (B,) are class ids, `index` (B,) the positions of the images in the training list.
        """
        return {"ce": F.cross_entropy(out.logits, labels, reduction="none")}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser gets: groups of parameters, with settings of their own where they differ from `optim`. A group may
        also hold an "optimizer" of its own, "scheduled" and "span": see `lightning_modules/optimizers.py`."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def effective_parameters(self) -> int:
        """How many of the trainable numbers can change a logit."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


class GradientFree(PromptLearner):
    """Base of methods that no optimiser trains: zero-shot ones, and those that `fit` fits."""

    uses_gradients = False

    def fit(self, model: PromptedCLIP, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], seed: int) -> None:
        """Fits on (features (N,d), labels (N,)) of the training and of the validation images; nothing by default."""


class TrainingHooks:
    """A mixin for methods that act between the steps of training, or that leave files beside their prompts."""

    def before_step(self) -> None:
        """Called before each step of the optimiser, its gradients being complete; one that is set to None moves nothing."""

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Called after each training epoch (0-based, of `epochs`) on every rank, before anything is evaluated or saved."""

    def artifacts(self, folder: Path) -> list[Path]:
        """Writes what a finished run leaves beside its prompts, and returns the files. Called on rank 0."""
        return []
