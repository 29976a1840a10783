"""A few-shot dataset: its lists, the few-shot selection, the class subset, its loaders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.few_shot import select, subset
from datamodules.folds import Folds, TurnSampler, held_out
from datamodules.items import Item, Source, Splits
from datamodules.loaders import ImageDataset, StepSampler, TrainLoader, Transform, eval_loader
from datamodules.transforms import eval_transform, train_transform

SUBSETS = ("all", "base", "new")


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
        train_transform: makes the training transform from (size, mean, std); default: the published one.

    Raises:
        ValueError: a wrong argument; from `setup`: whatever is missing on disk, in one sentence.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        shots: int,
        seed: int,
        subset: str = "all",
        batch_size: int = 32,
        eval_batch_size: int = 100,
        workers: int = 0,
        templates: Sequence[str] = (),
        sampler: Literal["coop", "numpy"] = "coop",
        train_transform: Callable[[int, Sequence[float], Sequence[float]], Transform] = train_transform,
    ) -> None:
        super().__init__()
        if not isinstance(shots, int):
            raise ValueError(f"shots={shots!r} is not a number of images per class: give an integer, e.g. shots=16.")
        if subset not in SUBSETS:
            raise ValueError(f"subset={subset!r}: choose one of {', '.join(SUBSETS)}.")
        for key, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("workers", workers, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{key}={value!r}: give an integer, {least} or more.")
        self.name, self.source, self.shots, self.seed, self.subset = name, source, shots, seed, subset
        self.batch_size, self.eval_batch_size, self.workers = batch_size, eval_batch_size, workers
        self.templates, self.sampler = tuple(templates), sampler
        self.make_train_transform = train_transform
        self.image_spec: Mapping[str, Any] | None = None  # size, mean, std: the CLIP model's, set before any loader is made
        self.val_batch = 0  # images, over all ranks, of the validation batches that take turns with training batches; 0: none
        self.selected: Splits | None = None
        self._subsets: dict[str, Splits] = {}
        self.vals: list[EvalSet] = []
        self.tests: list[EvalSet] = []

    def setup(self, stage: str | None = None) -> None:
        if self.selected is not None:
            return
        self.selected = select(self.source.splits(self.seed), self.shots, self.seed, self.sampler)
        for which in {self.subset, "all"}:
            if not self.splits(which).classnames:
                raise ValueError(f"{self.name} has no classes in subset={which}.")
        self.tests = [self.eval_set("test", "test", self.subset)]

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
    def train_items(self) -> list[Item]:
        return self.splits().train

    @property
    def val_items(self) -> list[Item]:
        return self.splits().val

    @property
    def test_items(self) -> list[Item]:
        return self.splits().test

    def selection(self) -> dict[str, list[str]]:
        """The selected images, as published lists name them: paths below the image root."""
        return {"train": [item.path for item in self.train_items], "val": [item.path for item in self.val_items]}

    def train_loader(self, rank: int = 0, world: int = 1, accumulate: int = 1) -> TrainLoader:
        """This rank's share of every micro-batch of every step, with the training transform."""
        assert self.image_spec is not None
        dataset = ImageDataset(self.source, self.train_items, self.make_train_transform(**self.image_spec), self.seed)
        sampler = StepSampler(len(dataset), self.batch_size, self.seed, rank, world, accumulate)
        if self.val_batch:
            assert self.selected is not None
            items = held_out(self.source, self.selected, self.shots, self.seed, self.subset)
            val = ImageDataset(self.source, items, eval_transform(**self.image_spec), self.seed)
            turns = TurnSampler(sampler, StepSampler(len(val), self.val_batch, self.seed, rank, world, accumulate))
            return TrainLoader(Folds(dataset, val), turns, self.workers)
        return TrainLoader(dataset, sampler, self.workers)

    def eval_loader(self, split: str = "test", subset: str | None = None, rank: int = 0, world: int = 1) -> DataLoader:
        """This rank's share of a split (train, val, test) with the test transform: over all ranks, each image once."""
        assert self.image_spec is not None
        items = getattr(self.splits(subset), split)
        dataset = ImageDataset(self.source, items, eval_transform(**self.image_spec), self.seed)
        return eval_loader(dataset, self.eval_batch_size, self.workers, rank, world)

    def eval_set(self, name: str, split: str, subset: str) -> EvalSet:
        return EvalSet(name, self.class_list(subset), partial(self.eval_loader, split, subset))

    # ---- what Lightning calls

    def train_dataloader(self) -> TrainLoader:
        return self.train_loader(self.trainer.global_rank, self.trainer.world_size, self.trainer.accumulate_grad_batches)

    def val_dataloader(self) -> list[DataLoader]:
        return [each.loader(self.trainer.global_rank, self.trainer.world_size) for each in self.vals]

    def test_dataloader(self) -> list[DataLoader]:
        return [each.loader(self.trainer.global_rank, self.trainer.world_size) for each in self.tests]
