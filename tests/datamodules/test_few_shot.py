import random

import numpy as np
import pytest

from datamodules.few_shot import class_range, select, subset, subset_group
from datamodules.items import Item, ItemTable, Splits, by_label

# Positions inside a class that CoOp's sampler takes, for classes of 30, 20, 10, 3 (train) and 8, 5, 4, 1 (val) images.
GOLDEN = {
    1: (
        [[4, 18, 27, 25], [2, 8, 3, 15], [7, 9, 6, 8], [0, 1, 2]],
        [[3, 0, 7, 6], [3, 4, 2, 0], [3, 1, 0, 2], [0]],
    ),
    2: (
        [[27, 1, 2, 11], [5, 9, 8, 6], [9, 0, 2, 3], [0, 1, 2]],
        [[6, 7, 5, 4], [2, 3, 4, 1], [0, 3, 1, 2], [0]],
    ),
    3: (
        [[7, 18, 17, 4], [11, 15, 2, 0], [7, 4, 3, 1], [0, 1, 2]],
        [[7, 4, 6, 3], [3, 1, 0, 2], [3, 2, 0, 1], [0]],
    ),
}
GOLDEN_16 = {
    1: [
        [4, 18, 27, 25, 24, 2, 8, 3, 15, 14, 21, 12, 6, 22, 19, 0],
        [24, 27, 38, 0, 44, 28, 17, 14, 37, 6, 20, 1, 47, 41, 34, 46],
        [780, 443, 864, 59, 1080, 454, 896, 1015, 1132, 477, 707, 472, 448, 941, 593, 44],
    ],
    2: [[27, 29, 1, 2, 26, 11, 5, 21, 9, 8, 19, 6, 28, 23, 13, 10]],
    3: [[7, 18, 17, 4, 11, 19, 15, 20, 28, 2, 24, 0, 23, 8, 29, 3]],
}


def items(sizes: list[int], labels: list[int] | None = None) -> list[Item]:
    labels = labels or list(range(len(sizes)))
    return [Item(str(i), y, f"class {y}") for y, n in zip(labels, sizes, strict=True) for i in range(n)]


def positions(chosen: list[Item]) -> list[list[int]]:
    return [[int(item.path) for item in group] for group in by_label(chosen).values()]


@pytest.mark.parametrize("seed", GOLDEN)
def test_published_selection(seed):
    chosen = select(Splits(items([30, 20, 10, 3]), items([8, 5, 4, 1]), []), 4, seed)
    assert (positions(chosen.train), positions(chosen.val)) == GOLDEN[seed]


@pytest.mark.parametrize("seed", GOLDEN_16)
def test_published_selection_of_16(seed):
    sizes = [30, 50, 1300][: len(GOLDEN_16[seed])]
    assert positions(select(Splits(items(sizes), [], []), 16, seed).train) == GOLDEN_16[seed]


def test_classes_come_in_order_of_first_appearance():
    train = items([30, 20, 10, 3], labels=[7, 2, 5, 0])
    assert positions(select(Splits(train, [], []), 4, 1).train) == GOLDEN[1][0]


def test_validation_has_at_most_four_per_class_and_at_most_the_shots():
    splits = Splits(items([30, 20]), items([9, 9]), [])
    assert len(select(splits, 16, 1).val) == 8
    assert len(select(splits, 2, 1).val) == 4


def test_no_shots_keep_everything():
    splits = Splits(items([3, 2]), items([1, 1]), items([2, 2]))
    assert select(splits, -1, 1) is splits
    assert select(splits, 0, 1) is splits


def test_selection_neither_reads_nor_moves_the_global_generator():
    splits = Splits(items([30, 20]), items([9, 9]), [])
    random.seed(5)
    before = random.getstate()
    first = select(splits, 4, 1)
    assert random.getstate() == before
    random.seed(6)
    assert select(splits, 4, 1) == first


def test_selection_goes_on_from_the_state_of_a_fallback_split():
    rng = random.Random(1)
    rng.random()
    splits = Splits(items([30, 20]), [], [], rng_state=rng.getstate())
    chosen = select(splits, 4, 1)
    assert chosen == select(splits, 4, 1)
    assert positions(chosen.train) == [rng.sample(range(30), 4), rng.sample(range(20), 4)]


@pytest.mark.parametrize("fixed", ["train", "val"])
def test_fixed_lists_are_kept(fixed):
    splits = Splits(items([30, 20]), items([9, 9]), [], fixed=frozenset({fixed}))
    chosen = select(splits, 4, 1)
    assert (chosen.train is splits.train, chosen.val is splits.val) == (fixed == "train", fixed == "val")


