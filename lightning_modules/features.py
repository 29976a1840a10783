"""Image features of the frozen CLIP that are computed once: those of evaluations, and of V views of each training image.

They are computed with the loader's own batches, in the precision of the run, and stored under a key of all that their bits
depend on, so a figure is the same with the store and without it. An evaluation from the store opens no image.

Shapes: B images, N images of a list, V views of an image in its batch, d width of a feature.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.alternating import AlternatingDataset
from datamodules.items import take
from datamodules.known_features import FEATURES, IMAGE, TEACHER, CycledViews, KnownLoader, Table, collate_known
from datamodules.loaders import ImageDataset, ImageLoader, RankSampler, Row, TrainLoader, collate
from prompts.engine.clip import FrozenCLIP
from prompts.prompted_clip import PromptedCLIP
from runs import signals
from runs.feature_key import Unknown, described, key_of, software
from runs.feature_store import FeatureStore, folder_of

MOST_VIEWS = 10_000  # of an image, one for each epoch
AT_ONCE = 64  # images that are encoded together for a table of training views, whatever the ranks and batch sizes are
LONG = 5.0  # seconds after which a line says that images are being encoded
PATIENCE = 10.0  # seconds that an encoding goes on after a signal whose handling is delayed
Context = Callable[[], AbstractContextManager]
Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Wanted:
    """A list of images and how they are batched.

    Args:
        batches: positions in the dataset by batch; together they are the list, in order.
        about: a description of the images, for messages.
        random: what the transform's random numbers depend on; empty for evaluations, which draw none.
    """

    dataset: ImageDataset
    batches: Sequence[Sequence[int | Row]]
    workers: int
    about: str
    random: Sequence[int] = ()

    @property
    def positions(self) -> list[int]:
        """The images' positions in the dataset."""
        return [row if isinstance(row, int) else row[1] for batch in self.batches for row in batch]

    def loader(self) -> ImageLoader:
        """Loads the images in these batches."""
        options: dict[str, Any] = {"num_workers": self.workers, "collate_fn": collate, "generator": torch.Generator()}
        return ImageLoader(self.dataset, batch_sampler=self.batches, **options)  # type: ignore[arg-type]


