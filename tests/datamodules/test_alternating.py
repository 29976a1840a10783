"""Validation batches that alternate with training batches."""

import pytest
from toys import IMAGE_SPEC, ToySource

from datamodules.module import FewShotData


def data_of(source=None, shots=4, alternating_batch_size=3, **settings):
    settings = {"seed": 1, "batch_size": 6, "alternating_batch_size": alternating_batch_size} | settings
    return FewShotData("toy", source or ToySource(), IMAGE_SPEC, shots, **settings)


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
