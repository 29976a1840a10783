"""Images with boxes: their lists, which of them train, and loaders whose batches hold the boxes.

Legend: B images of a micro-batch, M the most objects of one of them, (h,w) the largest image of the batch as a model takes it,
(H,W) the largest as opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from datamodules.box_transforms import Boxed, BoxTransform
from datamodules.detected_items import CategoryIds, DetectionSource
from datamodules.listed import ListedImages
from datamodules.loaded import OnBadImage
from datamodules.loaders import ImageDataset, sample_seed
from datamodules.transforms import eval_transform

NO_CLASS = -1  # in `classes`: there is no further object
Read = tuple[PIL.Image.Image, np.ndarray | None]


class BoxDataset(ImageDataset):
    """Images with their boxes: samples for `collate_boxes`. An image that is left out is blank and has none.

    Args:
        plain: gives the list, and keeps the images.
        resize: the transform of image, boxes and masks; in training a function of (seed, epoch, index).
        learns: boxes and masks go with the image as it is transformed, without crowds; else they stay those of the image as
            opened.
        masks: the samples hold masks.
        category_ids: the dataset's own id of each class, by label; None: it has none.
    """

    def __init__(
        self, plain: ImageDataset, resize: BoxTransform, learns: bool, masks: bool, category_ids: CategoryIds = None
    ) -> None:
        super().__init__(plain.source, plain.items, plain.transform, plain.seed, 1, plain.bad, plain.decoded)
        self.resize, self.learns, self.masks, self.category_ids = resize, learns, masks, category_ids

    def read(self, index: int) -> Read:
        """An image with its masks (N,H,W), where they are wanted. ValueError where one cannot be opened, or the sizes
        differ."""
        image, item = super().read(index), self.items[index]
        if not self.masks:
            return image, None
        masks = self.source.object_masks(item)
        if len(masks) and masks.shape[1:] != image.size[::-1]:
            raise ValueError(
                f"image {item.path} has {image.width} x {image.height} pixels, and its masks {masks.shape[2]} x "
                f"{masks.shape[1]}: it is not the image that they were drawn on, so download it again."
            )
        return image, masks

    def tensors(self, content: Read | None, epoch: int, index: int) -> dict[str, Any]:
        """The transformed image and what is known of its objects."""
        image, masks = (PIL.Image.new("RGB", (64, 64)), None) if content is None else content
        things = self.items[index].objects if content else ()
        kept = [n for n, thing in enumerate(things) if not (self.learns and thing.crowd)]
        objects, height, width = [things[n] for n in kept], image.height, image.width
        boxes = torch.tensor([thing.box for thing in objects], dtype=torch.float32).reshape(-1, 4)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1).tolist()
        regions = torch.zeros(0, height, width, dtype=torch.uint8) if self.masks else None
        if kept and self.masks:
            regions = torch.from_numpy(np.ascontiguousarray(masks[kept]).view(np.uint8))
        seed = sample_seed(self.seed, epoch, index) if self.learns else 0
        pixels = pil_to_tensor(image if image.mode == "RGB" else image.convert("RGB"))
        made = self.resize(Boxed(pixels, boxes, regions if self.learns else None), seed)
        return {
            "image": made.image,
            "boxes": made.boxes if self.learns else boxes,
            "masks": made.masks if self.learns else regions,
            "classes": torch.tensor([thing.label for thing in objects], dtype=torch.int64),
            "crowd": torch.tensor([thing.crowd for thing in objects], dtype=torch.bool),
            "area": torch.tensor([a if thing.area is None else thing.area for thing, a in zip(objects, areas, strict=True)]),
            "original": (height, width),
        }


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


class DetectedData(ListedImages):
    """Images with boxes around their objects: lists, the images that train, loaders. Reads its lists when it is made.

    Args:
        image_spec: what the CLIP wants (`FrozenCLIP.image_spec`); of it the interpolation alone is used.
        shots: how many training images, drawn by the seed; 0 or less: all of them.
        subset: "all": objects have classes, images have none.
        batch_size, eval_batch_size, workers, decoded_mb, on_bad_image: as `datamodules.module.FewShotData` has them.
        search_only: no table reports these images, so a search may look at its test images (`runs.search`).
        shorter, longer: pixels of the sides of an image as a model takes it (`BoxTransform`).
        flip: the probability that a training image is mirrored.
        templates: what stands around a class name for a model that puts it into templates.

    Raises:
        ValueError: a wrong argument, or whatever is missing on disk, in one sentence.
    """

    offers: ClassVar[tuple[str, ...]] = ("boxes of objects",)
    why_whole = "has classes of objects and none of images"
    collate = staticmethod(collate_boxes)

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
        super().__init__(
            name, source, image_spec, seed, subset, batch_size, eval_batch_size, workers, decoded_mb, eval_transform,
            on_bad_image=on_bad_image,
        )  # fmt: skip
        self.templates, self.search_only = tuple(templates), search_only
        mode = image_spec.get("interpolation", "bilinear")
        self.test_resize = BoxTransform(shorter, longer, 0.0, mode)
        self.train_resize = BoxTransform(shorter, longer, flip, mode)
        self.take_lists(shots)

    @property
    def evaluated_classes(self) -> list[str]:
        """All classes, by id."""
        return self.classnames

    @property
    def category_ids(self) -> CategoryIds:
        """The dataset's own id of each class, in the order of `classnames`; None where it has none."""
        return self.selected.category_ids

    @property
    def has_masks(self) -> bool:
        """Whether the objects have masks."""
        return bool(self.source.has_masks)

    @property
    def trained_on(self) -> str:
        """What is trained on, for the screen."""
        things = sum(not thing.crowd for item in self.train_items for thing in item.objects)
        return f"{len(self.train_items):,} training images, {things:,} objects of {len(self.classnames):,} classes"

    def boxed(self, split: str, learns: bool, decoded_mb: int = 0) -> BoxDataset:
        """The images of a split with their boxes, to learn from or to measure on."""
        resize = self.train_resize if learns else self.test_resize
        plain = self.dataset(split, "all", resize, decoded_mb=decoded_mb)  # which notes the images that cannot be read
        return BoxDataset(plain, resize, learns, self.has_masks, self.category_ids)

    def train_set(self) -> BoxDataset:
        """The training images with their boxes."""
        return self.boxed("train", True, self.decoded_mb)

    def test_set(self, split: str, which: str) -> BoxDataset:
        """The images of a split, with boxes and masks of the images as opened."""
        self.listed(split, which)  # a ValueError for a class subset
        return self.boxed(split, False)
