"""A kind of task: each image ranks the class names, and a hinge loss pulls its own to the top.

Shapes: B images, C classes.
"""

import torch
import torch.nn.functional as F
from torchmetrics import MeanMetric

from lightning_modules.evaluated import Figure
from lightning_modules.task import TaskModule


class Ranking(TaskModule):
    """Judged by the mean reciprocal rank of an image's own class, in percent. Margin of the hinge: 1."""

    needs = ("class logits", "labelled images")
    figure = Figure("mrr", "mean reciprocal rank", "%")

    def training_losses(self, batch, seed):
        """The hinge between an image's own class and the others."""
        outputs = self.model(batch["image"])
        return {"hinge": F.multi_margin_loss(outputs.logits, batch["label"], reduction="none")}, outputs.logits

    def start_evaluation(self, evaluation):
        """A mean over images."""
        evaluation.metrics = MeanMetric().to(self.device)

    def evaluate_batch(self, evaluation, batch, first):
        """Adds the reciprocal ranks (B,) of the images' own classes."""
        if first:
            self.model.bind(evaluation.classnames)
        logits = self.model(batch["image"]).logits
        true_logit = logits.gather(1, batch["label"][:, None])
        ranks = 1 + (logits > true_logit).sum(1)
        evaluation.metrics.update(100 / ranks.to(torch.float32), batch["weight"] > 0)

    def metrics_of(self, evaluation):
        """The mean over images, in percent."""
        return {"mrr": float(evaluation.metrics.compute()), "images": evaluation.images}

    def finish_evaluations(self):
        """Back to the classes that are trained on."""
        self.model.bind(self.train_classnames)


class Tagging(Ranking):
    """Needs what no dataset here offers."""

    needs = ("class logits", "tagged images")


def sections(groups, tables, palette):
    """What the report says of this task beside its tables."""
    from reports.pieces import note

    return [("Ranks", note(f"{len(groups)} configurations that rank class names."))]
