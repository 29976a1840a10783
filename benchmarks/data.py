"""The speed of loading images: decoding and augmenting on one core, and the share of a training step that waits for images.

    python -m benchmarks.data                                  # about 10 minutes on 2 cores
    python -m benchmarks.data --part loaders --clip tiny --sides 500x375 --rounds 3 --step-seconds 0.1 1
    python -m benchmarks.data --sides 500x375 1024x768 --device cuda --batch-size 256

JPEG files of the given sizes are drawn on the spot. Every round runs all ways one after the other over all images, so that a
noisy machine disturbs them alike; printed are medians over the rounds, with the slowest and the fastest.

The second part trains CoOp, and with `--step-seconds` waits in its place: as on a device that leaves the cores free.

Ways: `float` decodes with Pillow and normalises each image, as before; `uint8` leaves normalising to the device, as the loaders
do; `kept` has the decoded image in memory (later epochs of `decoded_mb`); `v2` is torchvision's v2 on tensors; `draft` lets the
JPEG decoder scale down as far as the transform allows. How far the last two are from published numbers is printed in levels of
0 to 255, for the test transform.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

from benchmarks.plain import clip_of
from benchmarks.timing import summary
from datamodules.decoded import DecodedImages
from datamodules.disk import open_rgb
from datamodules.items import Item, Splits
from datamodules.module import FewShotData
from datamodules.transforms import Prepared, eval_transform, train_transform
from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP

SIZE = 224
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
Way = Callable[[Path, int], Tensor]
Step = Callable[[dict[str, Tensor]], Any]


def draw(folder: Path, sides: tuple[int, int], count: int) -> list[Path]:
    """JPEG files of about four bits per pixel, as photographs have: clouds of several sizes, and grain."""
    paths = []
    for number in range(count):
        noise, (width, height) = np.random.default_rng(number), sides
        picture = np.zeros((height, width, 3))
        for octave in (4, 16, 64, 256):
            coarse = noise.integers(0, 256, (octave * 3 // 4, octave, 3)).astype(np.uint8)
            picture += np.asarray(PIL.Image.fromarray(coarse).resize(sides, PIL.Image.Resampling.BICUBIC), float) / octave**0.7
        picture = 255 * (picture - picture.min()) / np.ptp(picture) + noise.normal(0, 14, (height, width, 1))
        paths.append(folder / f"{width}x{height}-{number:04d}.jpg")
        PIL.Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def draw_classes(root: Path, images: int) -> None:
    """So many training images in four class folders, and one test image in each."""
    for split, count in (("train", images), ("test", 4)):
        for number, name in enumerate(("cat", "dog", "car", "tree")):
            (folder := root / split / name).mkdir(parents=True)
            draw(folder, (500, 375), max(1, (count - number + 3) // 4))


def drafted(path: Path) -> PIL.Image.Image:
    """The image, decoded at the smallest scale whose shorter side still has the size that is wanted."""
    with PIL.Image.open(io.BytesIO(path.read_bytes())) as image:
        image.draft("RGB", (SIZE, SIZE))
        return image.convert("RGB")


def ways(transform: Prepared, tensors: v2.Transform, kept: DecodedImages) -> dict[str, Way]:
    """(path, number) -> (3,S,S), by name."""

    def by_tensor(path: Path, number: int) -> Tensor:
        return tensors(decode_jpeg(read_file(str(path)), ImageReadMode.RGB))

    return {
        "float": lambda path, number: transform(open_rgb(path)),
        "uint8": lambda path, number: transform.pixels(open_rgb(path)),
        "kept": lambda path, number: transform.pixels(kept.open(number, partial(open_rgb, path))),
        "v2": by_tensor,
        "draft": lambda path, number: transform.pixels(drafted(path)),
    }


def compare_ways(paths: list[Path], rounds: int) -> None:
    """Prints images per second of each way, on one thread, and how far pixels are from Pillow's."""
    bicubic = {"interpolation": v2.InterpolationMode.BICUBIC, "antialias": True}
    both = {
        "training": (
            train_transform(SIZE, MEAN, STD),
            v2.Compose([v2.RandomResizedCrop(SIZE, scale=(0.08, 1.0), **bicubic), v2.RandomHorizontalFlip()]),
        ),
        "test": (eval_transform(SIZE, MEAN, STD), v2.Compose([v2.Resize(SIZE, **bicubic), v2.CenterCrop(SIZE)])),
    }
    for name, (transform, tensors) in both.items():
        rows = ways(transform, tensors, DecodedImages(len(paths), 4096))
        speeds: dict[str, list[float]] = {way: [] for way in rows}
        for number in range(-1, rounds):  # the first round warms up, and fills the memory of `kept`
            for way, load in rows.items():
                torch.manual_seed(number + 1)  # the same crops for all
                started = time.process_time()
                images = [load(path, at) for at, path in enumerate(paths)]
                if number >= 0:
                    speeds[way].append(len(images) / (time.process_time() - started))
        for way, values in speeds.items():
            text = f"  {name:9} {way:6} {summary(values, '7.0f')} images/s of CPU time"
            if name == "test" and way in ("v2", "draft"):
                error = torch.cat([(rows[way](p, 0).float() - rows["uint8"](p, 0).float()).abs().flatten() for p in paths])
                text += f"   off by {error.mean():.2f} levels in the mean, {error.max():.0f} at most"
            print(text, flush=True)


