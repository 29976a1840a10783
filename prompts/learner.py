"""The interface of a prompt learner, which every method implements.

A method is one file: a `PromptLearner` that makes its tensors in `setup`, lays out its text in `bind`, and returns its prompts
as data (`prompts/engine/rows.py`). It never edits a tower, and nothing else learns its name. Methods without gradients derive
from `GradientFree`; methods that act during training or leave files also derive from `TrainingHooks`.

Shapes: B images, C classes, K sampled classes, d width of the shared embedding, S image size in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import NO_PROMPTS, TowerPrompts
from prompts.engine.sending import send
from prompts.engine.text_plan import TextPlan

if TYPE_CHECKING:
    from prompts.parts.teacher import Teacher
    from prompts.prompted_clip import PromptedCLIP


Loss = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class TrainInfo:
    """The training set and the way of training, which the learnable tensors may depend on."""

    classnames: list[str]
    num_images: int  # of the training list
    fit: bool = True  # False: trained tensors will be loaded, so tensors that only training needs can be left out
    alternating: bool = False  # True: every second batch holds validation images, whose index is num_images or more
    prefix_width: int | None = None  # of the language model's embedding space, where the run has one
    accumulate: int = 1  # micro-batches of a step, each of which goes forward alone


@dataclass(frozen=True)
class ClassSample:
    """The classes of one training step, where a method does not use them all."""

    ids: Tensor  # (K,) distinct class ids, on the CPU: the columns of the step's logits
    allowed: Tensor  # (B,K) bool: the classes that an image is classified against, its own class included
    targets: Tensor  # (B,) the column of each image's own class

    def to(self, device: torch.device) -> ClassSample:
        """A copy with the tensors that the losses use on the device. `ids` stay on the CPU, where the text is laid out."""
        return ClassSample(self.ids, send(self.allowed, device), send(self.targets, device))


@dataclass(frozen=True)
class Outputs:
    """The outputs of a forward pass, for the losses."""

    logits: Tensor  # (B,C) float32; (B,K) over `sample.ids` where there is a sample
    image_features: Tensor  # (B,d) un-normalised
    text_features: Tensor | None  # (C,d) or (B,C,d) un-normalised; None where the head uses no text
    images: Tensor | None  # (B,3,S,S); None where their features were known and no image was read
    sample: ClassSample | None = None
    logit_bias: Tensor | None = None  # a scalar; of CLIPs that were trained with the sigmoid loss
    teacher_features: Tensor | None = None  # (B,d') un-normalised, of the learner's `image_teacher`, where they are known
    captions: Tensor | None = None  # (B,n,d) un-normalised, by the frozen CLIP, of all captions of each image, if wanted
    caption_mask: Tensor | None = None  # (B,n) bool: where there is one

    @property
    def pixels(self) -> Tensor:
        """The normalised images (B,3,S,S). ValueError where none were read, as their features were known."""
        if self.images is None:
            raise ValueError(
                "this method's losses read pixels, and features.views=N keeps only the features of the training images: give "
                "features.views=online."
            )
        return self.images


def sigmoid_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The sigmoid loss of SigLIP (Zhai et al., ICCV 2023, arXiv 2303.15343, section 3.2) of images with classes for texts:
    - sum over classes c of log sigmoid(z_c l_c), z_c being 1 for the image's own class and -1 for others.

    Args:
        logits: (B,C) scaled cosines plus the model's bias.
        labels: (B,) class ids.

    Returns:
        (B,) nats.
    """
    signs = 2 * F.one_hot(labels, logits.shape[-1]) - 1
    return -F.logsigmoid(signs * logits).sum(-1)


