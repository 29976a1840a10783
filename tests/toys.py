"""A random small CLIP, a drawn dataset of five classes and a method of a few lines: what the tests of a run need."""

from __future__ import annotations

import csv
import os
import signal
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from datamodules.identity import digest_of
from datamodules.items import Item, Splits
from prompts.engine.clip import FrozenCLIP, build
from prompts.engine.text_plan import TextPlan, token_lists
from prompts.learner import PromptLearner

TESTS = Path(__file__).parent
ROOT = TESTS.parent
NAMES = ["cat", "old dog", "sea or lake", "red car", "tree"]
IMAGE_SPEC = {"size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}  # what a CLIP wants of its images


def command(*overrides: str, sweep: bool = False) -> list[str]:
    options = ["--config-dir", str(TESTS / "conf")] + (["-m"] if sweep else [])
    return [sys.executable, str(ROOT / "run.py"), *options, *overrides]


def only(folder, name):
    [path] = folder.rglob(name)
    return path


def curve(folder):
    with only(folder, "metrics.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


def toy_clip(trainable=None, **options) -> FrozenCLIP:
    """Width 32, two blocks each; always the same random weights."""
    vision = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    return FrozenCLIP(build({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}), trainable=trainable, **options)


def other_clip():
    """The toy CLIP with one weight changed."""
    clip = toy_clip()
    clip.model.visual.proj.data[0, 0] += 1
    return clip


class ToySource:
    """Noise around a colour of the class's own. 20 training, 5 validation and 7 test images per class."""

    in_memory = True

    def splits(self, seed: int) -> Splits:
        def items(split: str, count: int) -> list[Item]:
            return [Item(f"{split}/{c}/{i}.png", c, name) for c, name in enumerate(NAMES) for i in range(count)]

        return Splits(items("train", 20), items("val", 5), items("test", 7))

    opened = 0

    def open(self, item: Item) -> PIL.Image.Image:
        """The environment's DOOM_IMAGE="test/2:3:SIGTERM:0" sends rank 0 a signal at the third image whose path starts so; with
        PAUSE it makes a file `paused` and waits there."""
        if doom := os.environ.get("DOOM_IMAGE"):
            start, count, how, rank = doom.split(":")
            self.opened += item.path.startswith(start)
            if item.path.startswith(start) and (str(self.opened), rank) == (count, os.environ.get("LOCAL_RANK", "0")):
                if how == "raise":
                    raise ValueError("doomed")
                if how == "PAUSE":
                    Path("paused").touch()
                    time.sleep(60)
                    return self.open(item)
                os.kill(os.getpid(), getattr(signal, how))
        colour = np.random.default_rng(NAMES.index(item.classname)).integers(60, 200, 3)
        noise = np.random.default_rng(list(item.path.encode())).integers(-60, 55, (40, 40, 3))
        return PIL.Image.fromarray((colour + noise).astype(np.uint8))


class VouchedToys(ToySource):
    """Toys whose image features may be stored; `paths` of the images that were opened."""

    paths: ClassVar[list[str]] = []
    state = "as made"  # of the images

    def content_digest(self, items) -> str:
        return digest_of(self.state, [item.path for item in items])

    def open(self, item: Item) -> PIL.Image.Image:
        self.paths.append(item.path)
        return super().open(item)


class Toy(PromptLearner):
    """A linear change of the image features, of low rank; the text is CLIP's own."""

    def __init__(self, rank: int = 4):
        super().__init__()
        self.rank = rank

    def setup(self, clip: FrozenCLIP, info) -> None:
        self.down = nn.Parameter(0.2 * torch.randn(clip.embed_dim, self.rank))
        self.up = nn.Parameter(torch.zeros(self.rank, clip.embed_dim))

    def bind(self, clip: FrozenCLIP, classnames) -> None:
        self.plan = TextPlan(token_lists(clip.tokenizer, classnames, "a photo of a {}.", 0, "end"))

    def logits(self, clip: FrozenCLIP, image: Tensor, text: Tensor) -> Tensor:
        return clip.logits(image + image @ self.down @ self.up, text)


class Doomed(Toy):
    """Ends in the middle of training as the variable DOOM says: "call:how:rank:shots", how = raise, exit (with status 0, as
    if all were well) or a signal's name; before training where the call is "setup"."""

    calls = 0

    def setup(self, clip: FrozenCLIP, info) -> None:
        super().setup(clip, info)
        self.images = info.num_images
        self.strike("setup")

    def losses(self, out, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        self.strike(str(self.calls))
        return super().losses(out, labels, index)

    def strike(self, now: str) -> None:
        for doom in os.environ.get("DOOM", "").split():
            call, how, rank, images = doom.split(":")
            if (call, rank, images) == (now, os.environ.get("LOCAL_RANK", "0"), str(self.images)):
                if how == "raise":
                    raise ValueError("doomed")
                if how == "exit":
                    os._exit(0)
                os.kill(os.getpid(), getattr(signal, how))
