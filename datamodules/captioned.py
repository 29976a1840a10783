"""Images with several captions each: their lists, the selection of training images, and their loaders.

Texts never go through a loader: they are looked up by the index in the batch, in `train_items` or in `Evaluation.items`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from datamodules.captioned_items import CaptionedImage, CaptionSource, CaptionSplits
from datamodules.listed import ListedImages, draw
from datamodules.loaded import OnBadImage
from datamodules.loaders import Transform
from datamodules.transforms import eval_transform

__all__ = ["CaptionSource", "CaptionSplits", "CaptionedData", "CaptionedImage", "draw"]


class CaptionedData(ListedImages):
    """Captioned images: lists, the images that train, loaders. Reads its lists when it is made.

    Training images are transformed as test images are, whole, unless `train_transform` says otherwise: a crop would lose
    things that the captions name.

    Args:
        image_spec: size, mean and std that the CLIP wants, perhaps interpolation and resize_mode (`FrozenCLIP.image_spec`).
        shots: how many training images, drawn by the seed; -1: all of them.
        subset: "all", as there are no classes.
        batch_size, eval_batch_size, workers, decoded_mb, train_transform, on_bad_image: as in `datamodules.module.FewShotData`.
        templates: texts with "{}" for the caption, for models that put class names into templates.
        search_only: no table reports these images, so a search may look at its test images (`runs.search`).

    Raises:
        ValueError: a wrong argument, or files are missing on the disk.
    """

    offers: ClassVar[tuple[str, ...]] = ("captioned images",)
    subset_hint = "evaluate all, as protocol=captions"

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
        self.templates, self.search_only = tuple(templates), search_only
        self.take_lists(shots)

    @property
    def classnames(self) -> list[str]:
        """The captions of the first training image: a model needs some texts to be bound to before the first batch."""
        first = (self.train_items or self.items("test"))[0]
        return list(self.texts_of(first)) or [""]

    def texts_of(self, item: Any) -> tuple[str, ...]:
        """The texts of an item, in place of class names."""
        return item.captions

    @property
    def trained_on(self) -> str:
        """A description of the training data, for the screen."""
        return f"{len(self.train_items):,} training images, {sum(len(item.captions) for item in self.train_items):,} captions"
