"""How time and memory grow: with classes (10 to 20,000), images, length of the prompt, and prompted blocks.

    python -m benchmarks.scale                                                    # small towers, about 3 minutes on 2 cores
    python -m benchmarks.scale --model ViT-B-16-quickgelu --classes 10 100 1000 --images 1 4 16 --repeats 2
    python -m benchmarks.scale --device cuda --model ViT-B-16-quickgelu --plot scale.png

Every curve's points run in turn, after a step of each whose peak memory is measured (beyond the weights). Per curve the
exponent p of time or memory ~ size^p is fitted, by least squares in logarithms, to all points and to the larger ones alone,
where constant parts hide less; +- is twice its standard error. Where an exponent is above 1 by more than that, and by more
than 0.1, which caches and allocators may cost, the command says so and ends with status 1.

Curves over classes and lengths take image features that are known, as from a store, so that the image tower hides nothing;
those over images and blocks take pixels.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.plain import IMAGENET, clip_of
from benchmarks.timing import Side, in_turns, peak_mib, summary, where
from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP
from prompts.ivlp import IVLP
from prompts.learner import PromptLearner, TrainInfo
from prompts.prompted_clip import PromptedCLIP
from prompts.rpp import RPP

CLASSES, IMAGES = 100, 8  # where a curve does not vary them
ALLOWED = 0.1  # above 1
FLOOR_MIB = 1.0  # less memory than this is not told apart


def class_names(count: int) -> list[str]:
    """Different names of two words, whose lengths are alike for all counts."""
    words, draw, names = sorted({w for name in IMAGENET for w in name.split()}), random.Random(0), {}
    while len(names) < count:
        names[f"{draw.choice(words)} {draw.choice(words)}"] = None
    return list(names)


def prompted(clip: FrozenCLIP, learner: PromptLearner, classes: int) -> PromptedCLIP:
    """A model with this many classes, on the CLIP's device."""
    model = PromptedCLIP(clip, learner)
    model.setup(TrainInfo(class_names(classes), 1))
    return model.to(clip.device)


def training(clip: FrozenCLIP, learner: PromptLearner, classes: int, images: int, known: bool) -> Side:
    """A step's forward and backward pass; `known`: from image features."""
    model = prompted(clip, learner, classes)
    inputs = {"features": torch.randn(images, clip.embed_dim)} if known else {}
    inputs = {name: x.to(clip.device) for name, x in inputs.items()}
    pixels = None if known else torch.randn(images, 3, *[clip.image_spec["size"]] * 2, device=clip.device)
    labels = torch.arange(images, device=clip.device) % classes

    def step() -> None:
        model.zero_grad()
        losses = model.losses(model(pixels, **inputs), labels, labels)
        torch.stack([loss.mean() for loss in losses.values()]).sum().backward()

    return step


def evaluation(clip: FrozenCLIP, classes: int, images: int) -> Side:
    """A class list is encoded, then logits of known image features; without classes the image tower alone."""
    pixels = torch.randn(images, 3, *[clip.image_spec["size"]] * 2, device=clip.device)
    if not classes:
        return torch.no_grad()(lambda: clip.encode_image(pixels))
    model, features = prompted(clip, CoOp(16), classes), torch.randn(images, clip.embed_dim, device=clip.device)

    @torch.no_grad()
    def run() -> None:
        text = model.learner.encode_text(clip, features)
        model.learner.logits(clip, features, text)

    return run


@dataclass(frozen=True)
class Curve:
    """What is varied, and the work at each size."""

    name: str
    sizes: Sequence[int]
    work: Callable[[int], Side]


