"""Batches of stored image features, in place of pixels or beside them.

Legend: B images of a micro-batch, V views of an image in its batch, N images, d width of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.items import Items, ItemTable
from datamodules.loaders import ImageDataset, Row, collate

IMAGE, FEATURES, TEACHER = "image", "features", "teacher"  # entries of a batch: pixels, their features, a teacher's features


@dataclass(frozen=True)
class Table:
    """Features (N,V,d) of images, and `readable` (N,) float32, 0 where an image could not be read. `held` keeps the file open
    that the features are mapped from."""

    rows: Tensor
    readable: Tensor
    held: Any = None


def labels_of(items: Items) -> Tensor:
    """The labels (N,) int64."""
    return torch.as_tensor(items.labels if isinstance(items, ItemTable) else [item.label for item in items]).long()


class KnownLoader:
    """The batches of an evaluation's loader with features (B,d) in place of pixels: no image is opened.

    Args:
        table: gives the features of the loader's images, in its order, each with one view. Called when iteration first begins.
    """

    def __init__(self, loader: DataLoader, table: Callable[[], Table]) -> None:
        self.dataset, self.batch_sampler, self.table = loader.dataset, loader.batch_sampler, cache(table)

    def __len__(self) -> int:
        return len(self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        table, labels, start = self.table(), labels_of(self.dataset.items), 0  # type: ignore[attr-defined]
        for rows in self.batch_sampler:
            index, part = torch.tensor(rows), slice(start, start := start + len(rows))
            yield {
                FEATURES: table.rows[part, 0].clone(),  # a copy is aligned like a computed tensor: kernels depend on it
                "label": labels[index],
                "index": index,
                "batch_index": torch.zeros_like(index),
                "weight": table.readable[part].clone(),
            }


class CycledViews(Dataset):
    """Training images in the views of the first `cycle` epochs of `dataset`, which are repeated in turn.

    Args:
        tables: by entry of a batch, a table for each of these epochs; its rows are the dataset's.
        pixels: whether samples hold the pixels.
    """

    def __init__(
        self, dataset: ImageDataset, cycle: int, tables: Mapping[str, Sequence[Table]] | None = None, pixels: bool = True
    ) -> None:
        self.dataset, self.cycle, self.tables, self.pixels = dataset, cycle, tables or {}, pixels
        self.items, self.bad = dataset.items, dataset.bad

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: Row) -> dict[str, Any]:
        epoch, index, weight, batch_index = row
        view = epoch % self.cycle
        known = {name: tables[view].rows[index] for name, tables in self.tables.items()}
        if self.pixels:
            return self.dataset[(view, index, weight, batch_index)] | known
        readable = all(bool(tables[view].readable[index]) for tables in self.tables.values())
        sample = {"label": self.items[index].label, "index": index, "batch_index": batch_index}
        return sample | known | {"weight": weight if readable else 0.0}


def collate_known(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """`datamodules.loaders.collate` for samples with any of pixels (V,3,H,W) and features (V,d), which become (V*B,d)."""
    kinds = [kind for kind in (IMAGE, FEATURES, TEACHER) if kind in samples[0]]
    batches = {kind: collate([sample | {IMAGE: sample[kind]} for sample in samples]) for kind in kinds}
    first = batches[kinds[0]]
    return {kind: batch.pop(IMAGE) for kind, batch in batches.items()} | first