@dataclass
class ImageFeatures:
    """A run's image features: reads them from the store, or computes and stores them.

    Args:
        store: None: evaluations encode their images, and each run computes its own views.
        views: V' training views of each image, those of the first V' epochs, in turn; None: new ones in each epoch.
    """

    store: FeatureStore | None = None
    views: int | None = None
    encoded: int = field(default=0, init=False)  # how many images were opened and encoded for tables

    # ---- loaders with features

    def evaluation(self, loader: Any, clip: FrozenCLIP, context: Context, name: str) -> Any:
        """The batches of an evaluation's loader with features in place of pixels. The loader itself where features are not
        stored: there is no store, the source cannot tell when its images change, or the store is too small for them."""
        if (wanted := self._evaluated(loader, clip, name)) is None:
            return loader
        return KnownLoader(loader, partial(self._table, wanted, lambda: clip, clip.encode_image, context))

    def _evaluated(self, loader: Any, clip: FrozenCLIP, name: str) -> Wanted | None:
        sampler = getattr(loader, "batch_sampler", None)
        if self.store is None or not isinstance(sampler, RankSampler) or not _vouched_for(loader.dataset):
            return None
        if not 0 < 4 * len(sampler.rows) * clip.embed_dim < self.store.most:
            return None
        return Wanted(loader.dataset, list(sampler), loader.num_workers, f"{name}, {type(loader.dataset.source).__name__}")

    def training(self, loader: Any, model: PromptedCLIP, context: Context, known: bool, rank: int = 0) -> Any:
        """The training loader with `views` views of each image: with features in place of pixels where the images are frozen,
        and with the teacher's beside them where there is one.

        Args:
            known: whether the task takes features; else its batches hold pixels alone.

        Raises:
            ValueError: views are asked for, and the loader is none of `datamodules.loaders`.
        """
        if self.views is None:
            return loader
        dataset = getattr(loader, "dataset", None)
        if isinstance(loader, TrainLoader) and isinstance(dataset, AlternatingDataset):  # prompts of both kinds of image differ
            dataset.train = CycledViews(dataset.train, self.views)  # type: ignore[assignment]
            return loader
        if not isinstance(loader, TrainLoader) or type(dataset) is not ImageDataset:
            raise ValueError(
                f"features.views={self.views} needs the training images of datamodules.loaders.ImageDataset, and these are of "
                f"a {type(dataset).__name__}: give features.views=online."
            )
        frozen, tables, teacher = known and model.images_are_frozen, {}, model.learner.image_teacher() if known else None
        workers = loader.loader.num_workers
        if frozen:
            tables[FEATURES] = self._views(dataset, workers, lambda: model.clip, model.clip.encode_image, context, rank)
        if teacher:
            tables[TEACHER] = self._views(dataset, workers, lambda: teacher.clip, teacher.encode, context, rank)
        cycled = CycledViews(dataset, self.views, tables, pixels=not frozen)
        return TrainLoader(cycled, loader.sampler, 0 if frozen else workers, collate_known)

    def _views(
        self, dataset: ImageDataset, workers: int, clip: Callable[[], FrozenCLIP], encode: Encode, context: Any, rank: int
    ) -> list[Table]:
        """A table for each view. Ranks and processes begin with different views, and wait for those that others compute."""
        size, step = len(dataset), max(1, AT_ONCE // dataset.views)
        wanted = []
        for view in range(self.views):
            rows = [(view, index, 1.0, 0) for index in range(size)]
            batches = [rows[start : start + step] for start in range(0, size, step)]
            about = f"training, view {view}, seed {dataset.seed}, {type(dataset.source).__name__}"
            wanted.append(Wanted(dataset, batches, workers, about, (dataset.seed, view, dataset.views)))
        order = [(view + rank) % self.views for view in range(self.views)]
        tables = {view: self._table(wanted[view], clip, encode, context, wait=False) for view in order}
        return [tables[view] or self._table(wanted[view], clip, encode, context) for view in range(self.views)]

    # ---- tables

    @torch.no_grad()
    def _table(
        self, wanted: Wanted, find_clip: Callable[[], FrozenCLIP], encode: Encode, context: Context, wait: bool = True
    ) -> Table | None:
        """The features, read or computed; None where another process computes them and this one is not to wait."""
        with context():
            clip = find_clip()  # a teacher is made and cast within the context
            key = self._key(wanted, clip)
            if key is None:
                return self._computed(wanted, clip, encode)
            shape = len(wanted.positions), wanted.dataset.views, clip.embed_dim
            if table := self._read(key, shape):
                return table
            with self.store.filling(key, partial(self._wait, wanted) if wait else None) as alone:
                if not alone:
                    return None
                if table := self._read(key, shape):  # another process has written it meanwhile
                    return table
                table = self._computed(wanted, clip, encode)
                # a table with an unreadable image is not stored: the disk's error may be temporary
                if table.rows.dtype == torch.float32 and bool(table.readable.all()) and bool(table.rows.isfinite().all()):
                    self.store.write(key, table.rows.numpy(), f"{wanted.about}, {clip.identity['architecture']}")
                    table = self._read(key, shape) or table  # mapped, so that its memory is shared
        return table

    def _read(self, key: str, shape: tuple[int, int, int]) -> Table | None:
        entry = self.store.read(key, shape)
        return Table(torch.from_numpy(np.asarray(entry.rows)), torch.ones(shape[0]), entry) if entry else None

    def _wait(self, wanted: Wanted) -> None:
        _answer_signals()
        self.store.say(f"waiting for another process that encodes the images of {wanted.about}")

    def _computed(self, wanted: Wanted, clip: FrozenCLIP, encode: Encode) -> Table:
        """Opens and encodes the images."""
        rows, readable, start, views = [], [], time.monotonic(), wanted.dataset.views
        for batch in wanted.loader():
            _answer_signals()
            features = encode(batch[IMAGE].to(clip.device)).cpu()
            rows.append(features.view(views, -1, features.shape[-1]).transpose(0, 1))
            readable.append((batch["weight"] > 0)[: len(rows[-1])].float())
            self.encoded += len(rows[-1])
            if time.monotonic() - start > LONG:
                print(f"encoding the images of {wanted.about}, {len(wanted.positions):,} once", flush=True)
                start = float("inf")
        return Table(torch.cat(rows).contiguous(), torch.cat(readable))

    def _key(self, wanted: Wanted, clip: FrozenCLIP) -> str | None:
        """The digest of all that the features' bits depend on; None where something cannot be described."""
        dataset, items = wanted.dataset, take(wanted.dataset.items, wanted.positions)  # type: ignore[arg-type]
        if self.store is None or not _vouched_for(dataset):
            return None
        try:
            return key_of(
                {
                    "clip": clip.image_identity,
                    "spec": described(clip.image_spec),
                    "transform": described(dataset.transform),
                    "random": list(wanted.random),
                    "source": described(type(dataset.source)),
                    "images": dataset.source.content_digest(items),
                    "batches": [len(batch) for batch in wanted.batches],  # kernels depend on the size of a batch
                    "numerics": _numerics(clip.device),
                    "software": software(),
                }
            )
        except Unknown as error:
            self.store.say(f"image features of {wanted.about} are not kept: {error}.")
            return None


ONLINE = ImageFeatures()  # nothing is stored, nothing kept


def features_of(store: str | None, max_gb: float, views: int | Literal["online"]) -> ImageFeatures:
    """Makes the `ImageFeatures` of the keys below `features` of a config.

    Args:
        store: the store's folder, "auto" for the one in the user's cache, or None.
        max_gb: the most that the store may hold, in 10^9 bytes.
        views: of each training image; "online": new ones in every epoch, as published.

    Raises:
        ValueError: a value out of range.
    """
    if not 0 < max_gb < float("inf"):
        raise ValueError(f"features.max_gb={max_gb}: give a number of gigabytes above 0; features.store=null stores nothing.")
    if views != "online" and not 1 <= views <= MOST_VIEWS:
        raise ValueError(f"features.views={views}: give online, or a number of views from 1 to {MOST_VIEWS:,}.")
    if store is not None and (not store.strip() or "\0" in store):
        raise ValueError("features.store is no folder: give a path, auto or null.")
    return ImageFeatures(FeatureStore(folder_of(store), max_gb) if store else None, None if views == "online" else views)


def _vouched_for(dataset: Any) -> bool:
    """Whether the dataset's source can tell when its images change."""
    return type(dataset) is ImageDataset and callable(getattr(dataset.source, "content_digest", None))


def _numerics(device: torch.device) -> list[Any]:
    """The device and the settings of torch that decide the last bits."""
    kind = device.type
    autocast = str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else None
    settings = [kind, autocast, torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()]
    if kind == "cuda":
        cudnn = torch.backends.cudnn
        return [*settings, torch.cuda.get_device_name(device), torch.version.cuda, cudnn.allow_tf32, cudnn.benchmark]
    return [*settings, torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()]


def _answer_signals() -> None:
    signals.check()
    if signals.waited() > PATIENCE:
        raise signals.Interrupted(where="while image features were computed")