class Files:
    """A source of JPEG files in ten classes."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def splits(self, seed: int) -> Splits:
        """All files as training images; ten of them also as test images."""
        items = [Item(str(path), i % 10, f"class {i % 10}") for i, path in enumerate(self.paths)]
        return Splits(items, [], items[:10])

    def open(self, item: Item) -> PIL.Image.Image:
        """The image in RGB."""
        return open_rgb(Path(item.path))


def share_of_waiting(step: Step, data: FewShotData, device: torch.device, steps: int) -> list[tuple[float, float]]:
    """The share of the time (0-1) in which training waits for a batch, and seconds per step, of the first epoch and of the
    second; of an epoch's steps the first `steps` count."""
    loader, shares = data.train_loader(), []
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        waited, started = 0.0, time.perf_counter()
        asked, batches = started, iter(loader)
        for _ in range(min(steps, len(loader))):
            batch = {key: value.to(device, non_blocking=True) for key, value in next(batches).items()}
            waited += time.perf_counter() - asked
            step(batch)
            if device.type == "cuda":
                torch.cuda.synchronize()
            asked = time.perf_counter()
        total = asked - started
        shares.append((waited / total, total / min(steps, len(loader))))
        for _ in batches:  # the rest of the epoch, so that the next one begins like a run's
            pass
    return shares


def coop_step(clip: FrozenCLIP, images: int, device: torch.device) -> Step:
    """Forward, backward and update of CoOp with ten classes."""
    model = PromptedCLIP(clip, CoOp(16))
    model.setup(TrainInfo([f"class {i}" for i in range(10)], images))
    model.to(device)
    optimizer = torch.optim.SGD(model.learner.parameters(), 0.002)

    def step(batch: dict[str, Tensor]) -> None:
        F.cross_entropy(model(batch["image"]).logits, batch["label"]).backward()
        optimizer.step(), optimizer.zero_grad()

    return step


def compare_loaders(clip: FrozenCLIP, paths: list[Path], options: argparse.Namespace) -> None:
    """Prints how much of a step waits for images, by number of workers and memory for decoded images."""
    device, size = torch.device(options.device), clip.image_spec["size"]
    works: dict[str, Step] = {f"CoOp, {options.clip}, {size} px": coop_step(clip, len(paths), device)}
    for seconds in options.step_seconds:
        works[f"idle for {seconds:g} s, {size} px"] = lambda batch, seconds=seconds: time.sleep(seconds)  # type: ignore[misc]
    found: dict[tuple, list[list[tuple[float, float]]]] = {}
    spec, size_of = clip.image_spec, options.batch_size
    for _ in range(options.rounds):
        for workers, megabytes in product(dict.fromkeys([0, *options.workers]), (0, 4096)):
            for name, work in works.items():
                kinds = {"workers": workers, "decoded_mb": megabytes}
                data = FewShotData("files", Files(paths), spec, -1, 1, "all", size_of, **kinds)
                found.setdefault((name, workers, megabytes), []).append(share_of_waiting(work, data, device, options.steps))
    for (name, workers, megabytes), rounds in sorted(found.items()):
        for epoch in (0, 1):
            waits, seconds = ([of_round[epoch][i] for of_round in rounds] for i in (0, 1))
            what = f"{name}: workers={workers} decoded_mb={megabytes:<5} epoch {epoch + 1}"
            print(f"  {what}: {summary([100 * w for w in waits], '5.1f')} % of {summary(seconds, '.3f')} s a step wait")


def main(arguments: list[str] | None = None) -> None:
    """Runs both parts for each size of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", default=["500x375", "1024x768"], help="WIDTHxHEIGHT of the files")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", choices=["ways", "loaders", "both"], default="both", help="decoding, or the share that waits")
    parser.add_argument("--clip", default="ViT-B-16-quickgelu", help="of the second part; tiny: ours, its images are 32 px")
    parser.add_argument(
        "--step-seconds", type=float, nargs="*", default=[], help="also steps in which the cores are idle so long"
    )
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    threads = torch.get_num_threads()
    clip = clip_of(options.clip) if options.part != "ways" else None
    for sides in options.sides:
        width, height = map(int, sides.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            paths = draw(Path(folder), (width, height), options.images)
            kilobytes = statistics.mean(path.stat().st_size for path in paths) / 1000
            print(f"{len(paths)} JPEG files of {sides}, {kilobytes:.0f} kB; to {SIZE} px; {options.rounds} rounds")
            if options.part != "loaders":
                torch.set_num_threads(1)
                compare_ways(paths, options.rounds)
                torch.set_num_threads(threads)
            if clip:
                compare_loaders(clip, paths, options)


if __name__ == "__main__":
    main()
