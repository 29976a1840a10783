"""Validation images, by which a run chooses an epoch or a setting. They are never test images."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from datamodules.few_shot import MAX_VAL_SHOTS, select
from datamodules.items import Items, ItemTable, Splits, take


def hold_out(full: Splits, trained_on: Items, shots: int, seed: int, sampler: Literal["coop", "numpy"] = "coop") -> Items:
    """Validation images for a dataset whose own are its test images: min(shots, 4) of each class's other training images.

    A class with fewer images left gives all of them. With shots <= 0 there are none, as all images are trained on. The sampler
    starts anew from the seed: published code draws these images from the test images, so there is no order to follow.

    Args:
        full: all lists of the dataset.
        trained_on: the training images that were selected, of all classes.
        shots, seed, sampler: as `select` takes them.
    """
    pool = full.train if full.pool is None else full.pool
    if shots <= 0:
        return take(pool, [])
    if isinstance(pool, ItemTable) and isinstance(trained_on, ItemTable):
        others = take(pool, np.flatnonzero(~np.isin(pool.rows, trained_on.rows)))
    else:
        taken = {item.path for item in trained_on}
        others = [item for item in pool if item.path not in taken]
    return select(Splits(others, [], []), min(shots, MAX_VAL_SHOTS), seed, sampler).train


def check_apart(val: Any, test: Any, name: str) -> None:
    """ValueError where a validation image is a test image. Tables are not compared: each split has rows of its own."""
    if isinstance(val, ItemTable):
        return
    tested = {item.path for item in test}
    if shared := next((item.path for item in val if item.path in tested), None):
        raise ValueError(
            f"data={name}: {shared} is a validation image and a test image, and nothing may be chosen on test images: take it "
            "out of one of the two lists."
        )


def way_out(val_is_test: bool) -> str:
    """The end of a sentence that refuses a run without validation images: what to do."""
    if not val_is_test:
        return "give the dataset a val split"
    return (
        "the dataset's own are its test images, on which nothing is chosen, and no training image is left to hold out; give "
        "shots=N, fewer than a class has training images"
    )
