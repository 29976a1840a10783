"""A few-shot dataset: its lists, the few-shot selection, the class subset, its loaders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from datamodules.alternating import AlternatingDataset, AlternatingSampler
from datamodules.evaluation import Evaluation
from datamodules.few_shot import select, subset_group
from datamodules.few_shot import subset as subset_of
from datamodules.items import Items, ItemTable, Source, Splits, take
from datamodules.loaded import KINDS, Augmentation, LoadedImages, OnBadImage, check_choice, check_count, check_shots
from datamodules.loaders import StepSampler, TrainLoader, Transform, shards_of, windowed
from datamodules.transforms import eval_transform, made_for, train_transform
from datamodules.validation import check_apart, hold_out, way_out

log = logging.getLogger(__name__)
Order = Literal["random", "windowed"]


class FewShotData(LoadedImages):
    """A few-shot dataset: the training images of a run, and evaluations of the splits. Reads its lists when it is made.

    Its validation images, by which a run chooses, are never test images. Where the dataset's own validation images are its test
    images (ImageNet), training images that were not selected replace them; they are drawn when they are first needed
    (`datamodules.validation.hold_out`).

    Args:
        image_spec: size, mean and std that the CLIP wants, perhaps interpolation and resize_mode (`FrozenCLIP.image_spec`).
        shots: training images per class; -1: all of them.
        subset: classes to train on: "all", "base" (the first half, rounded up), "new", or "k/n", the k-th of n groups.
        batch_size: global, over all ranks and micro-batches.
        alternating_batch_size: images, over all ranks, of the validation batches that alternate with training batches; 0: none.
        workers: processes that load images; "auto": as many as this process's share of the cores, none for few images
            (`datamodules.workers`).
        decoded_mb: megabytes of decoded training images kept in memory for later epochs (`datamodules.decoded`).
        sampler: which published few-shot sampler draws the images, see `datamodules.few_shot.select`.
        templates: the dataset's own prompts for zero-shot, "{}" stands for the class name.
        train_transform: makes the training transform from (size, mean, std), the rest of `image_spec` if it takes it and, if
            there is one, `augment`; default: the published one.
        views: how many copies of each training image its batch has, each transformed anew; the loss is the mean over them.
        augmentation: "plain", or "randaug2" for POMP's RandAugment2 after crop and flip.
        order: of the training images: "random", or "windowed" for disks that are slow at random reads.
        on_bad_image: "raise", or "skip": a training image that cannot be read has weight 0 (the weights of the step's other
            images do not change, so that the result is the same for any number of ranks), and a test image is not counted.
        search_only: no table reports these images, so a search may look at its test images (`runs.search`).

    Raises:
        ValueError: a wrong argument, or files are missing on the disk.
    """

    offers = ("labelled images",)  # words for what the data give a task, see `TaskModule.needs`

    def __init__(
        self,
        name: str,
        source: Source,
        image_spec: Mapping[str, Any],
        shots: int,
        seed: int,
        subset: str = "all",
        batch_size: int = 32,
        eval_batch_size: int = 100,
        alternating_batch_size: int = 0,
        workers: int | Literal["auto"] = 0,
        decoded_mb: int = 1024,
        templates: Sequence[str] = (),
        sampler: Literal["coop", "numpy"] = "coop",
        train_transform: Callable[..., Transform] = train_transform,
        views: int = 1,
        augmentation: Augmentation = "plain",
        order: Order = "random",
        on_bad_image: OnBadImage = "raise",
        search_only: bool = False,
    ) -> None:
        super().__init__(
            name, source, image_spec, seed, subset, batch_size, eval_batch_size, workers, decoded_mb, train_transform, views,
            augmentation, on_bad_image,
        )  # fmt: skip
        if not isinstance(shots, int):
            raise ValueError(f"shots={shots!r} is not a number of images per class: give an integer, e.g. shots=16.")
        check_shots(shots, name)
        subset_group(subset)
        check_choice("order", order, Order)
        check_count("alternating_batch_size", alternating_batch_size, 0)
        self.shots, self.alternating_batch_size, self.templates = shots, alternating_batch_size, tuple(templates)
        self.sampler, self.order, self.search_only = sampler, order, search_only
        self._subsets: dict[str, Splits] = {}
        self.selected = select(self._read_splits(), shots, seed, sampler)
        self._to_hold_out = "val" in self.selected.fixed  # validation images, when something first asks for them
        if self._to_hold_out:
            self.selected = replace(self.selected, val=take(self.selected.val, []), pool=None)
        for which in {subset, "all"}:
            if not self.splits(which).classnames:
                raise ValueError(f"{name} has no classes in subset={which}.")
        if alternating_batch_size:
            self.items("val", subset)

    def _read_splits(self) -> Splits:
        splits = self.source.splits(self.seed)
        if (broken := getattr(self.source, "broken", [])) and self.on_bad_image == "raise":
            raise ValueError(broken[0])
        for line in broken:
            log.warning("left out: %s", line)
        return splits

    def splits(self, which: str | None = None) -> Splits:
        """The selected items of a class subset (default: the one trained on), labels from 0."""
        which = which or self.subset
        if which not in self._subsets:  # cached, as lists may hold a million images
            self._subsets[which] = subset_of(self.selected, which)
        return self._subsets[which]

    def items(self, split: str, which: str | None = None) -> Items:
        """The images of a split (train, val, test) and class subset (default: the one trained on), labels from 0.

        Raises:
            ValueError: there are none, so nothing would be measured; or a validation image is a test image.
        """
        items = self.listed(split, which or self.subset)
        if not len(items):
            instead = f": {way_out('val' in self.selected.fixed)}" if split == "val" else ""
            raise ValueError(
                f"data={self.name} has no {KINDS[split]} images in subset={which or self.subset}, and this run needs them"
                f"{instead}."
            )
        return items

    def _validation(self, which: str) -> Items:
        """The validation images, which this call holds out where the dataset has none of its own."""
        if self._to_hold_out:
            drawn = hold_out(self.source.splits(self.seed), self.selected.train, self.shots, self.seed, self.sampler)
            self.selected, self._to_hold_out = replace(self.selected, val=drawn), False
            self._subsets.clear()
        items = self.splits(which).val
        check_apart(items, self.selected.test, self.name)
        return items

    def class_list(self, which: str | None = None) -> list[str]:
        """The class names of a subset, in the order of its labels."""
        return self.splits(which).classnames

    @property
    def classnames(self) -> list[str]:
        """The class names that are trained on."""
        return self.class_list()

    @property
    def train_items(self) -> Items:
        """The selected training images."""
        return self.splits().train

    @property
    def val_items(self) -> Items:
        """The validation images; empty where there are none to choose on."""
        return self._validation(self.subset)

    @property
    def test_items(self) -> Items:
        """The test images of the classes that are trained on."""
        return self.splits().test

    def selection(self) -> dict[str, list[str] | dict[str, int | str]]:
        """The selected images, as published lists name them: paths below the image root, or for large data counts and a digest.

        Held-out validation images are listed only if they were drawn; those of the dataset are always listed.
        """
        lists = {"train": self.train_items, "val": self.splits().val}
        return {
            split: items.summary() if isinstance(items, ItemTable) else [item.path for item in items]
            for split, items in lists.items()
        }

    def listed(self, split: str, which: str) -> Items:
        """The images of a split and class subset, as `items`; perhaps none."""
        return self._validation(which) if split == "val" else getattr(self.splits(which), split)

    def train_loader(self, rank: int = 0, world: int = 1, accumulate: int = 1) -> TrainLoader:
        """This rank's share of every micro-batch of every step, with the training transform."""
        decoded_mb = self.decoded_mb // (2 if self.alternating_batch_size else 1)
        transform = made_for(self.image_spec, self.make_train_transform)
        dataset = self.dataset("train", self.subset, transform, self.views, decoded_mb)
        order = windowed(shards_of(dataset.items)) if self.order == "windowed" else None
        sampler = StepSampler(len(dataset), self.batch_size, self.seed, rank, world, accumulate, order)
        if self.alternating_batch_size:
            val = self.dataset("val", self.subset, eval_transform(**self.image_spec), decoded_mb=decoded_mb)
            turns = AlternatingSampler(
                sampler, StepSampler(len(val), self.alternating_batch_size, self.seed, rank, world, accumulate)
            )
            return TrainLoader(AlternatingDataset(dataset, val), turns, self.workers_of(len(dataset) + len(val), world))
        return TrainLoader(dataset, sampler, self.workers_of(len(dataset), world))

    def evaluation(self, name: str, split: str, subset: str) -> Evaluation:
        """An evaluation on `items(split, subset)`, with their errors."""
        images = len(self.items(split, subset))
        return Evaluation(name, self.class_list(subset), images, partial(self.eval_loader, split, subset))
