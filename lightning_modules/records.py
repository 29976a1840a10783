"""Records of an evaluation: data kept for each item by its index, and gathered from all ranks."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from datamodules.evaluation import Evaluation


class KeepsRecords(Protocol):
    """A LightningModule whose tests keep records for its files: `records` by the test's name."""

    records: dict[str, dict[int, Any]]
    trainer: Any


def all_records(module: KeepsRecords, evaluation: Evaluation) -> dict[int, Any]:
    """The records of all ranks, in the order of their indices. Those of a test are also stored in `module.records`.

    Raises:
        ValueError: there are none.
    """
    records = gathered(evaluation.metrics)
    if not records:
        raise ValueError(f"evaluation {evaluation.name}: none of its images can be read, so it has no result.")
    if module.trainer.testing:
        module.records[evaluation.name] = records
    return records


def gathered(part: dict[int, Any]) -> dict[int, Any]:
    """The entries of all ranks, in the order of their keys."""
    parts = [part]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts = [{}] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, part)
    return dict(sorted((key, entry) for entries in parts for key, entry in entries.items()))
