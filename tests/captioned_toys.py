"""A few images with captions, some of them equal, in two domains."""

import numpy as np
import PIL.Image

from datamodules.captioned import CaptionedData, CaptionedImage, CaptionSplits
from datamodules.identity import digest_of

COLOURS = ["red", "green", "blue", "grey"]
THINGS = ["cat", "old dog", "lake"]


class CaptionedToys:
    """Noise around a colour. 13 training, 4 validation and 9 test images."""

    in_memory = True

    def splits(self, seed):
        def items(split, count):
            return [CaptionedImage(f"{split}/{i}.png", i, captions(split, i), ["near", "far"][i % 2]) for i in range(count)]

        return CaptionSplits(items("train", 13), items("val", 4), items("test", 9))

    def open(self, item):
        if item.path in self.broken:
            raise ValueError(f"{item.path} cannot be read")
        rng = np.random.default_rng(list(item.path.encode()))
        noise = rng.integers(-60, 55, (40, 40, 3))
        return PIL.Image.fromarray((np.roll([190, 80, 130], item.image_id % 3) + noise).astype(np.uint8))

    broken = ()

    def digest(self, seed):
        return digest_of("captioned toys")

    def content_digest(self, items):
        return digest_of([item.path for item in items])


def captions(split, number):
    colour, thing = COLOURS[number % 4], THINGS[number % 3]
    some = [f"a {colour} {thing}.", f"the {thing} of {split} number {number} is {colour}", "something outside"]
    return tuple(some[: 2 + number % 2])


def captioned(clip, source=None, **options):
    options = {"shots": -1, "seed": 1, "batch_size": 4, "eval_batch_size": 4} | options
    return CaptionedData("toys", source or CaptionedToys(), clip.image_spec, **options)


def with_captions(item, captions):
    return CaptionedImage(item.path, item.image_id, captions, item.domain)
