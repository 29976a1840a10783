"""Images with label maps: their lists, which of them train, and their loaders.

Legend: B images of a batch; h, w size of the transformed image, H, W that of the file, px; C classes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from datamodules.evaluation import Evaluation
from datamodules.identity import spread_positions
from datamodules.joint_transforms import FitScale, JointTrain
from datamodules.listed import ListedImages
from datamodules.loaded import KINDS, OnBadImage
from datamodules.loaders import ImageDataset, collate, sample_seed
from datamodules.seeded import seeded
from datamodules.segmented_items import IGNORE, SegmentationSource, SegmentedImage, SegmentedSplits, check_fits
from datamodules.transforms import eval_transform

__all__ = ["IGNORE", "SegmentationSource", "SegmentedData", "SegmentedImage", "SegmentedSplits"]
Pair = tuple[PIL.Image.Image, np.ndarray]


class SegmentedDataset(ImageDataset):
    """Images with label maps as samples `{"image": (1, 3, h, w), "mask", "label", "index", "weight", "batch_index"}`.

    With `transform` a `JointTrain` masks are (h, w); with a `FitScale` they have the file's size, (H, W). An image that is left
    out is blank, and its mask `IGNORE`.
    """

    source: Any  # a `SegmentationSource`
    items: Any  # of `SegmentedImage`
    transform: Any

    def read(self, index: int) -> Pair:
        """An image with its label map. ValueError where one cannot be opened, or their sizes differ."""
        image, item = super().read(index), self.items[index]
        label_map = self.source.open_mask(item)
        check_fits(image, label_map, item)
        return image, label_map

    def tensors(self, content: Pair | None, epoch: int, index: int) -> dict[str, Tensor]:
        """The transformed image and label map; the random transform is a function of (seed, epoch, index)."""
        image, label_map = content or (PIL.Image.new("RGB", (64, 64)), np.full((64, 64), IGNORE, np.uint8))
        if isinstance(self.transform, FitScale):
            return {"image": self.transform(image)[None], "mask": torch.from_numpy(np.ascontiguousarray(label_map))}
        with seeded(sample_seed(self.seed, epoch, index)):
            pixels, labels = self.transform(image, label_map)
        return {"image": pixels[None], "mask": labels}


def collate_pairs(samples: list[dict]) -> dict[str, Tensor]:
    """A batch as `datamodules.loaders.collate` makes it, with mask (B, H, W) uint8.

    Raises:
        ValueError: images of several sizes, or label maps; blank ones, which stand for images that are left out, take theirs.
    """
    sizes = {(sample["image"].shape, sample["mask"].shape) for sample in samples if sample["weight"]}
    if len(sizes) > 1:
        shown = " and ".join(sorted({f"{shape[-1]} x {shape[-2]}" for pair in sizes for shape in pair[1:]})[:2])
        raise ValueError(
            f"a batch of {len(samples)} images would have label maps of several sizes ({shown} px): evaluate one at a time, "
            "with eval_batch_size=1."
        )
    for image, mask in sizes:
        for sample in (sample for sample in samples if sample["mask"].shape != mask):
            sample.update(image=torch.zeros(image, dtype=torch.uint8), mask=torch.full(mask, IGNORE, dtype=torch.uint8))
    return collate(samples) | {"mask": torch.stack([sample["mask"] for sample in samples])}


class SegmentedData(ListedImages):
    """Images with label maps: lists, the images that train, loaders. Reads its lists when it is made.

    Training batches: image (B, 3, h, w) and mask (B, h, w), uint8, with h, w = `crop`; weight, label, index, batch_index as
    `datamodules.loaders.collate` has them. Evaluation: image (B, 3, h, w), resized in its own shape to fit `scale`, and mask
    (B, H, W) of the file; a batch has images of one size.

    Args:
        image_spec: size, mean and std that the CLIP wants (`FrozenCLIP.image_spec`); only the mean is used, as padding.
        shots: how many training images, drawn by the seed; 0 or less: all of them.
        subset: "all": every pixel has one of all classes.
        batch_size, eval_batch_size, workers, decoded_mb, on_bad_image: as `datamodules.module.FewShotData` has them.
        templates: what stands around a class name for a model that puts class names into templates.
        crop: side of a training crop, or (height, width), px.
        scale: longer and shorter side that images are resized to fit, px; None: they keep their size.
        ratio: the range of the random factor of `scale` in training.
        cat_max_ratio, photometric: as `datamodules.joint_transforms.JointTrain` has them.
        search_only: no table reports these images, so a search may look at its test images (`runs.search`).

    Raises:
        ValueError: a wrong argument, or whatever is missing on disk, in one sentence.
    """

    offers: ClassVar[tuple[str, ...]] = ("label maps",)
    why_whole = "gives each pixel one of all its classes"
    collate = staticmethod(collate_pairs)

    def __init__(
        self,
        name: str,
        source: SegmentationSource,
        image_spec: Mapping[str, Any],
        shots: int,
        seed: int,
        subset: str = "all",
        batch_size: int = 32,
        eval_batch_size: int = 1,
        workers: int | Literal["auto"] = 0,
        decoded_mb: int = 1024,
        templates: Sequence[str] = ("{}",),
        crop: int | Sequence[int] = 512,
        scale: Sequence[int] | None = None,
        ratio: Sequence[float] = (0.5, 2.0),
        cat_max_ratio: float = 0.75,
        photometric: bool = True,
        on_bad_image: OnBadImage = "raise",
        search_only: bool = False,
    ) -> None:
        super().__init__(
            name, source, image_spec, seed, subset, batch_size, eval_batch_size, workers, decoded_mb, eval_transform,
            on_bad_image=on_bad_image,
        )  # fmt: skip
        self.templates, self.search_only = tuple(templates), search_only
        self.crop = _sides("crop", (crop, crop) if isinstance(crop, int) else crop)
        self.scale = None if scale is None else _sides("scale", scale)
        self.train_pair = JointTrain(
            self.crop, self.scale, _range(ratio), _part(cat_max_ratio), photometric, image_spec["mean"]
        )
        self.take_lists(shots)

    @property
    def evaluated_classes(self) -> list[str]:
        """All classes, by id."""
        return self.classnames

    def evaluation(self, name: str, split: str, subset: str) -> Evaluation:
        """An evaluation of a split. ValueError where there are no images, or where they could not be batches, as far as the
        sizes of some of them show: better now than after the training."""
        evaluation = super().evaluation(name, split, subset)
        if self.eval_batch_size > 1 and hasattr(self.source, "size"):
            items = (evaluation.items[i] for i in spread_positions(len(evaluation.items)))
            sizes = {size for item in items if (size := self.source.size(item))}
            if len(sizes) > 1:
                shown = " and ".join(sorted(f"{width} x {height}" for width, height in sizes)[:2])
                raise ValueError(
                    f"eval_batch_size={self.eval_batch_size}: the {KINDS[split]} images of data={self.name} have several sizes "
                    f"({shown} px), and a batch has one: evaluate one at a time, with eval_batch_size=1."
                )
        return evaluation

    @property
    def colours(self) -> list[tuple[int, int, int]] | None:
        """RGB by id, as the dataset's authors show the classes; None where they say nothing."""
        return None if self.selected.colours is None else list(self.selected.colours)

    @property
    def trained_on(self) -> str:
        """What is trained on, for the screen."""
        return f"{len(self.train_items):,} training images of {len(self.classnames)} classes"

    def pairs(self, split: str, transform: Any, decoded_mb: int = 0) -> SegmentedDataset:
        """The images of a split with their label maps, by a `JointTrain` or a `FitScale`; at most `decoded_mb` megabytes of the
        images are kept in memory."""
        plain = self.dataset(split, "all", transform, decoded_mb=decoded_mb)  # which notes the images that cannot be read
        return SegmentedDataset(self.source, plain.items, transform, self.seed, 1, plain.bad, plain.decoded)

    def train_set(self) -> SegmentedDataset:
        """The training images with their label maps, as training crops."""
        return self.pairs("train", self.train_pair, self.decoded_mb)

    def test_set(self, split: str, which: str) -> SegmentedDataset:
        """The images of a split, resized for the test, with their label maps."""
        self.listed(split, which)  # a ValueError for a class subset
        return self.pairs(split, FitScale(self.scale))


def _sides(key: str, value: Sequence[int]) -> tuple[int, int]:
    sides = tuple(value)
    if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= 2**14 for side in sides):
        raise ValueError(f"data.{key}={list(value)}: give two sides in px, integers from 1 to {2**14:,}.")
    return sides


def _range(ratio: Sequence[float]) -> tuple[float, float]:
    if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1] <= 100:
        raise ValueError(f"data.ratio={list(ratio)}: give the smallest and the largest factor, above 0 and up to 100.")
    return ratio[0], ratio[1]


def _part(cat_max_ratio: float) -> float:
    if not 0 < cat_max_ratio <= 1:
        raise ValueError(f"data.cat_max_ratio={cat_max_ratio}: give a part above 0, up to 1 for crops of any class.")
    return cat_max_ratio