def curves(clip: FrozenCLIP, options: argparse.Namespace) -> Iterator[Curve]:
    """All curves."""

    def rpp() -> RPP:
        depth = min(9, clip.text_blocks, clip.image_blocks)
        return RPP(4, 4, depth, depth, distillation={"weight": 0.0})

    blocks = min(clip.text_blocks, clip.image_blocks)
    depths = sorted({1, *(blocks * i // 4 for i in (1, 2, 3, 4) if blocks * i // 4)})
    yield Curve("classes, CoOp, a step", options.classes, lambda n: training(clip, CoOp(16), n, IMAGES, True))
    yield Curve("classes, RPP, a step", options.classes, lambda n: training(clip, rpp(), n, 2, False))
    yield Curve("classes, CoOp, evaluation", options.classes, lambda n: evaluation(clip, n, 100))
    yield Curve("images, CoOp, a step", options.images, lambda n: training(clip, CoOp(16), CLASSES, n, False))
    yield Curve("images, IVLP, a step", options.images, lambda n: training(clip, ivlp(clip, blocks), CLASSES, n, False))
    yield Curve("images, evaluation", options.images, lambda n: evaluation(clip, 0, n))
    yield Curve("prompt tokens, CoOp, a step", options.lengths, lambda n: training(clip, CoOp(n), CLASSES, IMAGES, True))
    yield Curve("prompted blocks, IVLP, a step", depths, lambda n: training(clip, ivlp(clip, n), CLASSES, IMAGES, False))


def ivlp(clip: FrozenCLIP, depth: int) -> IVLP:
    """Prompts in so many blocks of both towers."""
    return IVLP(n_text=4, n_image=4, depth_text=depth, depth_image=depth)


def exponent(sizes: Sequence[int], values: Sequence[Sequence[float]]) -> tuple[float, float]:
    """p of values ~ sizes^p, and twice its standard error. `values`: one or more for each size, at least three in all."""
    x = np.log(np.repeat(sizes, [len(of_size) for of_size in values]))
    y = np.log(np.concatenate([np.asarray(of_size, float) for of_size in values]))
    x = x - x.mean()
    slope = (x * y).sum() / (x * x).sum()
    residuals = y - y.mean() - slope * x
    return float(slope), 2 * float(np.sqrt((residuals**2).sum() / (len(y) - 2) / (x * x).sum()))


def judged(sizes: Sequence[int], values: Sequence[Sequence[float]]) -> tuple[str, bool]:
    """The exponents of all points and of the larger ones in words, and whether neither is worse than linear."""
    larger = max(3, (len(sizes) + 1) // 2)
    fits = [exponent(sizes, values), exponent(sizes[-larger:], values[-larger:])]
    text = ", ".join(f"{p:5.2f} +- {spread:4.2f}" for p, spread in fits)
    return text, all(p <= 1 + max(spread, ALLOWED) for p, spread in fits)


def measure(curve: Curve, repeats: int, device: torch.device) -> tuple[list[list[float]], list[float]]:
    """Seconds of each run, and peak MiB, of each size."""
    sides = {size: curve.work(size) for size in curve.sizes}
    for work in sides.values():
        work()  # what is made once, on the first call
    memory = [max(FLOOR_MIB, peak_mib(work, device)) for work in sides.values()]
    return list(in_turns(sides, repeats, device, at_least=0.02).values()), memory


def plot(found: dict[str, tuple[Sequence[int], list[float], list[float]]], path: Path, title: str) -> None:
    """Time and memory against size, in logarithms, with a straight line of exponent 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for place, unit, column in zip(axes, ("seconds", "peak memory, MiB"), (1, 2), strict=True):
        for name, values in found.items():
            place.loglog(values[0], values[column], marker=".", label=name)
        low, high = place.get_ylim()
        place.loglog([1, high / low], [low, high], color="grey", linestyle=":", label="exponent 1")
        place.set(xlabel="classes, images, tokens or blocks", ylabel=unit, ylim=(low, high))
    axes[0].legend(fontsize=7)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=80)


def main(arguments: list[str] | None = None) -> int:
    """Prints the curves; 1 where one is worse than linear."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", help="small, tiny, or a name of open_clip's: random weights of its shapes")
    parser.add_argument("--curves", default="", help="only curves whose name contains this")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 50, 200, 1000, 4000, 10000, 20000])
    parser.add_argument("--images", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 4, 16, 32, 64], help="tokens; the names need ten more")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--plot", type=Path, help="a png to write")
    options = parser.parse_args(arguments)
    if any(len(sizes) < 3 for sizes in (options.classes, options.images, options.lengths)):
        parser.error("an exponent needs three sizes or more.")
    device = torch.device(options.device)
    clip = clip_of(options.model).to(device)
    title = f"{options.model}, float32, {where(device)}; median of {options.repeats} turns"
    print(f"{title}\n{'':32}time: exponent of all points, of the larger | memory: the same")
    found, worse = {}, []
    for curve in filter(lambda curve: options.curves in curve.name, curves(clip, options)):
        times, memory = measure(curve, options.repeats, device)
        of_time, of_memory = judged(curve.sizes, times), judged(curve.sizes, [[mib] for mib in memory])
        print(f"{curve.name:32}{of_time[0]} | {of_memory[0]}", flush=True)
        for size, seconds, mib in zip(curve.sizes, times, memory, strict=True):
            print(f"  {size:>8,}  {summary(seconds, '.4f')} s  {mib:8.0f} MiB")
        found[curve.name] = curve.sizes, [median(seconds) for seconds in times], memory
        worse += [f"{curve.name}, {what}" for what, (_, fine) in (("time", of_time), ("memory", of_memory)) if not fine]
    if options.plot:
        plot(found, options.plot, title)
    if worse:
        print(f"error: worse than linear: {'; '.join(worse)}.", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
