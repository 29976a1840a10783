import os
import signal

import numpy as np
import pytest
import torch
from toys import IMAGE_SPEC, ToySource

from datamodules.loaders import ImageDataset, RankSampler, StepSampler, TrainLoader, eval_loader, windowed
from datamodules.module import FewShotData


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
    steps = [[i for _, i, _, _ in rows] for rows in StepSampler(10, batch_size, 7)]
    ranks = [list(StepSampler(10, batch_size, 7, rank, world, accumulate)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {len(whole) * accumulate}
    for step, expected in enumerate(whole):
        parts = [ranks[r][step * accumulate + m] for m in range(accumulate) for r in range(world)]
        assert len({len(part) for part in parts}) == 1  # ranks do the same work
        assert len(parts[0]) > 0
        real = [(i, w) for part in parts for _, i, w, _ in part if w > 0]
        assert all(steps[step][batch_index] == i for part in parts for _, i, w, batch_index in part if w > 0)
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


@pytest.mark.parametrize("workers", [0, 2])
def test_views_come_one_after_the_other(workers):
    source = ToySource()
    items = source.splits(1).train[:10]
    views = TrainLoader(ImageDataset(source, items, noisy, 3, views=3), StepSampler(10, 4, 3, world=3), workers)
    for batch, plain in zip(epoch(views, 1), epoch(loader(world=3), 1), strict=True):
        size = len(plain["label"])
        assert batch["image"].shape == (3 * size, 3, 2, 2)
        for key in ("label", "index", "batch_index"):
            assert torch.equal(batch[key], plain[key].repeat(3))
        assert torch.equal(batch["weight"], plain["weight"].repeat(3) / 3)
        assert torch.equal(batch["image"][:size], plain["image"])
        for row in range(size):
            assert len({batch["image"][row + view * size, 0, 0, 0].item() for view in range(3)}) == 3


def test_an_image_that_cannot_be_opened_weighs_nothing(caplog):
    class Broken(ToySource):
        def open(self, item):
            if item.path == "train/0/4.png":
                raise ValueError("train/0/4.png is torn")
            return super().open(item)

    items = Broken().splits(1).train[:10]
    bad = torch.zeros(10, dtype=torch.bool).share_memory_()
    train_loader = TrainLoader(ImageDataset(Broken(), items, noisy, 3, bad=bad), StepSampler(10, 5, 3), 0)
    weights = {i.item(): w.item() for b in epoch(train_loader, 0) for i, w in zip(b["index"], b["weight"], strict=True)}
    assert weights == pytest.approx({i: 0.2 * (i != 4) for i in range(10)})
    assert bad.nonzero().tolist() == [[4]]
    epoch(train_loader, 1)
    assert [record.getMessage() for record in caplog.records] == ["left out: train/0/4.png is torn"]  # said once
    with pytest.raises(ValueError, match="torn"):
        epoch(TrainLoader(ImageDataset(Broken(), items, noisy, 3), StepSampler(10, 5, 3), 0), 0)


def test_windowed_order_stays_near_in_the_files():
    shards = np.repeat([0, 1, 2, 3], [50, 7, 100, 43])
    order = windowed(shards, run=10, window=40)
    first, second = order(np.random.default_rng(1)), order(np.random.default_rng(2))
    assert sorted(first) == sorted(second) == list(range(200))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, order(np.random.default_rng(1)))
    for start in range(0, 200, 40):
        rows = np.sort(first[start : start + 40])
        pieces = (np.diff(rows) > 1).sum() + 1
        assert pieces <= 7  # four or so runs of ten, or of a shard's end, some of them cut by the window
        assert not np.array_equal(rows, first[start : start + 40])


def test_a_permutation_of_eleven_million_takes_a_second():
    import time

    sampler = StepSampler(11_060_223, 256, 1)
    started = time.process_time()
    assert len(next(iter(sampler))) == 256
    assert time.process_time() - started < 10  # a list of Python tuples would take longer


class Deadly(ToySource):
    """Kills the process that opens the first image, as the system does when memory is used up."""

    def open(self, item):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("train", [True, False])
def test_a_killed_worker_is_told_in_a_sentence(train):
    data = FewShotData("toy", Deadly(), IMAGE_SPEC, 4, seed=1, batch_size=4, workers=1)
    with pytest.raises(ValueError, match=r"a worker process that loads images was killed: .* \(fewer workers=\.\.\."):
        list(data.train_loader() if train else data.eval_loader("test"))


def test_other_errors_of_a_loader_pass():
    class Torn(ToySource):
        def open(self, item):
            raise RuntimeError("torn")

    data = FewShotData("toy", Torn(), IMAGE_SPEC, 4, seed=1, batch_size=4)
    with pytest.raises(RuntimeError, match="torn"):
        list(data.train_loader())
