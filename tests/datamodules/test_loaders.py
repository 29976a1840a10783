import numpy as np
import pytest
import torch
from toys import ToySource

from datamodules.loaders import ImageDataset, RankSampler, StepSampler, TrainLoader, eval_loader


def noisy(image):
    """Draws from all three generators that a transform may use."""
    import random

    draw = torch.rand(1).item() + np.random.rand() + random.random()
    return torch.full((3, 2, 2), draw)


def loader(size=10, batch_size=4, workers=0, **split):
    source = ToySource()
    items = source.splits(1).train[:size]
    return TrainLoader(ImageDataset(source, items, noisy, seed=3), StepSampler(size, batch_size, 3, **split), workers)


def epoch(loader, number):
    loader.set_epoch(number)
    return list(loader)


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x[key], y[key]) for x, y in zip(a, b, strict=True) for key in x)


@pytest.mark.parametrize(("size", "steps"), [(33, [32]), (31, [31]), (64, [32, 32]), (1, [1])])
def test_the_last_short_step_is_dropped_if_there_is_a_full_one(size, steps):
    assert [len(rows) for rows in StepSampler(size, 32, 1)] == steps


@pytest.mark.parametrize("batch_size", [1, 4, 10, 32])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 5])
def test_parts_of_a_step_add_up_to_it(batch_size, world, accumulate):
    whole = [{i: w for _, i, w, _ in rows} for rows in StepSampler(10, batch_size, 7)]
    places = [[i for _, i, _, _ in rows] for rows in StepSampler(10, batch_size, 7)]
    ranks = [list(StepSampler(10, batch_size, 7, rank, world, accumulate)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {len(whole) * accumulate}
    for step, expected in enumerate(whole):
        parts = [ranks[r][step * accumulate + m] for m in range(accumulate) for r in range(world)]
        assert len({len(part) for part in parts}) == 1  # ranks do the same work
        assert len(parts[0]) > 0
        real = [(i, w) for part in parts for _, i, w, _ in part if w > 0]
        assert all(places[step][place] == i for part in parts for _, i, w, place in part if w > 0)
        assert len(real) == len(expected)
        assert dict(real) == expected
        assert sum(w for _, w in real) == pytest.approx(1)


def test_epochs_and_seeds_are_different_permutations():
    def order(seed, number):
        sampler = StepSampler(50, 50, seed)
        sampler.epoch = number
        return [i for rows in sampler for _, i, _, _ in rows]

    orders = [order(1, 0), order(1, 1), order(2, 0)]
    assert all(sorted(o) == list(range(50)) for o in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert order(1, 0) == orders[0]


def test_samples_do_not_depend_on_workers():
    plain, forked = loader(), loader(workers=2)
    for number in (0, 1):
        assert same(epoch(plain, number), epoch(forked, number))


def test_augmentation_differs_by_epoch_and_image_and_leaves_the_generators_alone():
    state = torch.get_rng_state()
    batches = [epoch(loader(), number) for number in (0, 1)]
    assert torch.equal(state, torch.get_rng_state())
    seen = [
        {i.item(): image[0, 0, 0].item() for b in batch for i, image in zip(b["index"], b["image"], strict=True)}
        for batch in batches
    ]
    assert len(set(seen[0].values())) == len(seen[0])
    assert all(seen[0][i] != seen[1][i] for i in seen[0].keys() & seen[1].keys())


@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_in_the_middle_of_an_epoch(workers):
    whole = epoch(loader(batch_size=2), 3)
    first = loader(batch_size=2, workers=workers)
    first.set_epoch(3)
    batches = iter(first)
    start = [next(batches) for _ in range(2)]
    second = loader(batch_size=2, workers=workers)
    second.load_state_dict(first.state_dict())
    assert len(second) == len(first) == 5
    assert same(start + list(second), whole)
    second.set_epoch(4)
    assert same(list(second), epoch(loader(batch_size=2), 4))


def test_a_resume_with_another_accumulation_is_refused():
    state = loader(accumulate=2).state_dict()
    with pytest.raises(ValueError, match="accumulate=2"):
        loader().load_state_dict(state)


@pytest.mark.parametrize("world", [1, 2, 3, 40])
def test_evaluation_deals_each_image_once(world):
    dealt = [i for rank in range(world) for rows in RankSampler(35, 4, rank, world) for i in rows]
    assert sorted(dealt) == list(range(35))
    source = ToySource()
    dataset = ImageDataset(source, source.splits(1).test, noisy, 1)
    batches = list(eval_loader(dataset, 4, 0, rank=world - 1, world=world))
    assert len(batches) == len(RankSampler(35, 4, world - 1, world))


def test_nothing_to_train_on():
    with pytest.raises(ValueError, match="no training images"):
        StepSampler(0, 4, 1)
