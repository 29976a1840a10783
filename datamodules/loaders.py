"""Loaders that give the same samples whatever the number of workers or ranks, and after a resume.

The images of step t in epoch e depend on (seed, e, t) alone; the random transform of an image on (seed, e, index, view).
Legend: B images of a micro-batch, V views of each, N items of a dataset.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.decoded import DecodedImages
from datamodules.items import Item, ItemTable
from datamodules.seeded import seeded
from datamodules.transforms import Prepared
from datamodules.workers import ImageLoader

log = logging.getLogger(__name__)

Row = tuple[int, int, float, int]  # epoch, index, weight, batch_index (position in the step's global batch)
Transform = Callable[[PIL.Image.Image], Tensor]
Order = Callable[[np.random.Generator], np.ndarray]  # draws a permutation


def sample_seed(seed: int, epoch: int, index: int, view: int = 0) -> int:
    """A 63-bit seed for everything random about one view of one image in one epoch."""
    return int(np.random.SeedSequence([seed, epoch, index, view]).generate_state(1, np.uint64)[0] >> 1)


class ImageDataset(Dataset):
    """Items of a source as samples `{"image": (V,3,H,W), "label", "index", "weight", "batch_index"}`.

    Indexed by a row of `StepSampler`, or by an index alone. The global random generators are seeded before each transform and
    restored after it, so that transforms may use any of them.

    Args:
        views: V, how often the transform is applied to each image.
        bad: (N,) flags in shared memory, set for images that cannot be opened; these are returned blank, with weight 0.
            None: such an image is an error.
        decoded: keeps the images of the list; None: each is read whenever it is asked for.
    """

    def __init__(
        self,
        source: Any,
        items: Sequence[Any],
        transform: Any,
        seed: int,
        views: int = 1,
        bad: Tensor | None = None,
        decoded: DecodedImages | None = None,
    ) -> None:
        self.source, self.items, self.seed, self.views, self.bad = source, items, seed, views, bad
        self.transform = transform.pixels if isinstance(transform, Prepared) else transform
        self.decoded = decoded or DecodedImages(0, 0)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: Row | int) -> dict[str, Tensor | int | float]:
        epoch, index, weight, batch_index = (0, row, 1.0, 0) if isinstance(row, int) else row
        content = self.readable(index)
        fields = {"label": self.items[index].label, "index": index, "weight": 0.0 if content is None else weight}
        return self.tensors(content, epoch, index) | fields | {"batch_index": batch_index}

    def read(self, index: int) -> Any:
        """The content that a sample is made from: here the image. ValueError where it cannot be opened."""
        return self.decoded.open(index, partial(self.source.open, self.items[index]))

    def readable(self, index: int) -> Any | None:
        """As `read`; None where it cannot be opened and is left out."""
        try:
            return self.read(index)
        except ValueError as error:
            if self.bad is None:
                raise
            if not self.bad[index] and not getattr(self.source, "listed", False):
                log.warning("left out: %s", error)
            self.bad[index] = True
            return None

    def tensors(self, content: Any | None, epoch: int, index: int) -> dict[str, Tensor]:
        """The tensors of a sample, from what `read` returned; blank ones for None."""
        image = PIL.Image.new("RGB", (64, 64)) if content is None else content
        return {"image": torch.stack([self._view(image, epoch, index, view) for view in range(self.views)])}

    def _view(self, image: PIL.Image.Image, epoch: int, index: int, view: int) -> Tensor:
        with seeded(sample_seed(self.seed, epoch, index, view)):
            return self.transform(image)


def windowed(shards: np.ndarray, run: int = 1024, window: int = 16384) -> Order:
    """An order for disks that are slow at random reads: rows that are read at about the same time are near each other.

    Rows that follow each other in one shard (N,) are runs of at most `run`; runs are shuffled, then the rows within each
    window of `window`.
    """
    starts = np.concatenate([[0], np.flatnonzero(np.diff(shards)) + 1, [len(shards)]])
    runs = [(i, min(i + run, end)) for start, end in zip(starts[:-1], starts[1:], strict=True) for i in range(start, end, run)]

    def order(generator: np.random.Generator) -> np.ndarray:
        rows = np.concatenate([np.arange(*runs[i]) for i in generator.permutation(len(runs))])
        for start in range(0, len(rows), window):
            generator.shuffle(rows[start : start + window])
        return rows

    return order


def shards_of(items: Sequence[Item]) -> np.ndarray:
    """The shard of each item, (N,); zeros for lists."""
    return items.shards if isinstance(items, ItemTable) else np.zeros(len(items), np.int32)


class StepSampler:
    """Divides each step's rows among micro-batches and ranks.

    An epoch is a permutation, by `order` or uniform, drawn from (seed, epoch). Step t takes the next `batch_size` indices (a
    last, short step is dropped if there is a full one). Part p = micro_batch * world + rank gets every `parts`-th row; parts
    are padded to the same non-zero length with rows of weight 0. Real rows weigh 1 / rows of the step, so the sum over parts
    of weighted losses is the step's mean whatever `world` and `accumulate` are.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        order: Order | None = None,
    ) -> None:
        if size < 1:
            raise ValueError("There are no training images: check shots=... and the dataset's train split.")
        if batch_size < 1 or accumulate < 1:
            raise ValueError(f"batch_size={batch_size} and accumulate={accumulate} must be at least 1.")
        self.size, self.seed, self.rank, self.world, self.accumulate = size, seed, rank, world, accumulate
        self.batch_size = min(batch_size, size)
        self.order = order or (lambda generator: generator.permutation(size))
        self.epoch = 0
        self.start = 0  # micro-batches already consumed in this epoch

    def __len__(self) -> int:
        return self.size // self.batch_size * self.accumulate

    def __iter__(self) -> Iterator[list[Row]]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = self.order(generator)
        parts = self.world * self.accumulate
        share = math.ceil(self.batch_size / parts)
        for k in range(self.start, len(self)):
            step, micro = divmod(k, self.accumulate)
            rows = order[step * self.batch_size : (step + 1) * self.batch_size].tolist()
            mine = list(enumerate(rows))[micro * self.world + self.rank :: parts]
            real = [(self.epoch, index, 1 / len(rows), batch_index) for batch_index, index in mine]
            yield real + [(self.epoch, rows[0], 0.0, 0)] * (share - len(mine))


