"""A few-shot dataset: its lists, the few-shot selection, the class subset, its loaders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.alternating import AlternatingDataset, AlternatingSampler, held_out
from datamodules.few_shot import select, subset
from datamodules.items import Items, ItemTable, Source, Splits
from datamodules.loaders import ImageDataset, StepSampler, TrainLoader, Transform, eval_loader, shards_of, windowed
from datamodules.randaugment import RandAugment2
from datamodules.transforms import eval_transform, train_transform

log = logging.getLogger(__name__)
CHOICES = {
    "subset": ("all", "base", "new"),
    "augmentation": ("plain", "randaug2"),
    "order": ("random", "windowed"),
    "on_bad_image": ("raise", "skip"),
}


@dataclass(frozen=True)
class EvalSet:
    """Images to evaluate on and the class list to tell them apart with."""

    name: str
    classnames: list[str]
    loader: Callable[[int, int], DataLoader]  # (rank, world) -> that rank's share, each image once


class FewShotData(LightningDataModule):
    """What a run trains and is evaluated on.

    Lightning's loops run over `vals` and `tests`, which may hold evaluations of other datasets too; they start as none and as
    this dataset's own test images.

    Args:
        shots: training images per class; 0 or less: all of them.
        subset: classes to train on: all, base (the first half, rounded up) or new.
        batch_size: global, over all ranks and micro-batches.
        sampler: which published few-shot sampler draws the images, see `datamodules.few_shot.select`.
        templates: the dataset's own prompts for zero-shot, "{}" stands for the class name.
        train_transform: makes the training transform from (size, mean, std) and, if there is one, `augment`; default: the
            published one.
        views: how often each training image is in its batch, each time transformed anew; the loss is the mean over them.
        augmentation: "plain", or "randaug2" for POMP's RandAugment2 after crop and flip.
        order: of the training images: "random", or "windowed" for disks that dislike random reads.
        on_bad_image: "raise", or "skip": a training image that cannot be read weighs nothing (the others of its step weigh what
            they did, so the step is that much smaller, the same for any number of ranks), a test image is not counted.

    Raises:
        ValueError: a wrong argument; from `setup`: whatever is missing on disk, in one sentence.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        shots: int,
        seed: int,
        subset: Literal["all", "base", "new"] = "all",
        batch_size: int = 32,
        eval_batch_size: int = 100,
        workers: int = 0,
        templates: Sequence[str] = (),
        sampler: Literal["coop", "numpy"] = "coop",
        train_transform: Callable[..., Transform] = train_transform,
        views: int = 1,
        augmentation: Literal["plain", "randaug2"] = "plain",
        order: Literal["random", "windowed"] = "random",
        on_bad_image: Literal["raise", "skip"] = "raise",
    ) -> None:
        super().__init__()
        if not isinstance(shots, int):
            raise ValueError(f"shots={shots!r} is not a number of images per class: give an integer, e.g. shots=16.")
        chosen = {"subset": subset, "augmentation": augmentation, "order": order, "on_bad_image": on_bad_image}
        for key, value in chosen.items():
            if value not in CHOICES[key]:
                raise ValueError(f"data.{key}={value!r}: choose one of {', '.join(CHOICES[key])}.")
        for key, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("workers", workers, 0),
            ("views", views, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"data.{key}={value!r}: give an integer, {least} or more.")
        self.name, self.source, self.shots, self.seed, self.subset = name, source, shots, seed, subset
        self.batch_size, self.eval_batch_size, self.workers = batch_size, eval_batch_size, workers
        self.templates, self.sampler = tuple(templates), sampler
        self.make_train_transform = (
            train_transform if augmentation == "plain" else partial(train_transform, augment=RandAugment2())
        )
        self.views, self.order, self.on_bad_image = views, order, on_bad_image
        self.image_spec: Mapping[str, Any] | None = None  # size, mean, std: the CLIP model's, set before any loader is made
        self._val_batch = 0
        self._held_out: Items = []
        self.selected: Splits | None = None
        self._subsets: dict[str, Splits] = {}
        self._bad: dict[tuple[str, str], tuple[Items, Tensor]] = {}  # by split and class subset
        self.vals: list[EvalSet] = []
        self.tests: list[EvalSet] = []

    def setup(self, stage: str | None = None) -> None:
        if self.selected is not None:
            return
        splits = self.source.splits(self.seed)
        if (broken := getattr(self.source, "broken", [])) and self.on_bad_image == "raise":
            raise ValueError(broken[0])
        for line in broken:
            log.warning("left out: %s", line)
        self.selected = select(splits, self.shots, self.seed, self.sampler)
        for which in {self.subset, "all"}:
            if not self.splits(which).classnames:
                raise ValueError(f"{self.name} has no classes in subset={which}.")
        self.tests = [self.eval_set("test", "test", self.subset)] if len(self.test_items) else []

    @property
    def val_batch(self) -> int:
        """Images, over all ranks, of the validation batches that take turns with training batches; 0: none. Setting it after
        `setup` raises ValueError where there are no images for them."""
        return self._val_batch

    @val_batch.setter
    def val_batch(self, size: int) -> None:
        assert self.selected is not None or not size, "call setup() first"
        if size:
            self._held_out = held_out(self.source, self.selected, self.shots, self.seed, self.subset)
        self._val_batch = size

    def splits(self, which: str | None = None) -> Splits:
        """The selected items of a class subset (default: the one trained on), labels from 0."""
        assert self.selected is not None, "call setup() first"
        which = which or self.subset
        if which not in self._subsets:  # kept: lists may hold a million images
            self._subsets[which] = subset(self.selected, which)
        return self._subsets[which]

    def class_list(self, which: str | None = None) -> list[str]:
        return self.splits(which).classnames

    @property
    def classnames(self) -> list[str]:
        return self.class_list()

    @property
    def train_items(self) -> Items:
        return self.splits().train

    @property
    def val_items(self) -> Items:
        return self.splits().val

    @property
    def test_items(self) -> Items:
        return self.splits().test

    def selection(self) -> dict[str, list[str] | dict[str, int | str]]:
        """The selected images, as published lists name them: paths below the image root; of large data counts and a digest."""
        lists = {"train": self.train_items, "val": self.val_items}
        return {
            split: items.summary() if isinstance(items, ItemTable) else [item.path for item in items]
            for split, items in lists.items()
        }

    def bad_images(self) -> list[str]:
        """With on_bad_image=skip: what this process and its workers could not read so far, and shards that are cut short."""
        paths = {items[i].path for items, flags in self._bad.values() for i in flags.nonzero().flatten().tolist()}
        return [*getattr(self.source, "broken", []), *sorted(paths)]

    def _dataset(self, split: str, which: str, transform: Transform, views: int = 1) -> ImageDataset:
        items = getattr(self.splits(which), split)
        if self.on_bad_image == "skip" and (split, which) not in self._bad:
            self._bad[split, which] = items, torch.zeros(max(len(items), 1), dtype=torch.bool).share_memory_()
        _, bad = self._bad.get((split, which), (items, None))
        return ImageDataset(self.source, items, transform, self.seed, views, bad)

    def train_loader(self, rank: int = 0, world: int = 1, accumulate: int = 1) -> TrainLoader:
        """This rank's share of every micro-batch of every step, with the training transform."""
        assert self.image_spec is not None
        dataset = self._dataset("train", self.subset, self.make_train_transform(**self.image_spec), self.views)
        order = windowed(shards_of(dataset.items)) if self.order == "windowed" else None
        sampler = StepSampler(len(dataset), self.batch_size, self.seed, rank, world, accumulate, order)
        if self.val_batch:
            items = self._held_out
            bad = None if self.on_bad_image == "raise" else torch.zeros(len(items), dtype=torch.bool).share_memory_()
            val = ImageDataset(self.source, items, eval_transform(**self.image_spec), self.seed, bad=bad)
            turns = AlternatingSampler(sampler, StepSampler(len(val), self.val_batch, self.seed, rank, world, accumulate))
            return TrainLoader(AlternatingDataset(dataset, val), turns, self.workers)
        return TrainLoader(dataset, sampler, self.workers)

    def eval_loader(self, split: str = "test", subset: str | None = None, rank: int = 0, world: int = 1) -> DataLoader:
        """This rank's share of a split (train, val, test) with the test transform: over all ranks, each image once."""
        assert self.image_spec is not None
        dataset = self._dataset(split, subset or self.subset, eval_transform(**self.image_spec))
        return eval_loader(dataset, self.eval_batch_size, self.workers, rank, world)

    def eval_set(self, name: str, split: str, subset: str) -> EvalSet:
        """Images of a split and class subset to evaluate on. ValueError where there are none: nothing would be measured."""
        if not len(getattr(self.splits(subset), split)):
            kind = {"test": "test", "val": "validation", "train": "training"}[split]
            raise ValueError(f"data={self.name} has no {kind} images in subset={subset}, and this run needs them.")
        return EvalSet(name, self.class_list(subset), partial(self.eval_loader, split, subset))

    # ---- what Lightning calls

    def train_dataloader(self) -> TrainLoader:
        return self.train_loader(self.trainer.global_rank, self.trainer.world_size, self.trainer.accumulate_grad_batches)

    def val_dataloader(self) -> list[DataLoader]:
        return [each.loader(self.trainer.global_rank, self.trainer.world_size) for each in self.vals]

    def test_dataloader(self) -> list[DataLoader]:
        return [each.loader(self.trainer.global_rank, self.trainer.world_size) for each in self.tests]
