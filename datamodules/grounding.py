"""Referring expressions: their lists, which of them train, and loaders of their images in the size of their files.

Texts, boxes and masks never go through a loader: whoever needs them looks them up by the index in the batch, in `train_items`
or in `Evaluation.items`, and asks the source for a mask (`region_mask`). Boxes are in pixels of the image as opened, so an
image is neither resized nor flipped here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import PIL.Image
import torch
from torch import Tensor
from torchvision.transforms import functional as F

from datamodules.evaluation import Evaluation
from datamodules.grounding_items import Expression, GroundingSource, GroundingSplits
from datamodules.identity import digest_of
from datamodules.listed import LISTED, ListedImages
from datamodules.loaded import KINDS, OnBadImage
from datamodules.loaders import ImageDataset, collate
from datamodules.transforms import eval_transform, to_rgb

__all__ = ["Expression", "GroundingData", "GroundingSource", "GroundingSplits", "draw_expressions", "padded"]


def padded(samples: list[dict]) -> dict[str, Tensor]:
    """A batch of images of any sizes: image (B,3,H,W) uint8, black below and right of the smaller ones; size (B,2) int64,
    height and width of each; label, index, batch_index (B,) int64; weight (B,) float32.

    An image that could not be read has weight 0 and a size of its own: its boxes say nothing.
    """
    images = [sample["image"][0] for sample in samples]
    size = torch.tensor([image.shape[1:] for image in images])
    image = images[0].new_zeros(len(images), 3, *size.amax(0).tolist())
    for row, one in zip(image, images, strict=True):
        row[:, : one.shape[1], : one.shape[2]] = one
    one_size = image.new_zeros(1, 3, 1, 1)  # `collate` stacks images, and needs none of these
    return collate([sample | {"image": one_size} for sample in samples]) | {"image": image, "size": size}


class GroundingData(ListedImages):
    """Referring expressions: lists, the expressions that train, loaders. Reads its lists when it is made.

    Args:
        image_spec: what the CLIP wants (`FrozenCLIP.image_spec`); a marked image is resized after it is marked, not here.
        shots: how many training expressions, drawn by the seed; 0: none, for zero-shot; -1: all of them.
        subset: "all", as there are no classes.
        batch_size, eval_batch_size: expressions.
        workers, decoded_mb, on_bad_image: as `datamodules.module.FewShotData` has them.
        templates: what stands around an expression for a model that puts class names into templates.
        search_only: no table reports these images, so a search may look at its test images (`runs.search`).

    Raises:
        ValueError: a wrong argument, or whatever is missing on disk, in one sentence.
    """

    offers: ClassVar[tuple[str, ...]] = ("referring expressions",)
    what, subset_hint = "expressions", "evaluate all, as protocol=grounding"
    collate = staticmethod(padded)

    def __init__(
        self,
        name: str,
        source: GroundingSource,
        image_spec: Mapping[str, Any],
        shots: int,
        seed: int,
        subset: str = "all",
        batch_size: int = 16,
        eval_batch_size: int = 16,
        workers: int | Literal["auto"] = 0,
        decoded_mb: int = 1024,
        templates: Sequence[str] = ("{}",),
        on_bad_image: OnBadImage = "raise",
        search_only: bool = False,
    ) -> None:
        super().__init__(
            name, source, image_spec, seed, subset, batch_size, eval_batch_size, workers, decoded_mb, eval_transform,
            on_bad_image=on_bad_image,
        )  # fmt: skip
        self.templates, self.search_only = tuple(templates), search_only
        self.bank: list[str] = []
        self.full: list[Expression] = []
        self.take_lists(shots)

    def drawn(self, items: list) -> list:
        """The training expressions that are drawn. The others are captions too, which a method may compare a test's with."""
        self.bank = [item.text for item in items]
        self.full = items
        return draw_expressions(items, self.shots, self.seed, self.name)

    @property
    def classnames(self) -> list[str]:
        """A text that a model is bound to before the first batch brings its own."""
        return [(self.train_items or self.items("test"))[0].text]

    @property
    def trained_on(self) -> str:
        """What is trained on, for the screen."""
        if not self.train_items:
            return "no training expressions"
        images = len({item.path for item in self.train_items})
        return f"{len(self.train_items):,} training expressions for things in {images:,} images"

    def selection(self) -> dict[str, list[str] | dict[str, int | str] | str]:
        """The expressions that train and validate, by their ids, of long lists counts and a digest; and what the proposals
        are: results with gold boxes compare with no others."""
        lists = {"train": self.train_items, "val": self.val_items}
        return {split: _summary(items) for split, items in lists.items()} | {"proposals": self.source.proposals}

    def evaluation(self, name: str, split: str, subset: str) -> Evaluation:
        """An evaluation of a split, with its expressions and the name of its list. ValueError where there are none, or where
        nothing is detected in any of their images."""
        evaluation = super().evaluation(name, split, subset)
        self.check_detected(evaluation.items, split)
        evaluation.list_name = getattr(self.source, "lists", {}).get(split, "")
        return evaluation

    def check_detected(self, items: Sequence[Expression], split: str) -> None:
        """ValueError where proposals are detected and no image of a whole list has one: with the image itself as the only
        proposal of each, the detections of other images would give a result as if they were these."""
        if getattr(self.source, "proposals", "gold") == "gold" or any(item.detected for item in items):
            return
        images, file = len({item.path for item in items}), getattr(self.source, "detections_file", "the detections")
        raise ValueError(
            f"data={self.name}: none of the images of its {KINDS[split]} expressions ({images:,}) has a box in {file}: give "
            "the detections of these images (`python -m tools.proposals` makes a file)."
        )

    def train_set(self) -> ImageDataset:
        """The images of the training expressions, in the size of their files. ValueError where nothing is detected in any
        image of the full list."""
        self.check_detected(self.full, "train")
        return self.dataset("train", self.subset, whole_image, decoded_mb=self.decoded_mb)

    def test_set(self, split: str, which: str) -> ImageDataset:
        """The images of a split's expressions, in the size of their files."""
        return self.dataset(split, which, whole_image)


def whole_image(image: PIL.Image.Image) -> Tensor:
    """The image as it was opened, uint8 (3,h,w)."""
    return F.pil_to_tensor(to_rgb(image)).contiguous()


def draw_expressions(items: list[Expression], shots: int, seed: int, name: str) -> list[Expression]:
    """`shots` expressions, drawn by the seed, in the order of the list; none where shots is 0, all where it is below.

    Raises:
        ValueError: there are fewer expressions.
    """
    if shots < 0:
        return items
    if shots > len(items):
        raise ValueError(
            f"shots={shots}: data={name} has {len(items):,} training expressions; give fewer, 0 for none or -1 for all."
        )
    return [items[i] for i in sorted(random.Random(seed).sample(range(len(items)), shots))]


def _summary(items: list[Expression]) -> list[str] | dict[str, int | str]:
    ids = [str(item.expression_id) for item in items]
    return ids if len(ids) <= LISTED else {"images": len(ids), "sha256": digest_of(ids)}
