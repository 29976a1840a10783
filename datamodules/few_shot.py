"""Few-shot selection, image for image as in CoOp's published protocol, and subsets of the classes."""

import random
import re
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

from datamodules.items import Items, ItemTable, Splits, positions_by_label, take

MAX_VAL_SHOTS = 4
NAMED_SUBSETS = {"all": "1/1", "base": "1/2", "new": "2/2"}


def _sample(items: Items, shots: int, rng: random.Random) -> Items:
    chosen: list[int] = []
    for group in positions_by_label(items).values():
        # A class with too few images is taken whole, in its own order, without a draw.
        chosen += [group[i] for i in rng.sample(range(len(group)), shots)] if len(group) >= shots else list(group)
    return take(items, chosen)


def _sample_numpy(items: Items, shots: int, rng: np.random.RandomState) -> Items:
    chosen: list[int] = []
    for _, group in sorted(positions_by_label(items).items()):
        chosen += [group[i] for i in rng.choice(len(group), shots, replace=False)] if len(group) >= shots else list(group)
    return take(items, chosen)


def select(splits: Splits, shots: int, seed: int, sampler: Literal["coop", "numpy"] = "coop") -> Splits:
    """`shots` images per class for training, then min(shots, 4) for validation; shots <= 0 keeps everything.

    Sampling is over all classes (take `subset` afterwards). Lists in `splits.fixed` are returned unchanged.

    Args:
        sampler: "coop", as in the published prompt learners: `random.Random(seed)`, or, after a fallback split made with this
            seed, the generator's state after the split. "numpy", as in the published linear probe: `RandomState(seed)`, classes
            in ascending order.
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


def subset_group(subset: str) -> tuple[int, int]:
    """(k, n) of a class subset: the k-th of n groups of classes. "all" is the only one of one group.

    Raises:
        ValueError: it is none of "all", "base", "new" and "k/n" with 1 <= k <= n.
    """
    fraction = NAMED_SUBSETS.get(subset, subset) if isinstance(subset, str) else ""
    if match := re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", fraction):
        k, n = int(match[1]), int(match[2])
        if k <= n:
            return k, n
    raise ValueError(
        f"subset={subset} is not known: use all, base, new, or k/n, the k-th of n groups of classes (1/3, 2/3 or 3/3)."
    )


def class_range(subset: str, classes: int) -> range:
    """The positions of a subset's classes among all `classes`, in ascending order of label.

    Where n does not divide the number of classes, the first groups have one class more: "base", 1/2, is the first half rounded
    up, and "new", 2/2, the rest.

    Raises:
        ValueError: the subset is not known, or there are fewer classes than groups.
    """
    k, n = subset_group(subset)
    if n > max(classes, 1):
        raise ValueError(
            f"subset={subset} needs {n} classes or more, and the dataset has {classes}: use fewer groups of classes."
        )
    size, longer = divmod(classes, n)  # the first `longer` groups have size + 1
    return range((k - 1) * size + min(k - 1, longer), k * size + min(k, longer))


def subset(splits: Splits, which: str) -> Splits:
    """The items whose classes are in the subset `which` (see `class_range`), relabelled from 0; other items are dropped."""
    if subset_group(which) == (1, 1):
        return splits
    items = splits.train or splits.test
    labels = list(range(len(items.names))) if isinstance(items, ItemTable) else sorted({item.label for item in items})
    new_labels = {labels[position]: new for new, position in enumerate(class_range(which, len(labels)))}

    def restrict(items: Items) -> Items:
        if isinstance(items, ItemTable):
            return items.relabelled(new_labels)
        return [item._replace(label=new_labels[item.label]) for item in items if item.label in new_labels]

    return replace(splits, train=restrict(splits.train), val=restrict(splits.val), test=restrict(splits.test))
