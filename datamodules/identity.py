"""What the data of a run are, as a digest that other data do not share. Imports no torch."""

from __future__ import annotations

import hashlib

from datamodules.items import Source


def data_digest(source: Source, seed: int) -> str:
    """sha256 of the lists of a source."""
    splits = source.splits(seed)
    lists = (splits.train, splits.val, splits.test)
    return hashlib.sha256(repr([list(map(tuple, items)) for items in lists]).encode()).hexdigest()
