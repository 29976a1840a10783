"""The text side of a dense method: contexts of its own, or another method's class texts.

Shapes: B images, K classes, n contexts, D width of the text tower, d width of the shared embedding.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.rows import NO_PROMPTS, Rows, TowerPrompts
from prompts.engine.text_plan import TextPlan, token_lists
from prompts.learner import PromptLearner, TrainInfo
from prompts.parts.named_learners import learner_classes
from prompts.parts.settings import is_of

STD = 1.0  # of the contexts' truncated normal distribution, the default of torch's trunc_normal_, as in the released code


def name_plan(clip: FrozenCLIP, classnames: Sequence[str], n_ctx: int) -> TextPlan:
    """`n_ctx` slots behind the first token, then the raw class name: no words around it and no full stop (DenseCLIP's code).
    ValueError where a name leaves no room for them in the text tower."""
    return TextPlan(token_lists(clip.tokenizer, [str(name) for name in classnames], "{}", n_ctx, "end", 0))


class OwnContexts(nn.Module):
    """DenseCLIP's contexts, shared by all classes. With `learned` False they are given for each image, as by pre-model
    prompting."""

    def __init__(self, clip: FrozenCLIP, n_ctx: int, learned: bool):
        super().__init__()
        self.n_ctx = n_ctx
        self.contexts = None
        if n_ctx and learned:
            self.contexts = nn.Parameter(nn.init.trunc_normal_(torch.empty(n_ctx, clip.text_width), std=STD))
        self.plan: TextPlan | None = None

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the class names."""
        self.plan = name_plan(clip, classnames, self.n_ctx)

    def texts(self, clip: FrozenCLIP, image: Tensor, contexts: Tensor | None = None) -> Tensor:
        """Class texts (K,d), or (B,K,d) with `contexts` (B,n,D) of each image; un-normalised. `image` (B,d) is not read."""
        prompts = NO_PROMPTS
        if contexts is not None:
            prompts = TowerPrompts(Rows(contexts, per="image"))
        elif self.contexts is not None:
            prompts = TowerPrompts(Rows(self.contexts))
        return clip.encode_text(self.plan, prompts)


class AnotherMethod(nn.Module):
    """The class texts of a learner; its losses, head and visual prompts are not used. Tensors that its texts do not depend on
    are not trained, and those that only its losses need are not made.

    Raises:
        ValueError: what the learner refuses; a learner without class texts, or one that learns, but nothing for its texts.
    """

    def __init__(self, clip: FrozenCLIP, learner: PromptLearner, info: TrainInfo):
        super().__init__()
        self.learner = learner
        self.name = type(learner).__module__.rpartition(".")[2]
        with below_text(self.name):
            learner.setup(clip, replace(info, fit=False))  # as for an evaluation, without what its losses need
            learner.bind(clip, info.classnames)
        image, one = torch.zeros(1, clip.embed_dim, device=clip.device), torch.zeros(1, dtype=torch.long)
        learner.to(clip.device)
        with torch.enable_grad():
            texts = learner.encode_text(clip, image, one)
        if texts is None:
            raise ValueError(
                f"method.text names {type(learner).__name__}, which makes no class texts: name one that does, such as coop."
            )
        named = [p for p in learner.parameters() if p.requires_grad]
        used: Sequence[Tensor | None] = [None] * len(named)
        if named and texts.requires_grad:
            used = torch.autograd.grad(texts.sum(), named, allow_unused=True)
        for parameter, gradient in zip(named, used, strict=True):
            parameter.requires_grad_(gradient is not None)
        if learner.uses_gradients and all(gradient is None for gradient in used):
            raise ValueError(
                f"method.text={{name: {self.name}}}: its class texts depend on nothing that it trains: name a method that "
                "prompts the text tower, or one without training."
            )

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Binds the learner."""
        with below_text(self.name):
            self.learner.bind(clip, [str(name) for name in classnames])

    def texts(self, clip: FrozenCLIP, image: Tensor, contexts: Tensor | None = None) -> Tensor:
        """Class texts (K,d), or (B,K,d) where they depend on the images' features (B,d)."""
        assert contexts is None
        return self.learner.encode_text(clip, image)


def learner_of(given: Mapping[str, Any]) -> PromptLearner:
    """The method that `method.text` names: {name: coop, n_ctx: 4} with arguments of its constructor.

    Raises:
        ValueError: no such method, one without class texts, one that fits tensors on validation images, or an argument that it
            does not take.
    """
    found = {name: c for name, c in learner_classes().items() if "class logits" in c.offers}
    classes = {name: c for name, c in found.items() if not c.alternates}
    name = given.get("name")
    if name in found and name not in classes:
        raise ValueError(
            f"method.text={{name: {name}}}: it learns from validation images between the training batches, which a score map's "
            f"training does not have: name one of {', '.join(classes)}."
        )
    if name not in classes:
        raise ValueError(
            f"method.text={dict(given)!r:.200} names no method with class texts: give {{name: NAME}}, with more of its "
            f"settings if it needs them, and one of {', '.join(classes)} for NAME."
        )
    taken = inspect.signature(classes[name].__init__).parameters
    hints = typing.get_type_hints(classes[name].__init__)
    settings = {key: value for key, value in given.items() if key != "name"}
    for key, value in settings.items():
        if key not in taken or key == "self":
            known = ", ".join(key for key in taken if key != "self")
            raise ValueError(f"method.text.{key} is no setting of {name}: there are {known}.")
        if not is_of(value, hints[key]):
            raise ValueError(f"method.text.{key}={value!r:.80} is not of the type {taken[key].annotation} that {name} takes.")
    with below_text(name):
        return classes[name](**settings)


@contextmanager
def below_text(name: str) -> Iterator[None]:
    """A learner says `method.KEY` of its settings, which are `method.text.KEY` here: its ValueErrors get the right names."""
    try:
        yield
    except ValueError as error:
        sentence = re.sub(r"\bmethod\.(?=\w)", "method.text.", str(error))
        raise ValueError(f"method.text={{name: {name}}}: {sentence}") from error
