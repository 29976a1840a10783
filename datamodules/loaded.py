"""The base of all datamodules: transforms and loaders for the images of their lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.decoded import DecodedImages
from datamodules.loaders import ImageDataset, StepSampler, TrainLoader, Transform, collate, eval_loader
from datamodules.randaugment import RandAugment2
from datamodules.transforms import eval_transform, made_for
from datamodules.workers import workers_for

Augmentation = Literal["plain", "randaug2"]
OnBadImage = Literal["raise", "skip"]
KINDS = {"train": "training", "val": "validation", "test": "test"}  # of images, by split


class LoadedImages(LightningDataModule):
    """Loaders of the lists of a source. A subclass defines the lists (`listed`), and may define how items are read
    (`train_set`, `test_set`) and batched (`collate`).

    Args:
        image_spec, seed, subset, batch_size, eval_batch_size, workers, decoded_mb, train_transform, views, augmentation,
        on_bad_image: as in `datamodules.module.FewShotData`.

    Raises:
        ValueError: a wrong argument, in one sentence.
    """

    collate = staticmethod(collate)

    def __init__(
        self,
        name: str,
        source: Any,
        image_spec: Mapping[str, Any],
        seed: int,
        subset: str,
        batch_size: int,
        eval_batch_size: int,
        workers: int | Literal["auto"],
        decoded_mb: int,
        train_transform: Callable[..., Transform],
        views: int = 1,
        augmentation: Augmentation = "plain",
        on_bad_image: OnBadImage = "raise",
    ) -> None:
        super().__init__()
        check_choice("augmentation", augmentation, Augmentation)
        check_choice("on_bad_image", on_bad_image, OnBadImage)
        check_count("batch_size", batch_size, 1)
        check_count("eval_batch_size", eval_batch_size, 1)
        if workers != "auto":
            check_count("workers", workers, 0)
        check_count("decoded_mb", decoded_mb, 0)
        check_count("views", views, 1)
        self.name, self.source, self.image_spec, self.seed, self.subset = name, source, image_spec, seed, subset
        self.batch_size, self.eval_batch_size, self.workers, self.decoded_mb = batch_size, eval_batch_size, workers, decoded_mb
        augment = {} if augmentation == "plain" else {"augment": RandAugment2()}
        self.make_train_transform = partial(train_transform, **augment)
        self.views, self.on_bad_image = views, on_bad_image
        self._bad: dict[tuple[str, str], tuple[Sequence, Tensor]] = {}  # by split and class subset

    def listed(self, split: str, which: str) -> Sequence:
        """The items of a split (train, val, test) and class subset, each with a `path` and a `label`; perhaps none."""
        raise NotImplementedError

    def bad_images(self) -> list[str]:
        """With on_bad_image=skip: images that this process and its workers could not read so far, and shards cut short."""
        paths = {items[i].path for items, flags in self._bad.values() for i in flags.nonzero().flatten().tolist()}
        return [*getattr(self.source, "broken", []), *sorted(paths)]

    def dataset(self, split: str, which: str, transform: Any, views: int = 1, decoded_mb: int = 0) -> ImageDataset:
        """The images of a split and class subset; at most `decoded_mb` megabytes of them are kept in memory."""
        items = self.listed(split, which)
        if self.on_bad_image == "skip" and (split, which) not in self._bad:
            self._bad[split, which] = items, torch.zeros(max(len(items), 1), dtype=torch.bool).share_memory_()
        _, bad = self._bad.get((split, which), (items, None))
        decoded = DecodedImages(len(items), decoded_mb) if not getattr(self.source, "in_memory", False) else None
        return ImageDataset(self.source, items, transform, self.seed, views, bad, decoded)

    def workers_of(self, images: int, world: int) -> int:
        """The number of processes that load a list of so many images."""
        return workers_for(self.workers, images, self.source, world)

    def train_set(self) -> ImageDataset:
        """The images that train, with the training transform."""
        transform = made_for(self.image_spec, self.make_train_transform)
        return self.dataset("train", self.subset, transform, self.views, self.decoded_mb)

    def test_set(self, split: str, which: str) -> ImageDataset:
        """The images of a split and class subset with the test transform."""
        return self.dataset(split, which, eval_transform(**self.image_spec))

    def train_loader(self, rank: int = 0, world: int = 1, accumulate: int = 1) -> TrainLoader:
        """This rank's share of every micro-batch of every step, with the training transform."""
        dataset = self.train_set()
        sampler = StepSampler(len(dataset), self.batch_size, self.seed, rank, world, accumulate)
        return TrainLoader(dataset, sampler, self.workers_of(len(dataset), world), self.collate)

    def eval_loader(self, split: str = "test", subset: str | None = None, rank: int = 0, world: int = 1) -> DataLoader:
        """This rank's share of a split (train, val, test) with the test transform: over all ranks, each image once."""
        dataset = self.test_set(split, subset or self.subset)
        return eval_loader(dataset, self.eval_batch_size, self.workers_of(len(dataset), world), rank, world, self.collate)

    # ---- Lightning's hooks: this dataset alone, for any LightningModule

    def train_dataloader(self) -> TrainLoader:
        """This rank's training batches."""
        return self.train_loader(self.trainer.global_rank, self.trainer.world_size, self.trainer.accumulate_grad_batches)

    def val_dataloader(self) -> DataLoader:
        """This rank's share of the validation images."""
        return self.eval_loader("val", self.subset, self.trainer.global_rank, self.trainer.world_size)

    def test_dataloader(self) -> DataLoader:
        """This rank's share of the test images."""
        return self.eval_loader("test", self.subset, self.trainer.global_rank, self.trainer.world_size)


def check_choice(key: str, value: Any, choices: Any) -> None:
    """ValueError unless the value of data.KEY is one of the Literal's choices."""
    if value not in get_args(choices):
        raise ValueError(f"data.{key}={value!r}: choose one of {', '.join(get_args(choices))}.")


def check_count(key: str, value: Any, least: int) -> None:
    """ValueError unless the value of data.KEY is an integer, `least` or more."""
    if not isinstance(value, int) or value < least:
        raise ValueError(f"data.{key}={value!r}: give an integer, {least} or more.")


def check_shots(shots: int, name: str) -> None:
    """ValueError for shots=0, with which a training dataset would have no images."""
    if shots == 0:
        raise ValueError(f"shots=0: data={name} has nothing to learn from without images: give 1 or more, or -1 for all.")
