"""Images with several captions each: their lists, which of them train, and their loaders.

Texts never go through a loader: whoever needs them looks them up by the index in the batch, in `train_items` or in
`Evaluation.items`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

from datamodules.captioned_items import CaptionedImage, CaptionSource, CaptionSplits
from datamodules.evaluation import Evaluation
from datamodules.identity import digest_of
from datamodules.loaded import KINDS, LoadedImages, OnBadImage, check_shots
from datamodules.loaders import Transform
from datamodules.transforms import eval_transform
from datamodules.validation import check_apart, way_out

__all__ = ["CaptionSource", "CaptionSplits", "CaptionedData", "CaptionedImage", "draw"]
LISTED = 10_000  # images, up to which a result lists those that were trained on


class CaptionedData(LoadedImages):
    """Captioned images: lists, the images that train, loaders. Reads its lists when it is made.

    Training images are transformed as test images are, whole, unless `train_transform` says otherwise: a crop would lose
    things that the captions name.

    Args:
        image_spec: size, mean and std that the CLIP wants, perhaps interpolation and resize_mode (`FrozenCLIP.image_spec`).
        shots: how many training images, drawn by the seed; -1: all of them.
        subset: "all", as there are no classes.
        batch_size, eval_batch_size, workers, decoded_mb, train_transform, on_bad_image: as `datamodules.module.FewShotData`
            has them.
        templates: what stands around a caption for a model that puts class names into templates.
        search_only: no table reports these images, so a search may look at its test images (`runs.search`).

    Raises:
        ValueError: a wrong argument, or whatever is missing on disk, in one sentence.
    """

    offers: ClassVar[tuple[str, ...]] = ("captioned images",)
    alternating_batch_size = 0  # no validation batches between the training batches

    def __init__(
        self,
        name: str,
        source: CaptionSource,
        image_spec: Mapping[str, Any],
        shots: int,
        seed: int,
        subset: str = "all",
        batch_size: int = 32,
        eval_batch_size: int = 100,
        workers: int | Literal["auto"] = 0,
        decoded_mb: int = 1024,
        templates: Sequence[str] = ("{}",),
        train_transform: Callable[..., Transform] = eval_transform,
        on_bad_image: OnBadImage = "raise",
        search_only: bool = False,
    ) -> None:
        super().__init__(
            name, source, image_spec, seed, subset, batch_size, eval_batch_size, workers, decoded_mb, train_transform,
            on_bad_image=on_bad_image,
        )  # fmt: skip
        if subset != "all":
            raise ValueError(f"subset={subset}: data={name} has no classes, so protocol.train and evaluate must be all.")
        self.shots, self.templates, self.search_only = shots, tuple(templates), search_only
        full = source.splits(seed)
        self.selected = replace(full, train=draw(full.train, shots, seed, name))
        check_apart(self.selected.val, self.selected.test, name)

    def listed(self, split: str, which: str = "all") -> list:
        """The items of a split (train, val, test); perhaps none. ValueError for a class subset, as there are no classes."""
        if which != "all":
            raise ValueError(
                f"data={self.name} has no classes, so it has no subset={which}: evaluate all, as protocol=captions."
            )
        return getattr(self.selected, split)

    def items(self, split: str, which: str = "all") -> list:
        """The items of a split. ValueError where there are none, so nothing would be measured."""
        if not (items := self.listed(split, which)):
            instead = f": {way_out(val_is_test=False)}" if split == "val" else ""
            raise ValueError(f"data={self.name} has no {KINDS[split]} images, and this run needs them{instead}.")
        return items

    @property
    def classnames(self) -> list[str]:
        """The captions of the first training image: a model is bound to some texts before the first batch brings its own."""
        first = (self.train_items or self.items("test"))[0]
        return list(self.texts_of(first)) or [""]

    def texts_of(self, item: Any) -> tuple[str, ...]:
        """The texts of an item that stand for its class names."""
        return item.captions

    def class_list(self, which: str = "all") -> list[str]:
        """As `classnames`."""
        return self.classnames

    @property
    def train_items(self) -> list:
        """The training images that were drawn."""
        return self.selected.train

    @property
    def trained_on(self) -> str:
        """What is trained on, for the screen."""
        return f"{len(self.train_items):,} training images, {sum(len(item.captions) for item in self.train_items):,} captions"

    @property
    def val_items(self) -> list:
        """The validation images; empty where there are none to choose on."""
        return self.selected.val

    @property
    def test_items(self) -> list:
        """The test images."""
        return self.selected.test

    def selection(self) -> dict[str, list[str] | dict[str, int | str]]:
        """The images that train and validate: paths below the image root; of long lists counts and a digest."""
        lists = {"train": self.train_items, "val": self.val_items}
        return {split: _summary(list(dict.fromkeys(item.path for item in items))) for split, items in lists.items()}

    def evaluation(self, name: str, split: str, subset: str) -> Evaluation:
        """An evaluation of a split, with its items. ValueError where there are none."""
        items = self.items(split, subset)
        return Evaluation(name, [], len(items), partial(self.eval_loader, split, subset), items=items)


def draw(items: list, shots: int, seed: int, name: str) -> list:
    """The items of `shots` images, drawn by the seed, in the order of the list; all of them where shots is -1.

    Raises:
        ValueError: there are fewer images, or shots is 0.
    """
    check_shots(shots, name)
    if shots <= 0:
        return items
    paths = list(dict.fromkeys(item.path for item in items))
    if paths and shots > len(paths):
        raise ValueError(f"shots={shots}: data={name} has {len(paths):,} training images; give fewer, or shots=-1 for all.")
    drawn = set(random.Random(seed).sample(paths, min(shots, len(paths))))
    return [item for item in items if item.path in drawn]


def _summary(paths: list[str]) -> list[str] | dict[str, int | str]:
    return paths if len(paths) <= LISTED else {"images": len(paths), "sha256": digest_of(paths)}