class RankSampler:
    """Every image once: rank r takes r, r + world, ... without padding; ranks may get batches of different number."""

    def __init__(self, size: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.rows = range(rank, size, world)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.rows), self.batch_size):
            yield list(self.rows[start : start + self.batch_size])


def collate(samples: list[dict]) -> dict[str, Tensor]:
    """A batch: image (V*B,3,H,W), uint8 unless a transform of somebody's own gives another type; label, index, batch_index
    (V*B,) int64; weight (V*B,) float32.

    The first views of all images come first, then the second ones, and so on.
    """
    views = len(samples[0]["image"])
    batch = {key: torch.tensor([sample[key] for sample in samples]).repeat(views) for key in ("label", "index", "batch_index")}
    weight = torch.tensor([sample["weight"] for sample in samples], dtype=torch.float32).repeat(views) / views
    return {"image": torch.stack([sample["image"] for sample in samples], 1).flatten(0, 1), "weight": weight, **batch}


def eval_loader(
    dataset: Any, batch_size: int, workers: int, rank: int = 0, world: int = 1, collate: Callable = collate
) -> DataLoader:
    """A loader of this rank's share of a dataset; over all ranks each image comes once."""
    sampler = RankSampler(len(dataset), batch_size, rank, world)
    return ImageLoader(dataset, batch_sampler=sampler, num_workers=workers, **_options(collate))


def _options(collate: Callable) -> dict[str, Any]:
    """Arguments of all loaders: page-locked memory where there is a GPU, so that copies to it are asynchronous, and a generator
    for the workers' base seed, which would otherwise be drawn from the global one."""
    return {"collate_fn": collate, "pin_memory": torch.cuda.is_available(), "generator": torch.Generator()}


class TrainLoader:
    """A loader that can resume within an epoch. Lightning saves and restores it through `state_dict` / `load_state_dict`.

    Iteration starts lazily: Lightning asks for the iterator of the first epoch before it says which epoch that is.
    """

    def __init__(self, dataset: Any, sampler: Any, workers: int = 0, collate: Callable = collate) -> None:
        self.dataset, self.sampler = dataset, sampler
        self.position = 0  # batches handed out in this epoch, not those that workers have prefetched
        self.loader = ImageLoader(
            dataset, batch_sampler=sampler, num_workers=workers, persistent_workers=workers > 0, **_options(collate)
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Call at the start of each epoch that is not a resumed one."""
        self.sampler.epoch, self.position = epoch, 0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        self.sampler.start = self.position
        for batch in self.loader:
            self.position += 1
            yield batch
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        """The epoch, the batches handed out in it, and the images that could not be read."""
        bad = [] if self.dataset.bad is None else self.dataset.bad.nonzero().flatten().tolist()
        return {"epoch": self.sampler.epoch, "position": self.position, "accumulate": self.sampler.accumulate, "bad": bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a saved state. ValueError where it was saved with another number of micro-batches per step."""
        if self.dataset.bad is not None:
            self.dataset.bad[state["bad"]] = True
        if state["accumulate"] != self.sampler.accumulate:
            raise ValueError(
                f"The run to resume stopped within an epoch with accumulate={state['accumulate']}: resume it with that, "
                "or start over with force=true."
            )
        self.sampler.epoch, self.position = state["epoch"], state["position"]
