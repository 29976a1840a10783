"""Alternating batches: a batch of validation images, a batch of training images, and so on.

They are for methods that fit some tensors on validation images and the others on training images.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Dataset

from datamodules.loaders import ImageDataset, Row, StepSampler


class AlternatingDataset(Dataset):
    """Training items (N) and, from index N on, validation items with the test transform."""

    def __init__(self, train: ImageDataset, val: ImageDataset) -> None:
        self.train, self.val, self.bad = train, val, train.bad

    def __getitem__(self, row: Row) -> dict:
        epoch, index, *others = row
        if index < len(self.train):
            return self.train[row]
        return self.val[(epoch, index - len(self.train), *others)] | {"index": index}  # type: ignore[index]


class AlternatingSampler:
    """A validation step, then a training step, and so on: every step of `train` has one of `val` before it.

    Passes over the validation images continue across epochs, each in another order. The images of a step are a function of the
    step's number, so that a resumed run has the same steps.
    """

    def __init__(self, train: StepSampler, val: StepSampler) -> None:
        self.train, self.val = train, val
        self.accumulate, self.epoch, self.start = train.accumulate, 0, 0
        self.batch_size = (train.batch_size + val.batch_size) / 2  # mean over the two kinds of step

    def __len__(self) -> int:
        return 2 * len(self.train)

    def __iter__(self) -> Iterator[list[Row]]:
        self.train.epoch = self.epoch
        train_steps, steps_per_pass = len(self.train) // self.accumulate, len(self.val) // self.accumulate
        for k in range(self.start, len(self)):
            step, micro_batch = divmod(k, self.accumulate)
            pair, is_training = divmod(step, 2)
            if is_training:
                yield self._micro_batch(self.train, pair, micro_batch)
                continue
            self.val.epoch, val_step = divmod(self.epoch * train_steps + pair, steps_per_pass)
            rows = self._micro_batch(self.val, val_step, micro_batch)
            yield [(epoch, index + self.train.size, *others) for epoch, index, *others in rows]  # type: ignore[misc]

    def _micro_batch(self, sampler: StepSampler, step: int, micro_batch: int) -> list[Row]:
        sampler.start = step * self.accumulate + micro_batch
        return next(iter(sampler))
