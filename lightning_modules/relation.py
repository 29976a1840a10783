"""Visual relations: for a pair of objects in an image all relations are scored, and the one with the best score is the answer.

Names and boxes never go through the loader: they are looked up by the index of the pair in `evaluation.items`.

Shapes: B pairs, R relations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.evaluation import Evaluation
from files.whole import write_json
from lightning_modules.box_choices import images_of
from lightning_modules.evaluated import Figure
from lightning_modules.records import all_records
from lightning_modules.task import TaskModule
from prompts.learner import GradientFree


class Relations(TaskModule):
    """Measures recall at K, in percent: the share of pairs whose relation is among the K with the best scores, over all pairs,
    for each relation, and as the mean over relations. At 1 it is the accuracy.

    Args:
        ks: the numbers K beside 1; one larger than the number of relations is left out.

    Raises:
        ValueError: a K that is no whole number above 1, or a method that an optimiser would train.
    """

    needs = ("scores of relations", "related pairs")
    figure = Figure("accuracy", "accuracy", "%")

    def __init__(self, *args: Any, ks: Sequence[int] = (3, 5)) -> None:
        super().__init__(*args)
        if not all(type(k) is int and k > 1 for k in ks):
            raise ValueError(f"task.module.ks={list(ks)}: give whole numbers above 1, such as [3,5].")
        if not isinstance(self.model.learner, GradientFree):
            raise ValueError("this task trains nothing: choose a method without gradients.")
        self.ks = sorted(set(ks))
        self.records: dict[str, dict[int, list[float]]] = {}  # by test: (R,) of each pair by its index

    def start_evaluation(self, evaluation: Evaluation) -> None:
        """Makes an empty record."""
        evaluation.metrics = {}

    def evaluate_batch(self, evaluation: Evaluation, batch: dict[str, Tensor], first: bool) -> None:
        """Keeps the scores of the pairs whose images can be read. ValueError where a score is not finite."""
        rows = (batch["weight"] > 0).nonzero().flatten().tolist()
        if not rows:
            return
        index, images = [int(batch["index"][row]) for row in rows], images_of(batch)
        items = [evaluation.items[i] for i in index]
        boxes = [torch.tensor([item.subject_box, item.object_box], dtype=torch.float32) for item in items]
        names = [(item.subject, item.object) for item in items]
        wanted = [images[row] for row in rows]
        scores = self.learner.relation_scores(self.model.clip, wanted, boxes, names, evaluation.classnames)
        finite = scores.isfinite().all(1)
        if not finite.all():
            pair = items[int(finite.int().argmin())].pair_id
            raise ValueError(
                f"evaluation {evaluation.name}: a score of pair {pair} is not finite (NaN or infinite), so it has no result: "
                f"{self.what_to_lower}."
            )
        evaluation.metrics |= zip(index, scores.tolist(), strict=True)

    def metrics_of(self, evaluation: Evaluation) -> dict[str, Any]:
        """`recalls` of all ranks' pairs. ValueError where no image can be read."""
        records = all_records(self, evaluation)
        labels = np.array([evaluation.items[i].label for i in records])
        return recalls(np.array(list(records.values())), labels, evaluation.classnames, [1, *self.ks])

    def line(self, metrics: Mapping[str, Any]) -> str:
        """The accuracy and its mean over relations."""
        mean = f"mean over relations {metrics['mean_recall_1']:.2f} %"
        return f"{self.figure.text(metrics['accuracy'])}   ({mean}, {metrics['pairs']} pairs)"

    def write_files(self, folder: Path) -> None:
        """Writes relations_NAME.json for each evaluation: the relation that was found for each pair."""
        for evaluation in self.tests:
            names, items = evaluation.classnames, evaluation.items
            lines = [
                {
                    "pair_id": items[i].pair_id,
                    "image_id": items[i].image_id,
                    "subject": items[i].subject,
                    "object": items[i].object,
                    "relation": names[int(np.argmax(scores))],
                    "true": names[items[i].label],
                }
                for i, scores in self.records[evaluation.name].items()
            ]
            write_json(folder / f"relations_{evaluation.name}.json", lines)


def recalls(scores: np.ndarray, labels: np.ndarray, names: Sequence[str], ks: Sequence[int]) -> dict[str, Any]:
    """Recall at each K in percent: `accuracy` (K = 1), `recall_K`, `mean_recall_K` over the relations that pairs have, and
    `by_relation` at 1; the number of `pairs`.

    Args:
        scores: (B,R), higher is better; of equal scores the first relation comes first.
        labels: (B,) the true relations.
        names: of the R relations.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = (order == labels[:, None]).argmax(1)  # from 0
    metrics: dict[str, Any] = {}
    for k in ks:
        if k > 1 and k >= len(names):
            continue
        found = ranks < k
        each = {int(label): 100 * float(found[labels == label].mean()) for label in np.unique(labels)}
        metrics["accuracy" if k == 1 else f"recall_{k}"] = 100 * float(found.mean())
        metrics[f"mean_recall_{k}"] = sum(each.values()) / len(each)
        if k == 1:
            metrics["by_relation"] = {names[label]: value for label, value in each.items()}
    return metrics | {"chance": 100 / len(names), "pairs": len(labels)}
