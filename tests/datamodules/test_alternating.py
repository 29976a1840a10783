"""Validation batches that alternate with training batches."""

from dataclasses import replace

import pytest
from toys import IMAGE_SPEC, ToySource

from datamodules.alternating import held_out
from datamodules.items import Splits
from datamodules.module import FewShotData


class NoVal(ToySource):
    """Its val list is its test list, as ImageNet's."""

    def splits(self, seed):
        splits = super().splits(seed)
        return replace(splits, val=splits.test, fixed=frozenset({"val"}))


def data_of(source=None, shots=4, alternating_batch_size=3, **settings):
    settings = {"seed": 1, "batch_size": 6, "alternating_batch_size": alternating_batch_size} | settings
    return FewShotData("toy", source or ToySource(), IMAGE_SPEC, shots, **settings)


def paths(items):
    return {item.path for item in items}


@pytest.mark.parametrize("shots", [1, 4, 16])
@pytest.mark.parametrize("source", [ToySource, NoVal])
@pytest.mark.parametrize("which", ["all", "new"])
def test_held_out_images_are_no_training_and_no_test_images(source, which, shots):
    data = data_of(source(), shots, subset=which)
    held = held_out(data.source, data.selected, shots, 1, which)
    for others in (data.train_items, data.test_items):
        assert not paths(held) & paths(others)
    classes = [item.label for item in held]
    expected = min(shots, 4) if source is ToySource or shots < 16 else 4
    assert [classes.count(label) for label in range(len(data.classnames))] == [expected] * len(data.classnames)
    assert {(item.label, item.classname) for item in held} == {(item.label, item.classname) for item in data.train_items}
    assert held == held_out(data.source, data.selected, shots, 1, which)
    assert source is ToySource or paths(held) <= paths(ToySource().splits(1).train)


class Empty(ToySource):
    def splits(self, seed):
        return replace(super().splits(seed), val=[])


@pytest.mark.parametrize(("source", "shots"), [(Empty, 4), (NoVal, 20), (NoVal, -1)])
def test_no_validation_images(source, shots):
    with pytest.raises(ValueError, match="fits on validation images, and there are none"):
        data_of(source(), shots)


def rows_of(data, epoch, start=0, **options):
    loader = data.train_loader(**options)
    loader.set_epoch(epoch)
    loader.sampler.start = start
    return list(loader.sampler)


def test_a_validation_batch_before_each_training_batch():
    data = data_of()
    rows, size = rows_of(data, 2), len(data.train_items)
    assert len(rows) == len(data.train_loader()) == 2 * (size // 6)
    plain = data_of(alternating_batch_size=0)
    assert rows[1::2] == rows_of(plain, 2)  # the training batches are those of a run without alternating batches
    for val in rows[::2]:
        assert len(val) == 3
        assert all(size <= index < size + 20 and weight == 1 / 3 for _, index, weight, _ in val)


def test_validation_batches_cycle_shuffled_over_all_images():
    data = data_of(alternating_batch_size=5)
    batches = [[index for _, index, *_ in rows] for epoch in range(4) for rows in rows_of(data, epoch)[::2]]
    passes = [sum(batches[i : i + 4], []) for i in range(0, len(batches), 4)]
    assert len(passes) == 3  # four epochs of three steps are three passes of four
    assert all(sorted(one_pass) == list(range(20, 40)) for one_pass in passes)
    assert passes[0] != passes[1] != passes[2]
    assert passes[0] != sorted(passes[0])


@pytest.mark.parametrize("start", range(1, 6))
def test_an_epoch_goes_on_the_same_from_any_step(start):
    assert rows_of(data_of(), 1, start) == rows_of(data_of(), 1)[start:]


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 2), (3, 2)])
def test_parts_of_a_step_are_the_step(world, accumulate):
    whole = rows_of(data_of(), 1)
    parts = [rows_of(data_of(), 1, rank=rank, world=world, accumulate=accumulate) for rank in range(world)]
    for step, rows in enumerate(whole):
        dealt = [row for part in parts for micro in part[step * accumulate : (step + 1) * accumulate] for row in micro]
        assert sorted(row for row in dealt if row[2]) == sorted(rows)


def test_images_and_transforms():
    data = data_of()
    train, val = data.train_loader(), data.eval_loader("val")
    batches = list(train)
    images = {int(i): (image, label) for b in val for i, image, label in zip(b["index"], b["image"], b["label"], strict=True)}
    for batch in batches[::2]:
        for index, image, label in zip(batch["index"], batch["image"], batch["label"], strict=True):
            same, its_label = images[int(index) - len(data.train_items)]
            assert (image == same).all()  # no augmentation
            assert label == its_label
    assert isinstance(data.selected, Splits)
