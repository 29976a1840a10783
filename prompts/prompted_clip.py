"""A frozen CLIP with a prompt learner.

Shapes: B images, C classes, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.language_model import FrozenLM
from prompts.engine.rows import NO_PROMPTS
from prompts.engine.text_plan import Caption
from prompts.engine.trainable import PREFIX
from prompts.learner import ClassSample, Outputs, PromptLearner, TrainInfo
from prompts.parts.text_features import TextFeatures


class PromptedCLIP(nn.Module):
    """A frozen CLIP and a learner: computes logits over the bound class list for images. Imports neither Lightning nor Hydra.

    `shard_classes`: from this many classes on, several ranks share the text encoding of a training step (0: never).
    `language_model`: the frozen language model that the learner makes prefixes for, where the task has one.
    """

    def __init__(
        self,
        clip: FrozenCLIP,
        learner: PromptLearner,
        shard_classes: int = 0,
        language_model: FrozenLM | None = None,
    ):
        super().__init__()
        if shard_classes < 0:
            raise ValueError(f"shard_classes={shard_classes}: give a number of classes, or 0 to never divide them.")
        self.clip, self.learner, self.shard_classes = clip, learner, shard_classes
        self.language_model = language_model
        self.classnames: list[str] = []
        self._own_classes: list[str] | None = None
        self._text = TextFeatures(self)

    def setup(self, info: TrainInfo) -> None:
        """Makes the learner's tensors and binds the classes of this training set. ValueError where the CLIP does not fit."""
        if self.learner.loss == "sigmoid" and self.clip.logit_bias is None:
            raise ValueError(
                "method.loss=sigmoid needs a CLIP that was trained with the sigmoid loss, as SigLIP was, and this one has no "
                "logit bias: set method.loss=softmax."
            )
        if self.clip.trained:
            self._check_clip_may_change("clip.trainable trains the CLIP", "leave clip.trainable at null")
        self.learner.setup(self.clip, info)
        if self.learner.class_specific:
            self._own_classes = list(info.classnames)
        self.classnames = []
        self.bind(info.classnames)

    def bind(self, classnames: Sequence[str]) -> None:
        """Sets the class list of the logits, or a list of captions instead. May be called at any time; does nothing where this
        list is bound already.

        Raises:
            ValueError: the learner's tensors belong to one class list (`class_specific`), and this is another.
        """
        before, now = (bool(names) and isinstance(names[0], Caption) for names in (self.classnames, classnames))
        if self.classnames and list(classnames) == self.classnames and before == now:
            return
        if self._own_classes is not None and list(classnames) != self._own_classes:
            raise ValueError(
                f"{type(self.learner).__name__} learned tensors for each of its {len(self._own_classes)} classes and cannot "
                f"serve another list of {len(classnames)}: evaluate it on those it was trained on, or choose a unified context."
            )
        self.learner.bind(self.clip, classnames)
        self.classnames = list(classnames)
        self._text.forget(watch=not (before and now))  # the tensors read for captions are the same for other captions

    def check_classes(self, lists: Iterable[Sequence[str]]) -> None:
        """ValueError where the learner refuses one of these class lists, so that a run fails before it starts and not at its
        end. The bound list is unchanged."""
        bound = self.classnames
        for classnames in dict.fromkeys(map(tuple, lists)):
            self.bind(classnames)
        self.bind(bound)

    @property
    def images_are_frozen(self) -> bool:
        """Whether image features are those of the CLIP as it was loaded, without prompts: equal for all learners and steps."""
        with torch.no_grad():
            return not (self.clip.trained or self.clip.changed) and self.learner.image_prompts() == NO_PROMPTS

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Image features (B,d), un-normalised, of `pixels` (B,3,S,S), uint8 or normalised."""
        return self.clip.encode_image(pixels, self.learner.image_prompts())

    def forward(
        self,
        pixels: Tensor | None,
        sample: ClassSample | None = None,
        features: Tensor | None = None,
        teacher_features: Tensor | None = None,
    ) -> Outputs:
        """Logits and features of `pixels` (B,3,S,S), uint8 or normalised, over the bound classes or a training step's `sample`
        of them. Where images are frozen (`images_are_frozen`), `features` (B,d) of them may be given, and no pixels."""
        pixels = None if pixels is None else self.clip.normalised(pixels)
        image = self.encode_images(pixels) if features is None else features
        if sample is None:
            text = self.text_features(image)
        else:
            text = self.learner.encode_text(self.clip, image, sample.ids)
        logits = self.learner.logits(self.clip, image, text)
        return Outputs(logits, image, text, pixels, sample, self.clip.logit_bias, teacher_features)

    def text_features(self, image: Tensor) -> Tensor | None:
        """Features of the bound classes for image features (B,d): (C,d) or (B,C,d). Cached until a tensor that they depend on
        changes, so that an evaluation encodes its class list once."""
        return self._text.features(image)

    def text_depends_on(self) -> Literal["nothing", "tensors", "image"]:
        """What the text features of the bound classes depend on beside the class names."""
        return self._text.depends_on()

    @property
    def text_encodings(self) -> int:
        """How often the text tower ran over the class list."""
        return self._text.encodings

    def losses(self, out: Outputs, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The learner's named losses: see `PromptLearner.losses`."""
        return self.learner.losses(out, labels, index)

    # ---------------------------------------------------------------- saving and loading

    def prompt_state(self) -> tuple[dict[str, Tensor], list[str] | None]:
        """The learned tensors, and the class list of class-specific ones (else None); ValueError where one is not finite."""
        self.check_finite()
        return {k: v.detach().cpu() for k, v in self._shared().items()}, self._own_classes

    def clip_state(self) -> dict[str, Tensor]:
        """The CLIP's trained tensors, by their names in a prompts file; none where it is frozen."""
        return {PREFIX + name: p.detach().cpu() for name, p in self.clip.trained_tensors().items()}

    def load_clip_state(self, state: Mapping[str, Tensor]) -> None:
        """Puts the trained tensors of a CLIP into this one; ValueError for the first that does not fit, and where the learner
        needs the CLIP as it was loaded."""
        if state:
            self._check_clip_may_change("these prompts bring a CLIP that was trained with them", "start from others")
        self.clip.put_in({name.removeprefix(PREFIX): tensor for name, tensor in state.items()})
        self._text.forget()

    def _check_clip_may_change(self, what: str, way_out: str) -> None:
        if not self.learner.trains_clip:
            raise ValueError(
                f"{what}, but {type(self.learner).__name__} needs it as it was loaded: {way_out}, or choose a method that does "
                "not (docs/towers.md names them)."
            )

    def check_finite(self) -> None:
        """ValueError naming the learned tensors, the CLIP's among them, that hold NaN or infinite numbers, if any do."""
        tensors = self.learner.state_dict() | self.clip.trained_tensors()
        if names := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
            what_to_do = "lower optim.lr" if self.learner.uses_gradients else "check the images and clip.weights"
            raise ValueError(
                f"what {type(self.learner).__name__} has learned is not finite any more (NaN or infinite numbers in "
                f"{', '.join(names)}): {what_to_do}."
            )

    def _shared(self) -> dict[str, Tensor]:
        left_out = tuple(self.learner.training_only)
        return {k: v for k, v in self.learner.state_dict().items() if not k.startswith(left_out)}

    def load_prompt_state(self, state: dict[str, Tensor], own_classes: list[str] | None = None) -> None:
        """Loads learned tensors by name; ValueError for the first that does not fit the configured method."""
        if self._own_classes is not None and own_classes != self._own_classes:
            raise ValueError(
                f"the checkpoint's class-specific tensors belong to {len(own_classes or [])} classes, not to the "
                f"{len(self._own_classes)} of this dataset: evaluate it where it was trained, or choose a unified context."
            )
        ours = self._shared()
        for name in sorted(ours.keys() | state.keys()):
            here, there = (tuple(s[name].shape) if name in s else "absent" for s in (ours, state))
            if here != there:
                raise ValueError(
                    f"the checkpoint does not fit {type(self.learner).__name__} as configured: {name} is {there} in the "
                    f"checkpoint and {here} here; give the method, clip and method settings that it was trained with."
                )
            if not state[name].to(ours[name].dtype).isfinite().all():
                raise ValueError(
                    f"the checkpoint's tensor {name} holds NaN or infinite numbers: its training went wrong, so train it again "
                    "with a lower optim.lr, or give another checkpoint."
                )
        self.learner.load_state_dict(state, strict=False)
        self._text.forget()
