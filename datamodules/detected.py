"""Images with boxes: their lists, which of them train, and loaders whose batches hold the boxes.

Legend: B images of a micro-batch, M the most objects of one of them, (h,w) the largest image of the batch as a model takes it,
(H,W) the largest as opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.functional import pil_to_tensor

from datamodules.box_transforms import Boxed, BoxTransform
from datamodules.captioned import CaptionedData
from datamodules.detected_items import DetectedImage, DetectionSource
from datamodules.evaluation import Evaluation
from datamodules.loaded import OnBadImage
from datamodules.loaders import ImageDataset, Row, StepSampler, TrainLoader, eval_loader, sample_seed

NO_CLASS = -1  # in `classes`: there is no further object


class BoxDataset(ImageDataset):
    """Images as `ImageDataset` has them, one view each, with their boxes: samples for `collate_boxes`.

    Args:
        plain: gives the images, by a transform that leaves them as they are.
        resize: the transform of image and boxes.
        learns: boxes and masks go with the image as it is transformed, without crowds; else they stay those of the image as
            opened.
        masks: the samples hold masks.
    """

    def __init__(self, plain: ImageDataset, resize: BoxTransform, learns: bool, masks: bool) -> None:
        super().__init__(plain.source, plain.items, _as_it_is, plain.seed, 1, plain.bad, plain.decoded)
        self.resize, self.learns, self.masks = resize, learns, masks

    def __getitem__(self, row: Row | int) -> dict[str, Any]:
        sample = super().__getitem__(row)
        epoch, index = (0, row) if isinstance(row, int) else row[:2]
        item, image = self.items[index], sample["image"][0]
        bad = self.bad is not None and self.bad[index]  # what stands in its place has no objects
        kept = [n for n, thing in enumerate(item.objects) if not (bad or (self.learns and thing.crowd))]
        objects = [item.objects[n] for n in kept]
        boxes = torch.tensor([thing.box for thing in objects], dtype=torch.float32).reshape(-1, 4)
        masks = self._masks(item, kept, image) if self.masks else None
        size = tuple(image.shape[-2:])
        made = self.resize(
            Boxed(image, boxes, masks if self.learns else None), sample_seed(self.seed, epoch, index) if self.learns else 0
        )
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
        known = [thing.area for thing in objects]
        return sample | {
            "image": made.image,
            "boxes": made.boxes if self.learns else boxes,
            "masks": made.masks if self.learns else masks,
            "classes": torch.tensor([thing.label for thing in objects], dtype=torch.int64),
            "crowd": torch.tensor([thing.crowd for thing in objects], dtype=torch.bool),
            "area": torch.tensor([float(a) if k is None else k for a, k in zip(areas, known, strict=True)]).float(),
            "original": size,
        }

    def _masks(self, item: DetectedImage, kept: Sequence[int], image: Tensor) -> Tensor:
        if not kept:
            return torch.zeros(0, *image.shape[-2:], dtype=torch.uint8)
        masks = self.source.object_masks(item)
        if masks.shape[1:] != image.shape[-2:]:
            raise ValueError(
                f"image {item.path} has {image.shape[-1]} x {image.shape[-2]} pixels, and its masks {masks.shape[2]} x "
                f"{masks.shape[1]}: it is not the image that they were drawn on, so download it again."
            )
        return torch.from_numpy(np.ascontiguousarray(masks[list(kept)]).view(np.uint8))


def _as_it_is(image: Any) -> Tensor:
    return pil_to_tensor(image if image.mode == "RGB" else image.convert("RGB"))


def collate_boxes(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A batch: image (B,3,h,w) uint8, images at the top left, 0 elsewhere; size (B,2) int64 height and width of each in it;
    original (B,2) those of the image as opened; boxes (B,M,4) float32, classes (B,M) int64, `NO_CLASS` behind the last; crowd
    (B,M) bool; area (B,M) float32 in px^2; label, index, batch_index (B,) int64; weight (B,) float32; and masks (B,M,h,w) or
    (B,M,H,W) uint8, of the image that the boxes are in, where the samples have them."""
    batch = {key: torch.tensor([sample[key] for sample in samples]) for key in ("label", "index", "batch_index", "original")}
    batch["weight"] = torch.tensor([sample["weight"] for sample in samples], dtype=torch.float32)
    batch["size"] = torch.tensor([sample["image"].shape[-2:] for sample in samples])
    batch["image"] = _padded([sample["image"] for sample in samples])
    for key, fill in (("boxes", 0), ("classes", NO_CLASS), ("crowd", 0), ("area", 0)):
        batch[key] = _padded([sample[key] for sample in samples], fill, least=1)
    if samples[0]["masks"] is not None:
        batch["masks"] = _padded([sample["masks"] for sample in samples], least=1)
    return batch


