"""Retrieval: the captions of an image are ranked among all captions, and the image of a caption among all images.

In training, captions replace the class names: one caption of each image of the step, over all ranks.

Shapes: B images of a rank, G of all ranks, C captions of a step, N images and M captions of an evaluation, U of them distinct,
d width of the shared embedding.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.evaluation import Evaluation
from datamodules.known_features import FEATURES, IMAGE
from lightning_modules.evaluated import Figure
from lightning_modules.process import is_first_rank
from lightning_modules.retrieval_ranks import Gallery, ImageRows, Scores, exact_ranks, retrieved, summary
from lightning_modules.samples import choose, write_samples
from lightning_modules.task import TaskModule, on_host
from prompts.engine.sharding import gather_rows, sum_over_ranks
from prompts.engine.text_plan import Caption
from prompts.parts.reference_prompts import encode_prompts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepCaptions:
    """The captions of a step, equal on all ranks, and the gathered images."""

    captions: list[Caption]  # (C,) in the order of the step's global batch
    target: Tensor  # (G,) the caption of each image; arbitrary for images that do not count
    counts: Tensor  # (G,) bool


class Retrieval(TaskModule):
    """Measures recall at 1, 5 and 10 and median ranks, image to text and text to image. For an image, recall at K asks whether
    any of its captions is among the first K.

    The main figure is image-to-text R@1, as the methods here learn on the image's side and the published tables begin with it.
    """

    needs = ("class logits", "captioned images")
    figure = Figure("image_to_text_r1", "image-to-text R@1", "%")
    takes_features = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        learner = self.model.learner
        if learner.class_specific or not learner.takes_captions:
            raise ValueError(
                f"task=retrieval puts captions in the place of the class names, others in every step, and "
                f"{type(learner).__name__} keeps something for each class of its training set: choose another method "
                "(docs/retrieval.md has the list)."
            )
        self.captions_of_images: tuple[Tensor, Tensor] | None = None  # (N,n,d) and (N,n), of the training images
        self.samples: dict[str, list[dict[str, Any]]] = {}
        self.warned: set[str] = set()

    # ---------------------------------------------------------------- training

    def setup(self, stage: str) -> None:
        """ValueError, before a training starts, for settings with which its loss cannot be computed."""
        if stage != "fit":
            return
        if (accumulate := self.trainer.accumulate_grad_batches) > 1:
            raise ValueError(
                f"accumulate={accumulate}: an image is compared with the captions of its own micro-batch alone, so that is "
                "another loss: set accumulate=1, and clip.recompute=true or more devices where memory is short."
            )
        items = self.data.train_items
        captions = [self.drawn(items, index, 0) for index in range(min(len(items), self.data.batch_size))]
        self.model.bind(captions)
        labels = torch.arange(len(captions))
        self.check_sample(self.model.learner.sample(labels, labels, 0))

    def on_fit_start(self) -> None:
        """Encodes the captions of all training images where the learner wants them: before autocast and its stored weights."""
        if self.model.learner.wants_captions and self.captions_of_images is None:
            items = self.data.train_items
            features, mask = encode_prompts(self.model.clip, [_captions(items, index) for index in range(len(items))])
            self.captions_of_images = features.cpu(), mask.cpu()
        super().on_fit_start()

    def training_losses(self, batch: dict[str, Tensor], seed: int) -> tuple[dict[str, Tensor], Tensor]:
        """The learner's losses over the captions of the step. Its cross-entropy is averaged with that of the captions over the
        images; a loss of another name, such as "sigmoid", is symmetric already."""
        step = self.step_captions(batch, seed)
        self.model.bind(step.captions)
        self.warn_of_cut("training", sum(caption.cut for caption in step.captions), len(step.captions))
        rank, count = self.trainer.global_rank, len(batch["index"])
        own = torch.arange(rank * count, (rank + 1) * count, device=batch["index"].device)  # (B,) of the gathered rows
        target = step.target[own]
        positions = batch.get(on_host("batch_index"), batch["batch_index"]).cpu()
        self.check_sample(self.model.learner.sample(target.cpu(), positions, seed))
        outputs = self.outputs(batch)
        if self.captions_of_images is not None:
            features, mask = (part[batch["index"].cpu()].to(self.device) for part in self.captions_of_images)
            outputs = replace(outputs, captions=features, caption_mask=mask & step.counts[own][:, None])
        losses = self.model.losses(outputs, target, batch["index"])
        if "ce" in losses:
            logits_GC = gather_rows(outputs.logits)
            captions = captions_over_images(logits_GC, step, own)
            losses = {**losses, "ce": losses["ce"] / 2, "captions": captions / 2}
        return losses, outputs.logits

    def step_captions(self, batch: Mapping[str, Tensor], seed: int) -> StepCaptions:
        """One caption of each image of the global batch, drawn by (seed, image). Images that could not be read bring none."""
        rows = torch.stack([batch["batch_index"], batch["index"], (batch["weight"] > 0).long()], 1)
        place, index, counts = gather_rows(rows).cpu().T.contiguous()
        counts = counts > 0 if counts.any() else counts == 0  # with no image that counts, all losses have weight 0 anyway
        places, first = np.unique(place[counts].numpy(), return_index=True)
        captions = [self.drawn(self.data.train_items, i, seed) for i in index[counts][first].tolist()]
        target = torch.searchsorted(torch.from_numpy(places), place).clamp_max(len(places) - 1)
        return StepCaptions(captions, target.to(self.device), counts.to(self.device))

    def drawn(self, items: Sequence[Any], index: int, seed: int) -> Caption:
        """One of an image's captions, the same on every rank."""
        captions = _captions(items, index)
        return Caption(captions[int(np.random.default_rng([seed, index]).integers(len(captions)))])

    def check_sample(self, sample: Any) -> None:
        """ValueError where the learner samples among the captions of the step."""
        if sample is not None:
            raise ValueError(
                f"{type(self.model.learner).__name__} samples classes, and the captions of a step are a sample already: set "
                "method.local_contrast.num_sampled_classes=null."
            )

    # ---------------------------------------------------------------- evaluation

    def start_evaluation(self, evaluation: Evaluation) -> None:
        """Allocates the features of the images. ValueError for an image without captions."""
        for index in range(len(evaluation.items)):
            _captions(evaluation.items, index)
        evaluation.metrics = ImageRows(evaluation.images, self.model.clip.embed_dim).to(self.device)

    def evaluate_batch(self, evaluation: Evaluation, batch: dict[str, Tensor], first: bool) -> None:
        """Keeps the features of the batch's readable images."""
        features = batch[FEATURES] if FEATURES in batch else self.model.encode_images(batch[IMAGE])
        readable = batch["weight"] > 0
        evaluation.metrics.update(batch["index"][readable], features[readable])

    def metrics_of(self, evaluation: Evaluation) -> dict[str, Any]:
        """`retrieval_ranks.summary`, how many captions were cut, and the summary of each domain where images have one.
        ValueError where logits are not finite or no image can be read."""
        rows, seen = evaluation.metrics.compute()
        index = seen.reshape(-1).nonzero().flatten()  # torchmetrics makes a number of the tensor of one image
        if not len(index):
            raise ValueError(f"evaluation {evaluation.name}: none of its images can be read, so it has no result.")
        items = [evaluation.items[i] for i in index.tolist()]
        gallery = Gallery.of([item.captions for item in items])
        captions = [Caption(text) for text in gallery.texts]
        with self.trainer.precision_plugin.forward_context():
            self.model.bind(captions)
            score = Scores(self.model, rows[index])
            at_once = min(gallery.images_at_once, score.images_at_once)
            share = self.trainer.global_rank, self.trainer.world_size
            ranks = exact_ranks(score, len(items), gallery.to(self.device), at_once, share, sum_over_ranks)
            if ranks.not_finite.any():
                image = int(index[int(ranks.not_finite.argmax())])
                raise ValueError(
                    f"evaluation {evaluation.name}: the logits of image {image} are not finite (NaN or infinite), so it has no "
                    f"result: {self.what_to_lower}."
                )
            if self.trainer.testing:
                chosen = choose(-ranks.images, self.seed)
                shown = {i: {"captions": items[i].captions, "rank": int(ranks.images[i])} for _, i in chosen}
                for i, sample in shown.items():
                    sample |= {"index": int(index[i]), "retrieved": retrieved(gallery, score.row(i, at_once), i)}
                self.samples[evaluation.name] = [{"why": why, **shown[i]} for why, i in chosen]
        cut = torch.tensor([caption.cut for caption in captions])[gallery.which].sum().item()
        self.warn_of_cut(evaluation.name, cut, len(gallery.owner))  # type: ignore[arg-type]
        self.model.bind(self.train_classnames)
        domains = {item.domain: None for item in items if item.domain}
        owner, of_image = gallery.owner.numpy(), np.array([item.domain for item in items])
        by_domain = {name: summary(ranks, of_image == name, owner) for name in domains}
        return summary(ranks) | {"cut_captions": cut} | ({"domains": by_domain} if by_domain else {})

    def line(self, metrics: Mapping[str, Any]) -> str:
        """Recall at 1, 5 and 10 of both directions, and the numbers of images and captions."""
        parts = [" ".join(f"{metrics[f'{side}_r{k}']:6.2f}" for k in (1, 5, 10)) for side in ("image_to_text", "text_to_image")]
        counts = f"({metrics['images']} images, {metrics['captions']} captions)"
        return f"R@1, 5, 10: image to text {parts[0]} %   text to image {parts[1]} %   {counts}"

    def warn_of_cut(self, where: str, cut: int, count: int) -> None:
        """Warns once, where it first happens, that captions were cut."""
        if cut and where not in self.warned and is_first_rank():
            log.warning("%s: %d of %d captions are longer than the text tower has room for, and cut", where, cut, count)
            self.warned.add(where)

    def write_files(self, folder: Path) -> None:
        """Writes samples.json and the pictures in samples/."""
        write_samples(folder, "retrieval", self.tests, self.samples)


def captions_over_images(logits_GC: Tensor, step: StepCaptions, own: Tensor) -> Tensor:
    """(B,) cross-entropy of each caption over the images of all ranks, for the images with rows `own` (B,). Images that do not
    count are no candidates, nor are other views of the caption's own image."""
    logits_BG = logits_GC[:, step.target[own]].T
    is_own = torch.arange(len(logits_GC), device=own.device) == own[:, None]
    left_out = ~step.counts | (step.target == step.target[own][:, None])
    return F.cross_entropy(logits_BG.masked_fill(left_out & ~is_own, float("-inf")), own, reduction="none")


def _captions(items: Sequence[Any], index: int) -> Sequence[str]:
    item = items[index]
    if not item.captions:
        raise ValueError(
            f"the image {item.path} has no captions, and retrieval needs at least one of each: leave it out of the list, or "
            "evaluate images whose captions are public."
        )
    return item.captions
