"""Grounding: a sentence names one thing of an image, and the method chooses its box among proposals.

Texts, boxes and masks never go through the loader: they are looked up by the index of the expression in `data.train_items` and
`evaluation.items`. Boxes are (x1,y1,x2,y2) in pixels of the image as opened, x2 and y2 exclusive.

Shapes: B expressions, N_i proposals of one, H and W of its image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.evaluation import Evaluation
from datamodules.grounding import whole_image
from datamodules.grounding_items import Expression
from files.whole import write_json
from lightning_modules.box_choices import HIT, NO_TARGET, images_of, line_of, measured, paint, sample_of, target_of
from lightning_modules.evaluated import Figure
from lightning_modules.records import all_records
from lightning_modules.samples import choose, write_samples
from lightning_modules.task import TaskModule

Chosen = tuple[int, float]  # the number of a proposal, and its score


class Grounding(TaskModule):
    """Measures the share of expressions whose chosen box has an IoU of more than 0.5 with the gold box, in percent;
    beside it the accuracy of a random choice and of the best possible one.

    A method's `needs_masks` says whether it draws the masks of proposals. The method is given a bank of captions, whose scores
    it may subtract: all training expressions of the data, never those of a test.
    """

    needs = ("scores of regions", "referring expressions")
    figure = Figure("accuracy", "accuracy at IoU > 0.5", "%")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.records: dict[str, dict[int, Chosen]] = {}  # by test, of each expression by its index
        self.sources: dict[str, Any] = {}  # of masks, by evaluation

    # ---- training

    def setup(self, stage: str) -> None:
        """ValueError, before anything is trained, where there is nothing to learn from."""
        items = self.data.train_items
        if stage != "fit":
            return
        if not items:
            raise ValueError(
                f"shots=0 gives {type(self.model.learner).__name__} no expression to learn from: give shots=N, 1 or more, or a "
                "method that learns nothing."
            )
        if all(target_of(item) == NO_TARGET for item in items):
            raise ValueError(
                f"none of the {len(items)} training expressions has a proposal with an IoU above {HIT} with its gold box, so "
                "there is nothing to learn: give more shots, another seed, or proposals of another file."
            )

    def on_fit_start(self) -> None:
        """Encodes the bank before autocast and stored weights."""
        self.set_bank()
        super().on_fit_start()

    def set_bank(self) -> None:
        """Gives the method the training expressions, for one that subtracts the mean score of other captions."""
        if self.data.bank:
            self.learner.set_bank(self.model.clip, self.data.bank)

    def training_losses(self, batch: dict[str, Tensor], seed: int) -> tuple[dict[str, Tensor], Tensor]:
        """The cross-entropy over the proposals of each expression's image. Its target is the proposal that overlaps the gold
        box most, if by more than 0.5; others have no loss. A method may keep what it computed of an image, unless the image
        does not count."""
        images, counts = images_of(batch), [weight > 0 for weight in batch["weight"].tolist()]
        items = [self.data.train_items[i] for i in batch["index"].tolist()]
        asked = [asked_of(*each) for each in zip(items, images, counts, strict=True)]
        keys = [("train", item.path) if counted else None for item, counted in zip(items, counts, strict=True)]
        scores = self.scores(self.data.source, asked, images, keys)
        return self.learner.grounding_losses(scores, [target_of(item) for item in asked]), torch.cat(scores)

    def scores(self, source: Any, items: Sequence[Any], images: list[Tensor], keys: list | None = None) -> list[Tensor]:
        """The score (N_i,) of each proposal of each expression."""
        learner = self.learner
        boxes = [torch.tensor(item.proposals, dtype=torch.float32) for item in items]
        masks = [masks_of(source, item) for item in items] if learner.needs_masks else None
        return learner.region_scores(self.model.clip, images, boxes, [item.text for item in items], masks, keys)

    def prepare_learner(self) -> None:
        """Gives the training images and the gold box of each expression to a method that needs them before an evaluation.
        ValueError where there are none, or none can be read."""
        learner = self.learner
        if not getattr(learner, "needs_training_regions", False):
            return
        items = self.data.train_items
        samples = self.data.dataset("train", self.data.subset, whole_image)
        read = {i: samples[i] for i in range(len(items))}
        images = {i: sample["image"][0] for i, sample in read.items() if sample["weight"]}
        if not images:
            raise ValueError(
                f"{type(learner).__name__} looks at training images, and there is none: give shots=N, the number of training "
                "expressions."
            )
        boxes = [torch.tensor(items[i].gold, dtype=torch.float32) for i in images]
        learner.search_regions(self.model.clip, list(images.values()), boxes)

    # ---- evaluation

    def on_test_start(self) -> None:
        """Encodes the bank before autocast and stored weights."""
        self.set_bank()
        super().on_test_start()

    def start_evaluation(self, evaluation: Evaluation) -> None:
        """Makes an empty record."""
        evaluation.metrics = {}
        self.sources[evaluation.name] = evaluation.loader(0, 1).dataset.source  # type: ignore[attr-defined]

    def evaluate_batch(self, evaluation: Evaluation, batch: dict[str, Tensor], first: bool) -> None:
        """Keeps the choice for each expression whose image can be read: the first of equal scores. ValueError where a score is
        not finite."""
        rows = (batch["weight"] > 0).nonzero().flatten().tolist()
        index = [int(batch["index"][row]) for row in rows]
        items = [evaluation.items[i] for i in index]
        images = images_of(batch)
        source = self.sources[evaluation.name]
        keys = [(evaluation.name, item.path) for item in items]  # expressions of one image stand beside each other
        for i, item, scores in zip(index, items, self.scores(source, items, [images[row] for row in rows], keys), strict=True):
            if not scores.isfinite().all():
                raise ValueError(
                    f"evaluation {evaluation.name}: a score of expression {item.expression_id} is not finite (NaN or "
                    f"infinite), so it has no result: {self.what_to_lower}."
                )
            chosen = int(scores.argmax())
            evaluation.metrics[i] = chosen, float(scores[chosen])

    def metrics_of(self, evaluation: Evaluation) -> dict[str, Any]:
        """`measured` of all ranks' expressions. ValueError where no image can be read."""
        records = all_records(self, evaluation)
        return measured([evaluation.items[i] for i in records], [chosen for chosen, _ in records.values()])

    def line(self, metrics: Mapping[str, Any]) -> str:
        """The accuracy, with the accuracy of a random choice and of the best possible one."""
        between = f"chance {metrics['chance']:.2f} %, at most {metrics['upper_bound']:.2f} %"
        return f"{self.figure.text(metrics['accuracy'])}   ({between}, {metrics['expressions']} expressions)"

    def write_files(self, folder: Path) -> None:
        """Writes boxes_NAME.json for each evaluation, the chosen box of each expression, and samples.json."""
        samples = {}
        for evaluation in self.tests:
            name, items, records = evaluation.name, evaluation.items, self.records[evaluation.name]
            lines = [line_of(items[i], *record) for i, record in records.items()]
            write_json(folder / f"boxes_{name}.json", lines)
            picked = choose([line["iou"] for line in lines], self.seed)
            index = list(records)
            samples[name] = [{"why": why, "index": index[at], **sample_of(items[index[at]], lines[at])} for why, at in picked]
        write_samples(folder, "grounding", self.tests, samples, paint)


def asked_of(item: Any, image: Tensor, counts: bool) -> Any:
    """The expression `item`, or a placeholder where it does not count, because it pads a rank's share or its image (3,H,W)
    cannot be read. The placeholder's only proposal is the whole image: its loss is 0, and its graph holds the learner's
    tensors."""
    if counts:
        return item
    whole = (0.0, 0.0, float(image.shape[2]), float(image.shape[1]))
    return Expression(item.path, item.image_id, item.expression_id, item.text, whole, (whole,))


def masks_of(source: Any, item: Any) -> Tensor | None:
    """(N,H,W) bool: the masks of an expression's proposals; None where one has none."""
    masks = [source.region_mask(item, number) for number in range(len(item.proposals))]
    return None if any(mask is None for mask in masks) else torch.from_numpy(np.stack(masks))