def _padded(tensors: Sequence[Tensor], fill: int = 0, least: int = 0) -> Tensor:
    """Tensors of different sizes in one, each at its beginning; the first size is `least` or more."""
    shape = np.max([tensor.shape for tensor in tensors], axis=0).tolist()
    shape[0] = max(shape[0], least)
    whole = tensors[0].new_full((len(tensors), *shape), fill)
    for place, tensor in zip(whole, tensors, strict=True):
        place[tuple(slice(0, side) for side in tensor.shape)] = tensor
    return whole


class DetectedData(CaptionedData):
    """Images with boxes around their objects: lists, the images that train, loaders. Reads its lists when it is made.

    Args:
        image_spec, shots, subset, batch_size, eval_batch_size, workers, decoded_mb, on_bad_image, search_only: as
            `CaptionedData` has them.
        shorter, longer: pixels of the sides of an image as a model takes it (`BoxTransform`).
        flip: the probability that a training image is mirrored.
        templates: what stands around a class name for a model that puts it into templates.

    Raises:
        ValueError: a wrong argument, or whatever is missing on disk, in one sentence.
    """

    offers: ClassVar[tuple[str, ...]] = ("boxes of objects",)
    has_classes: ClassVar[bool] = True  # `classnames` are names of classes, though no image has one label

    def __init__(
        self,
        name: str,
        source: DetectionSource,
        image_spec: Mapping[str, Any],
        shots: int,
        seed: int,
        subset: str = "all",
        batch_size: int = 16,
        eval_batch_size: int = 1,
        workers: int | Literal["auto"] = 0,
        decoded_mb: int = 1024,
        templates: Sequence[str] = ("a photo of a {}.",),
        shorter: int = 800,
        longer: int = 1333,
        flip: float = 0.5,
        on_bad_image: OnBadImage = "raise",
        search_only: bool = False,
    ) -> None:
        mode = image_spec.get("interpolation", "bilinear")
        self.test_resize = BoxTransform(shorter, longer, 0.0, mode)
        self.train_resize = BoxTransform(shorter, longer, flip, mode)
        super().__init__(
            name, source, image_spec, shots, seed, subset, batch_size, eval_batch_size, workers, decoded_mb, templates,
            on_bad_image=on_bad_image, search_only=search_only,
        )  # fmt: skip

    @property
    def classnames(self) -> list[str]:
        """The names of the classes, by the label of an object."""
        return self.selected.classnames

    @property
    def has_masks(self) -> bool:
        """Whether the objects have masks."""
        return bool(self.source.has_masks)

    @property
    def trained_on(self) -> str:
        """What is trained on, for the screen."""
        things = sum(not thing.crowd for item in self.train_items for thing in item.objects)
        return f"{len(self.train_items):,} training images, {things:,} objects of {len(self.classnames):,} classes"

    def train_loader(self, rank: int = 0, world: int = 1, accumulate: int = 1) -> TrainLoader:
        """This rank's share of every micro-batch of every step."""
        plain = self.dataset("train", self.subset, _as_it_is, 1, self.decoded_mb)
        dataset = BoxDataset(plain, self.train_resize, True, self.has_masks)
        sampler = StepSampler(len(dataset), self.batch_size, self.seed, rank, world, accumulate)
        return TrainLoader(dataset, sampler, self.workers_of(len(dataset), world), collate_boxes)

    def eval_loader(self, split: str = "test", subset: str | None = None, rank: int = 0, world: int = 1) -> DataLoader:
        """This rank's share of a split, with boxes and masks of the images as opened: over all ranks, each image once."""
        plain = self.dataset(split, subset or self.subset, _as_it_is)
        dataset = BoxDataset(plain, self.test_resize, False, self.has_masks)
        return eval_loader(
            dataset, self.eval_batch_size, self.workers_of(len(dataset), world), rank, world, collate=collate_boxes
        )

    def evaluation(self, name: str, split: str, subset: str) -> Evaluation:
        """An evaluation of a split, with its items. ValueError where there are none."""
        items = self.items(split, subset)
        return Evaluation(name, self.classnames, len(items), partial(self.eval_loader, split, subset), items=items)
