"""Decoded images in memory: the same pixels and draws as when each image is read anew, and how much is read."""

import multiprocessing
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from toys import IMAGE_SPEC, ToySource

from datamodules.decoded import SMALLEST, DecodedImages
from datamodules.loaders import ImageDataset, StepSampler, TrainLoader
from datamodules.transforms import train_transform

MB = 2**20
IMAGES = 12


class Counting(ToySource):
    """Counts how often images are opened, over all processes; images of different sizes."""

    def __init__(self):
        self.opens = multiprocessing.Value("i", 0)

    def open(self, item):
        with self.opens.get_lock():
            self.opens.value += 1
        number = int(item.path.split("/")[2].split(".")[0])
        return super().open(item).resize((40 + number, 50 - number))


def loader(megabytes, workers=0, source=None):
    source = source or Counting()
    transform = train_transform(**IMAGE_SPEC)
    decoded = DecodedImages(IMAGES, megabytes)
    dataset = ImageDataset(source, source.splits(1).train[:IMAGES], transform, 3, views=2, decoded=decoded)
    return TrainLoader(dataset, StepSampler(IMAGES, 3, 3), workers)


def epoch(loader, number):
    loader.set_epoch(number)
    return list(loader)


def same(a, b):
    return len(a) == len(b) > 0 and all(torch.equal(x[key], y[key]) for x, y in zip(a, b, strict=True) for key in x)


@pytest.mark.parametrize("workers", [0, 2])
def test_kept_images_give_the_same_batches(workers):
    anew, kept = loader(0), loader(1, workers)
    for number in range(3):
        assert same(epoch(anew, number), epoch(kept, number))
    assert anew.dataset.source.opens.value == 3 * IMAGES
    assert kept.dataset.source.opens.value == IMAGES  # of all processes together


def test_a_resumed_run_reads_again_what_was_kept():
    whole = epoch(loader(1), 4)
    first = loader(1)
    epoch(first, 3), first.set_epoch(4)
    batches = iter(first)
    start = [next(batches) for _ in range(2)]
    second = loader(1)
    second.load_state_dict(first.state_dict())
    assert same(start + list(second), whole)
    assert same(epoch(second, 5), epoch(loader(0), 5))


def noise(index, side=100):
    return PIL.Image.fromarray(np.random.default_rng(index).integers(0, 256, (side, side + 1, 3)).astype(np.uint8))


def test_images_are_kept_until_the_memory_is_full():
    side, fit = 300, MB // (300 * 301 * 3)
    kept, reads = DecodedImages(6, 1), []

    def read(index):
        reads.append(index)
        return noise(index, side)

    for _ in range(2):
        for index in range(6):
            assert kept.open(index, lambda index=index: read(index)).tobytes() == noise(index, side).tobytes()
    assert 0 < fit < 6
    assert reads == [*range(6), *range(fit, 6)]
    reads.clear()
    kept.open(0, lambda: read(0))
    assert not reads


def test_what_cannot_be_kept_is_read_each_time():
    def fail():
        raise ValueError("torn")

    kept = DecodedImages(2, 1)
    for _ in range(2):
        with pytest.raises(ValueError, match="torn"):
            kept.open(0, fail)
    grey = PIL.Image.new("L", (9, 9))
    assert kept.open(1, lambda: grey) is grey
    assert kept.open(1, lambda: noise(1)).tobytes() == noise(1).tobytes()
    assert kept.open(1, fail).tobytes() == noise(1).tobytes()


def test_long_lists_and_processes_that_are_not_forked_keep_nothing():
    assert DecodedImages(MB // SMALLEST, 1).keeps
    assert not DecodedImages(MB // SMALLEST + 1, 1).keeps
    assert not pickle.loads(pickle.dumps(DecodedImages(2, 1))).keeps
    with pytest.raises(ValueError, match=r"decoded_mb=\d+: .*: give fewer megabytes, or 0"):
        DecodedImages(2, 2**40)
