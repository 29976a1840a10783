"""A cache for the text features of the bound classes. One call of a learner's `encode_text` per class list is watched to see
which tensors it reads; the features are valid until one of these changes. So no learner has to declare its dependencies.

Shapes: B images, C classes, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from prompts.engine.sharding import encode_in_shares, several_ranks
from prompts.engine.trainable import PREFIX

if TYPE_CHECKING:
    from prompts.prompted_clip import PromptedCLIP

IMAGE = "the image"  # among the names of the tensors that are read; no name of a learner's tensor has a space
METADATA = tuple(getattr(torch.Tensor, name).__get__ for name in ("device", "dtype"))  # do not depend on a tensor's values


class Reads(TorchFunctionMode):
    """A mode of torch that collects in `names` which of the named tensors an operation gets: with or without a gradient, whole
    or in part, also for its shape alone. It slows operations by microseconds, so few calls are watched."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        super().__init__()
        self.known = {id(tensor): name for name, tensor in tensors.items()}
        self.names: set[str] = set()

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func not in METADATA:
            self._collect((*args, *kwargs.values()))
        return func(*args, **kwargs)

    def _collect(self, values: Iterable[Any]) -> None:
        for value in values:
            if isinstance(value, Tensor):
                if (name := self.known.get(id(value))) is not None:
                    self.names.add(name)
            elif isinstance(value, tuple | list):
                self._collect(value)
            elif isinstance(value, Mapping):
                self._collect(value.values())


class TextFeatures:
    """The text features of the classes bound to `model.learner`, cached until something that they depend on changes."""

    def __init__(self, model: PromptedCLIP):
        self.model = model
        self.encodings = 0  # how often `encode_text` ran over the class list
        self.forget()

    def forget(self, watch: bool = True) -> None:
        """Empties the cache: other classes are bound, or other tensors loaded. `watch`: the next call is watched again."""
        if watch:
            self.reads: set[str] | None = None  # IMAGE and the learner's tensors by name; None: not watched yet
            self.watched_in_training = False  # with gradients, which also reveal tensors that are read indirectly
            self.uncacheable = False  # they need a gradient though nothing in `reads` does, or random numbers were drawn
        self.cache: tuple[tuple[tuple[int, int], ...], Tensor | None] | None = None  # a value of `_state`, and its features

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The learner's parameters and buffers, and the CLIP's trained tensors, by name."""
        learner, clip = self.model.learner, self.model.clip
        trained = {PREFIX + name: p for name, p in clip.trained_tensors().items()}
        return dict(learner.named_parameters()) | dict(learner.named_buffers()) | trained

    def features(self, image: Tensor) -> Tensor | None:
        """(C,d) or (B,C,d), for image features (B,d); None where the learner uses no text."""
        if self.reads is None or (torch.is_grad_enabled() and not self.watched_in_training):
            self.reads = None
            text = self._encode(image)
        elif (state := self._state()) is None:
            return self._encode(image)
        elif self.cache is not None and self.cache[0] == state:
            return self.cache[1]
        else:
            with torch.no_grad():
                text = self._encode(image)
        if (state := self._state()) is not None:
            self.cache = state, None if text is None else text.detach()
        return text

    def _state(self) -> tuple[tuple[int, int], ...] | None:
        """A value that changes when the features do; None where they cannot be cached, as they need a gradient or depend on the
        image."""
        if self.uncacheable or IMAGE in self.reads:
            return None
        if not self.reads:
            return ()
        tensors = [tensor for name, tensor in self.tensors.items() if name in self.reads]
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            return None
        return tuple((id(t), t._version) for t in tensors)

    @torch.no_grad()
    def depends_on(self) -> Literal["nothing", "tensors", "image"]:
        """What the features depend on beside the class names."""
        if self.reads is None:
            self.features(torch.zeros(1, self.model.clip.embed_dim, device=self.model.clip.device))
        return "image" if IMAGE in self.reads else "tensors" if self.reads else "nothing"

    def _encode(self, image: Tensor) -> Tensor | None:
        self.encodings += 1
        model = self.model
        # Evaluation encodes once and its ranks may see unequal numbers of batches, so only training steps are shared.
        share = 0 < model.shard_classes <= len(model.classnames) and torch.is_grad_enabled() and several_ranks()
        if share and self.reads is None:  # watch a single class: a rank may lack the memory for all of them
            with torch.random.fork_rng([image.device] if image.is_cuda else []):
                self._watch(image, torch.zeros(1, dtype=torch.long))
        if share and self.reads and IMAGE not in self.reads and not self.uncacheable:
            return encode_in_shares(lambda ids: model.learner.encode_text(model.clip, image, ids), len(model.classnames))
        return self._watch(image) if self.reads is None else model.learner.encode_text(model.clip, image)

    def _watch(self, image: Tensor, *classes: Tensor) -> Tensor | None:
        """Encodes, and records what was read for it."""
        before = _generator_states(image)
        with Reads(self.tensors | {IMAGE: image}) as reads:
            text = self.model.learner.encode_text(self.model.clip, image, *classes)
        drew = any(not torch.equal(a, b) for a, b in zip(before, _generator_states(image), strict=True))
        self.reads, self.watched_in_training = reads.names, torch.is_grad_enabled()
        trained = any(tensor.requires_grad for name, tensor in self.tensors.items() if name in self.reads)
        self.uncacheable = drew or (text is not None and text.requires_grad and not trained)
        return text


def _generator_states(tensor: Tensor) -> list[Tensor]:
    """The states of torch's generators that an encoding on the tensor's device may draw from."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(tensor.device)] if tensor.is_cuda else states