class PromptLearner(nn.Module):
    """Base of all methods. Override what the method changes; the defaults are CLIP with the fixed text in `self.plan`."""

    uses_gradients = True  # False: an optimiser has nothing to train
    class_specific = False  # True: the tensors belong to the class list of `setup` and serve no other
    published_names: Mapping[str, str] = {}  # {pattern of a name in published checkpoints: name here}, where they differ
    training_only: Sequence[str] = ()  # prefixes of state_dict names that last.ckpt needs and prompts.safetensors does not
    visual_prompts = False  # True: prompts for the blocks of the image tower, which must then be a vision transformer
    loss: Loss = "softmax"  # of `losses`
    trains_clip = False  # True: the method needs nothing of the CLIP as it was loaded, so that clip.trainable may change it
    offers: Sequence[str] = ("class logits",)  # words for what the method gives a task, see `TaskModule.needs`
    takes_captions = True  # False: training keeps something for each class, so that captions cannot replace class names
    alternates = False  # True: fits some tensors on validation images, so that training needs `TrainInfo.alternating`
    wants_captions = False  # True: `losses` reads `Outputs.captions`, on images with captions
    found_settings: Mapping[str, Any] = {}  # arguments that were read from files; saved with the prompts in place of the paths
    found_figures: Mapping[str, Any] = {}  # numbers about what was found, as plain data for result.json
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
        """Text features, un-normalised: (C,d), or (B,C,d) where they depend on the image. With `classes` (K,) those of the
        classes with these ids, in their order.

        The result is cached. It is computed again where the image or the learner's tensors that were read have changed, or
        where random numbers were drawn. Anything else that it depends on, such as a counter, must be a buffer of the learner.
        """
        return clip.encode_text(self.plan, self.text_prompts(image), classes)

    def image_teacher(self) -> Teacher | None:
        """The teacher whose features of the training images `losses` uses by `Teacher.image_of`, if there is one: they may be
        known from a store."""
        return None

    def sample(self, labels: Tensor, batch_index: Tensor, seed: int) -> ClassSample | None:
        """The classes of a training step; None: all.

        Args:
            labels: (B,) class ids, on the CPU, so that drawing does not wait for a GPU.
            batch_index: (B,) positions of the images in the step's global batch, on the CPU.
            seed: the same on all ranks and micro-batches of a step. Draw from it and `batch_index` alone: the result then does
                not depend on the number of ranks.
        """
        return None

    def logits(self, clip: FrozenCLIP, image: Tensor, text: Tensor | None) -> Tensor:
        """Logits (B,C) float32, from image features (B,d) and the text features that `encode_text` returned."""
        return clip.logits(image, text)

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Named losses, each (B,) per sample or a scalar that does not depend on the batch; their sum is minimised. Here the
        cross-entropy with the softmax over the classes or, with `loss` "sigmoid", `sigmoid_loss`.

        `labels` (B,) are class ids, `index` (B,) the positions of the images in the training list.
        """
        if self.loss == "sigmoid":
            return {"sigmoid": sigmoid_loss(out.logits + out.logit_bias, labels)}
        return {"ce": F.cross_entropy(out.logits, labels, reduction="none")}

    def joint_vectors(
        self, clip: FrozenCLIP, image: Tensor, classnames: Sequence[str]
    ) -> Iterator[tuple[str, Literal["image", "class"], Tensor]]:
        """Vectors that the method makes in the joint embedding space beside image and text features, for reports.insight: their
        description, whether there is one for each image or for each class, and the vectors, (B,d) or (C,d). `image` (B,d) are
        the un-normalised image features. ValueError where a file that the vectors are made from is missing."""
        return iter(())

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimiser's parameter groups, each with the settings that differ from `optim`. A group may also hold "optimizer",
        "scheduled" and "span": see `lightning_modules/optimizers.py`."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def effective_parameters(self) -> int:
        """How many of the trainable numbers can change a logit."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


class GradientFree(PromptLearner):
    """Base of methods that no optimiser trains: zero-shot methods, and those that override `fit`."""

    uses_gradients = False
    chooses = False  # True: `fit` needs validation images, and a run without any is refused before it encodes an image
    needs_training_regions = False  # True: tasks with regions call `search_regions` before an evaluation

    def fit(self, model: PromptedCLIP, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], seed: int) -> None:
        """Fits on (features (N,d), labels (N,)) of the training and of the validation images; nothing by default."""

    def search_regions(self, clip: FrozenCLIP, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> None:
        """Fits the method on training images (3,H,W) uint8 with a box (4,) in each, on every rank; nothing by default."""


class TrainingHooks:
    """A mixin for methods that act between training steps or epochs, or that write files beside their prompts."""

    def before_step(self) -> None:
        """Called before each optimiser step, when the gradients are complete. A tensor whose gradient is set to None is not
        updated."""

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Called after each training epoch (0-based, of `epochs`) on every rank, before anything is evaluated or saved."""

    def artifacts(self, folder: Path) -> list[Path]:
        """Writes the method's files into the run's folder and returns their paths. Called on rank 0, when the run ends."""
        return []
