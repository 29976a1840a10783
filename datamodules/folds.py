"""Validation batches that take turns with training batches, for methods that fit some of their numbers on images which the
others are not fitted on (DPL, section on its search)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch.utils.data import Dataset

from datamodules.few_shot import MAX_VAL_SHOTS, select, subset
from datamodules.items import Items, Source, Splits
from datamodules.loaders import ImageDataset, Row, StepSampler


def held_out(source: Source, selected: Splits, shots: int, seed: int, which: str) -> Items:
    """The images of a class subset for those batches: the selected validation images or, where these are the test images
    (ImageNet), min(shots, 4) per class of the training images that were not selected. ValueError where there are none."""
    if "val" in selected.fixed:
        taken = {item.path for item in selected.train}
        rest = [item for item in source.splits(seed).train if item.path not in taken]
        drawn = select(Splits(rest, [], []), min(shots, MAX_VAL_SHOTS), seed).train if shots > 0 else []
        selected = replace(selected, val=drawn)
    items = subset(selected, which).val
    if not len(items):
        raise ValueError(
            "this method fits on validation images, and there are none: give the dataset a val split or, where its val is its "
            "test set, fewer shots than it has training images."
        )
    return items


class Folds(Dataset):
    """Training items and, behind them, validation items with the test transform."""

    def __init__(self, train: ImageDataset, val: ImageDataset) -> None:
        self.train, self.val, self.bad = train, val, train.bad

    def __getitem__(self, row: Row) -> dict:
        epoch, index, *rest = row
        if index < len(self.train):
            return self.train[row]
        return self.val[(epoch, index - len(self.train), *rest)] | {"index": index}


class TurnSampler:
    """A validation step, then a training step, and so on: every step of `train` has one of `val` before it.

    Validation steps follow one another over the epochs, each pass over the images in an order of its own, so that the step
    of (epoch, place) is the same after a resume.
    """

    def __init__(self, train: StepSampler, val: StepSampler) -> None:
        self.train, self.val = train, val
        self.accumulate, self.epoch, self.start = train.accumulate, 0, 0
        self.batch_size = (train.batch_size + val.batch_size) / 2  # of a step, on average

    def __len__(self) -> int:
        return 2 * len(self.train)

    def __iter__(self) -> Iterator[list[Row]]:
        self.train.epoch = self.epoch
        steps, passes = len(self.train) // self.accumulate, len(self.val) // self.accumulate
        for k in range(self.start, len(self)):
            step, micro = divmod(k, self.accumulate)
            turn, on_train = divmod(step, 2)
            if on_train:
                yield self._batch(self.train, turn, micro)
                continue
            self.val.epoch, place = divmod(self.epoch * steps + turn, passes)
            rows = self._batch(self.val, place, micro)
            yield [(epoch, index + self.train.size, weight, at) for epoch, index, weight, at in rows]

    def _batch(self, sampler: StepSampler, step: int, micro: int) -> list[Row]:
        sampler.start = step * self.accumulate + micro
        return next(iter(sampler))
