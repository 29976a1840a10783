"""The base of tasks in which a frozen language model continues the prefix of an image with text.

Texts never go through the loader: they are looked up by the index of the image in `data.train_items` and `evaluation.items`.

Shapes: B images, n rows of a prefix or captions of an image, d width of the CLIP's shared embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from datamodules.evaluation import Evaluation
from datamodules.known_features import IMAGE
from lightning_modules.evaluated import Figure
from lightning_modules.records import all_records
from lightning_modules.task import TaskModule
from prompts.engine.language_model import FrozenLM, Generation, Piece
from prompts.parts.reference_prompts import encode_prompts


class LanguageTask(TaskModule):
    """Trains by the language model's loss of the texts, and the learner's `prefix_losses`; evaluates what is generated.

    A subclass overrides `asked`, `answers`, `generated`, `measured` and `longest_context`.

    Args:
        generation: how contexts are continued.

    Raises:
        ValueError: the run has no language model, or only some images of an evaluation have reference texts.
    """

    figure_without_texts: ClassVar[Figure]  # the main figure where an evaluation's texts are not public, as of test servers

    def __init__(self, *args: Any, generation: Generation) -> None:
        super().__init__(*args)
        if self.model.language_model is None:
            raise ValueError("this task continues images with text, and the run has no language model: choose one by lm=NAME.")
        self.generation = generation
        self.public = {evaluation.name: self._is_public(evaluation) for evaluation in (*self.vals, *self.tests)}
        if not all(self.public.values()):
            self.figure = self.figure_without_texts  # type: ignore[misc]
        self.captions: tuple[Tensor, Tensor, Tensor] | None = None  # as `_captions_of` returns them
        self.records: dict[str, dict[int, Any]] = {}  # by test: what `generated` gave, by the image's index

    # ---- what a task overrides

    def asked(self, item: Any) -> str:
        """The text between an item's prefix and the generated text."""
        raise NotImplementedError

    def answers(self, item: Any) -> Sequence[str]:
        """The reference texts of an item; each training step learns one of them. Empty where they are not public."""
        raise NotImplementedError

    def generated(self, evaluation: Evaluation, index: Sequence[int], prefix: Any) -> list[Any]:
        """The generated texts of a batch's images, with whatever the metrics need, as plain data: it is sent between processes.

        Args:
            prefix: of these images, by the learner's `prefix`.
        """
        raise NotImplementedError

    def measured(self, evaluation: Evaluation, records: dict[int, Any]) -> dict[str, Any]:
        """The metrics of an evaluation. `records`: what `generated` returned for the images of all ranks, by index."""
        raise NotImplementedError

    def longest_context(self, rows: Tensor) -> list[Piece]:
        """The longest context that will be continued, with `rows` for each image."""
        raise NotImplementedError

    def _is_public(self, evaluation: Evaluation) -> bool:
        known = [bool(self.answers(item)) for item in evaluation.items]
        if any(known) and not all(known):
            path = evaluation.items[known.index(False)].path
            raise ValueError(
                f"evaluation {evaluation.name}: the image {path} has no text to compare with, and others have: leave it out of "
                "the list."
            )
        return all(known)

    # ---- training

    @property
    def language_model(self) -> FrozenLM:
        """The frozen language model."""
        return self.model.language_model

    def setup(self, stage: str) -> None:
        """ValueError, before anything is trained, for missing texts and for contexts that are too long."""
        if stage == "fit":
            for item in self.data.train_items:
                if not self.answers(item):
                    raise ValueError(f"the training image {item.path} has no text to learn from: leave it out of the list.")
        size = self.model.clip.image_spec["size"]
        with torch.no_grad():
            blank = torch.zeros(1, 3, size, size, device=self.model.clip.device)
            prefix = self.learner.prefix(self.model.clip, blank).rows[0]
        rows = len(self.language_model.rows(self.longest_context(prefix)))
        if rows + self.generation.max_tokens > self.language_model.positions:
            raise ValueError(
                f"a context of this run has {rows:,} rows and up to {self.generation.max_tokens} tokens are made behind it, "
                f"but the language model has {self.language_model.positions:,} positions: give fewer examples "
                "(task.module.shots), a shorter prompt, a smaller task.module.generation.max_tokens, or another lm."
            )

    def on_fit_start(self) -> None:
        """Encodes the captions of the training images where the learner wants them: before autocast and stored weights."""
        if self.model.learner.wants_captions and self.captions is None:
            self.captions = _captions_of(self.data.train_items, self.model.clip)
        super().on_fit_start()

    def training_losses(self, batch: dict[str, Tensor], seed: int) -> tuple[dict[str, Tensor], Tensor]:
        """The language model's loss of one text of each image, drawn by (seed, image), and the learner's own losses."""
        clip, learner, index = self.model.clip, self.learner, batch["index"]
        prefix = learner.prefix(clip, batch[IMAGE], index, seed)
        items = [self.data.train_items[i] for i in index.tolist()]
        contexts = [[rows, self.asked(item)] for rows, item in zip(prefix.rows, items, strict=True)]
        texts = [drawn(self.answers(item), seed, i) for item, i in zip(items, index.tolist(), strict=True)]
        captions, mask = None, None
        if self.captions is not None:
            features, masks, row = self.captions
            captions, mask = (part[row[index.cpu()]].to(self.device) for part in (features, masks))
        losses = {"lm": self.language_model.losses(contexts, texts)}
        return losses | learner.prefix_losses(clip, prefix, captions, mask), prefix.rows.flatten(1)

    # ---- evaluation

    def start_evaluation(self, evaluation: Evaluation) -> None:
        """Makes an empty record."""
        evaluation.metrics = {}

    def evaluate_batch(self, evaluation: Evaluation, batch: dict[str, Tensor], first: bool) -> None:
        """Records the generated texts of the batch's readable images. ValueError where a prefix is not finite."""
        readable = batch["weight"] > 0
        if not readable.any():
            return
        index = batch["index"][readable].tolist()
        prefix = self.learner.prefix(self.model.clip, batch[IMAGE][readable])
        finite = prefix.rows.flatten(1).isfinite().all(1)
        if not finite.all():
            image = evaluation.items[index[int(finite.int().argmin())]].path
            raise ValueError(
                f"evaluation {evaluation.name}: the prefix of the image {image} is not finite (NaN or infinite), so it has no "
                f"result: {self.what_to_lower}."
            )
        evaluation.metrics |= zip(index, self.generated(evaluation, index, prefix), strict=True)

    def metrics_of(self, evaluation: Evaluation) -> dict[str, Any]:
        """`measured` of all ranks' images, computed once. ValueError where no image can be read."""
        records = all_records(self, evaluation)
        numbers = self.measured(evaluation, records) if self.trainer.is_global_zero else None
        return self.trainer.strategy.broadcast(numbers)


def drawn(texts: Sequence[str], seed: int, index: int) -> str:
    """One of the texts, a function of the seed and the index alone."""
    return texts[int(np.random.default_rng([seed, index]).integers(len(texts)))]


def _captions_of(items: Sequence[Any], clip: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Features (U,n,d) of the captions of U images, their mask (U,n), and the image of each item (N,)."""
    images = {item.path: item for item in items}
    for item in images.values():
        if not item.captions:
            raise ValueError(
                f"the method learns from the captions of training images, and {item.path} has none: give the data captions, or "
                "set method.train_h=false."
            )
    features, mask = encode_prompts(clip, [item.captions for item in images.values()])
    place = {path: row for row, path in enumerate(images)}
    return features.cpu(), mask.cpu(), torch.tensor([place[item.path] for item in items])