@pytest.mark.parametrize("count", [10, 37, 47, 100, 101, 102, 196, 397, 1000])
def test_base_and_new_sizes(count):
    splits = Splits(items([1] * count), [], items([2] * count))
    base, new = subset(splits, "base"), subset(splits, "new")
    assert (len(base.classnames), len(new.classnames)) == (-(-count // 2), count // 2)
    assert sorted({item.label for item in new.test}) == list(range(count // 2))
    assert base.classnames + new.classnames == splits.classnames
    assert subset(splits, "all") is splits


def test_base_goes_by_sorted_label_values():
    train = items([1, 1, 1], labels=[9, 2, 5])
    splits = Splits(train, items([1, 1], labels=[5, 9]), items([1], labels=[2]))
    base = subset(splits, "base")
    assert base.classnames == ["class 2", "class 5"]
    assert [item.label for item in base.train] == [0, 1]
    assert base.val == [Item("0", 1, "class 5")]
    assert subset(splits, "new").classnames == ["class 9"]


def test_base_selection_is_the_selection_of_all_restricted():
    splits = Splits(items([30, 20, 10, 3, 8]), items([8, 5, 4, 1, 2]), [])
    chosen = select(splits, 4, 2)
    base = subset(chosen, "base")
    assert base.train == [item for item in chosen.train if item.label < 3]
    assert base.val == [item for item in chosen.val if item.label < 3]


SIZES = [
    (9, [3, 3, 3]),
    (10, [4, 3, 3]),
    (11, [4, 4, 3]),
    (5, [2, 1, 1, 1]),
    (7, [1] * 7),
    (4, [4]),
    (397, [40] * 7 + [39] * 3),
]


@pytest.mark.parametrize(("classes", "sizes"), SIZES)
def test_groups_of_classes_follow_one_another_and_the_first_are_the_larger(classes, sizes):
    ranges = [class_range(f"{k}/{len(sizes)}", classes) for k in range(1, len(sizes) + 1)]
    assert [len(group) for group in ranges] == sizes
    assert [position for group in ranges for position in group] == list(range(classes))


@pytest.mark.parametrize(("name", "fraction"), [("base", "1/2"), ("new", "2/2"), ("all", "1/1")])
def test_named_subsets_are_groups(name, fraction):
    splits = Splits(items([2] * 7), items([1] * 7), items([2] * 7))
    assert subset_group(name) == subset_group(fraction)
    assert class_range(name, 7) == class_range(fraction, 7)
    assert subset(splits, name) == subset(splits, fraction)


def table(count: int) -> ItemTable:
    """Three images per class, in rows 0, 1, 2, ..."""
    labels = np.repeat(np.arange(count), 3)
    return ItemTable(np.arange(3 * count), labels, [f"class {y}" for y in range(count)], str, np.zeros(3 * count, np.int32))


@pytest.mark.parametrize("which", ["1/3", "2/3", "3/3", "base", "new"])
def test_lists_and_tables_have_the_same_subsets(which):
    tables = subset(Splits(table(8), table(8), table(8)), which)
    lists = subset(Splits(list(table(8)), list(table(8)), list(table(8))), which)
    assert tables.classnames == lists.classnames == [f"class {y}" for y in class_range(which, 8)]
    for split in ("train", "val", "test"):
        assert list(getattr(tables, split)) == getattr(lists, split)
    assert [item.label for item in lists.train] == [label for label in range(len(lists.classnames)) for _ in range(3)]


UNKNOWN = ["novel", "a/b", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "01/3", "1.0/3", "1/", "/3", "3", "١/٣", "1/9999999"]


@pytest.mark.parametrize("which", [*UNKNOWN, "", "1 / 3", "1/3\n", 0.5, None, ["base"]], ids=repr)
def test_an_unknown_subset_is_refused_in_one_sentence(which):
    sentence = f"subset={which} is not known: use all, base, new, or k/n, the k-th of n groups of classes (1/3, 2/3 or 3/3)."
    for refuse in (
        lambda: subset(Splits(items([1]), [], []), which),
        lambda: class_range(which, 5),
        lambda: subset_group(which),
    ):
        with pytest.raises(ValueError) as refused:
            refuse()
        assert str(refused.value) == sentence


def test_more_groups_than_classes_are_refused():
    for splits in (Splits(items([1] * 3), [], []), Splits(table(3), table(3), table(3)), Splits([], [], items([1] * 3))):
        assert len(subset(splits, "3/3").classnames) == 1
        with pytest.raises(ValueError, match="subset=1/4 needs 4 classes or more, and the dataset has 3: use fewer groups"):
            subset(splits, "1/4")


def test_class_names_of_a_test_only_set_and_of_equal_names():
    crane = [Item("a", 1, "crane"), Item("b", 0, "crane")]
    assert Splits([], [], crane).classnames == ["crane", "crane"]


def test_labels_without_training_images_are_named():
    with pytest.raises(ValueError, match=r"\[1\] missing"):
        Splits(items([1, 1], labels=[0, 2]), [], []).classnames  # noqa: B018
    with pytest.raises(ValueError, match="label 3"):
        Splits(items([1]), [], items([1], labels=[3])).classnames  # noqa: B018


def test_numpy_sampler_of_the_linear_probe():
    """Spec C.6: one generator seeded with the run's seed, classes ascending, train then val."""
    sizes = {2: 9, 0: 20, 1: 3}  # out of order; class 1 has too few
    train = [Item(f"{label}/{i}", label, str(label)) for label, n in sizes.items() for i in range(n)]
    val = [Item(f"val/{label}/{i}", label, str(label)) for label, n in sizes.items() for i in range(n)]
    chosen = select(Splits(train, val, []), 8, 3, "numpy")
    rng = np.random.RandomState(3)
    want = [f"0/{i}" for i in rng.choice(20, 8, replace=False)] + [f"1/{i}" for i in range(3)]
    want += [f"2/{i}" for i in rng.choice(9, 8, replace=False)]
    assert [item.path for item in chosen.train] == want
    assert [item.path for item in chosen.val[:4]] == [f"val/0/{i}" for i in rng.choice(20, 4, replace=False)]
    with pytest.raises(ValueError, match="sampler=other"):
        select(Splits(train, val, []), 8, 3, "other")
