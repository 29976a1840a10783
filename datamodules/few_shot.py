"""Few-shot selection and base/new classes, image for image as in CoOp's published protocol."""

import random
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

from datamodules.items import Items, ItemTable, Splits, places_by_label, take

MAX_VAL_SHOTS = 4


def _sample(items: Items, shots: int, rng: random.Random) -> Items:
    chosen: list[int] = []
    for group in places_by_label(items).values():
        # A class with too few images is taken whole, in its own order, without a draw.
        chosen += [group[i] for i in rng.sample(range(len(group)), shots)] if len(group) >= shots else list(group)
    return take(items, chosen)


def _sample_numpy(items: Items, shots: int, rng: np.random.RandomState) -> Items:
    chosen: list[int] = []
    for _, group in sorted(places_by_label(items).items()):
        chosen += [group[i] for i in rng.choice(len(group), shots, replace=False)] if len(group) >= shots else list(group)
    return take(items, chosen)


def select(splits: Splits, shots: int, seed: int, sampler: Literal["coop", "numpy"] = "coop") -> Splits:
    """`shots` images per class for training, then min(shots, 4) for validation; shots <= 0 keeps everything.

    Sampling is over all classes (take `subset` afterwards) from a generator of its own. "coop", the sampler of the published
    prompt learners: `random.Random(seed)`, or, after a fallback split made with this seed, the state that the split left.
    "numpy", that of the published linear probe: `RandomState(seed)`, classes in ascending order. Lists in `splits.fixed` stay.
    """
    if shots <= 0:
        return splits
    if sampler not in ("coop", "numpy"):
        raise ValueError(f"sampler={sampler} is not known: use coop or numpy")
    if sampler == "numpy":
        draw = partial(_sample_numpy, rng=np.random.RandomState(seed))
    else:
        rng = random.Random(seed)
        if splits.rng_state is not None:
            rng.setstate(splits.rng_state)
        draw = partial(_sample, rng=rng)
    train = splits.train if "train" in splits.fixed else draw(splits.train, shots)
    val = splits.val if "val" in splits.fixed else draw(splits.val, min(shots, MAX_VAL_SHOTS))
    return replace(splits, train=train, val=val)


def subset(splits: Splits, which: Literal["all", "base", "new"]) -> Splits:
    """Base: the first ceil(C/2) classes by label; new: the rest. Relabelled from 0; other items are dropped."""
    if which not in ("all", "base", "new"):
        raise ValueError(f"subset={which} is not known: use all, base or new")
    if which == "all":
        return splits
    items = splits.train or splits.test
    labels = list(range(len(items.names))) if isinstance(items, ItemTable) else sorted({item.label for item in items})
    half = (len(labels) + 1) // 2
    kept = {old: new for new, old in enumerate(labels[:half] if which == "base" else labels[half:])}

    def pick(items: Items) -> Items:
        if isinstance(items, ItemTable):
            return items.relabelled(kept)
        return [item._replace(label=kept[item.label]) for item in items if item.label in kept]

    return replace(splits, train=pick(splits.train), val=pick(splits.val), test=pick(splits.test))
