"""The store of image features against online encoding: the same runs and steps on both sides, in one process, in turn.

    python -m benchmarks.feature_store                                  # the embedded world, then a step at ViT-B/16's shapes
    python -m benchmarks.feature_store --cases evaluation --clip vit_b16 --data eurosat
    python -m benchmarks.feature_store --cases sweep --clip vit_b16 --drawn 2 --shots 1 2 --seeds 1 --epochs 25 --views 1

Cases: `evaluation`, zero-shot CLIP on the test images of a dataset, from a full store; `training`, a whole 16-shot run of
CoOp with 8 views of each image against new views in each epoch, the store empty and then filled; `sweep`, CoOp with every
number of shots and seed, its store empty at the beginning; `step`, CoOp's step at ViT-B/16's shapes, random weights, 100
classes, from features against from pixels that are in memory; `derived`, what follows for the published 15 runs. Printed are
medians, their ratio, its spread (slowest against fastest and the reverse), and the accuracy or loss of both sides. Start-up
of Python is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
from functools import partial
from pathlib import Path

import torch

import run as entry
from benchmarks.data import draw_classes
from benchmarks.plain import NAMES, clip_of
from benchmarks.timing import Side, in_turns, ratio, where
from prompts.coop import CoOp
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP
from runs import jobs

CONF = Path(__file__).parents[1] / "conf"
EPOCHS = {1: 50, 2: 100, 4: 100, 8: 200, 16: 200}  # of CoOp's few-shot recipe, by shots


class Runs:
    """Whole runs in fresh folders; `store` None: features.store=null."""

    def __init__(self, root: Path, options: argparse.Namespace) -> None:
        self.root, self.options, self.count = root, options, 0
        weights = [] if options.clip.startswith("tiny") else ["clip.weights=random"]
        self.common = [f"clip={options.clip}", *weights, "trainer=cpu", "callbacks=none", "logger=none"]
        self.common += ["trainer=auto"] if torch.cuda.is_available() else []
        self.common += [f"epochs={options.epochs}"] if options.epochs else []
        self.views = f"features.views={options.views}"
        if options.drawn:
            draw_classes(root / "drawn", 4 * options.drawn)
            self.common += ["data=folder", f"data.source.root={root / 'drawn'}"]

    def one(self, store: Path | None, *overrides: str) -> float:
        """The accuracy of a run."""
        self.count += 1
        where = [f"output={self.root / str(self.count)}", f"features.store={store or 'null'}"]
        with contextlib.redirect_stdout(io.StringIO()):
            result = entry.run(*jobs.compose_job([*self.common, *where, *overrides], CONF))
        return result["metrics"]["test"]["accuracy"]

    def evaluation(self) -> dict[str, Side]:
        """Zero-shot CLIP on the test images of `data`."""
        chosen, filled = ["method=zeroshot", f"data={self.options.data}", "shots=1"], self.root / "evaluation"
        self.one(filled, *chosen)
        return {"online": lambda: self.one(None, *chosen), "filled store": lambda: self.one(filled, *chosen)}

    def training(self) -> dict[str, Side]:
        """CoOp, 16 shots."""
        filled, views = self.root / "training", self.views
        self.one(filled, "method=coop", views)
        return {
            "online": lambda: self.one(None, "method=coop"),
            "empty store": lambda: self.one(self.root / f"store{self.count}", "method=coop", views),
            "filled store": lambda: self.one(filled, "method=coop", views),
        }

    def sweep(self) -> dict[str, Side]:
        """CoOp with every number of shots and seed; the mean accuracy."""

        def all_runs(store: Path | None, *views: str) -> float:
            pairs = [(shots, seed) for shots in self.options.shots for seed in self.options.seeds]
            return statistics.mean(self.one(store, "method=coop", f"shots={n}", f"seed={s}", *views) for n, s in pairs)

        return {
            "online": lambda: all_runs(None),
            "empty store": lambda: all_runs(self.root / f"store{self.count}", self.views),
        }


def step(options: argparse.Namespace) -> dict[str, Side]:
    """CoOp's forward and backward pass; the loss."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    names = NAMES[: options.classes]
    model = PromptedCLIP(clip_of(options.step_model), CoOp(16))
    model.setup(TrainInfo(names, 1))
    model.to(device)
    pixels = torch.randn(options.batch, 3, *[model.clip.image_spec["size"]] * 2, device=device)
    labels = torch.arange(options.batch, device=device) % len(names)
    with torch.no_grad():
        features = model.clip.encode_image(pixels)

    def side(known: torch.Tensor | None) -> float:
        model.zero_grad()
        outputs = model(pixels, None, known)
        loss = model.losses(outputs, labels, labels)["ce"].mean()
        loss.backward()
        return loss.item()  # also waits for the device

    return {"online": lambda: side(None), "features": lambda: side(features)}


def derived(options: argparse.Namespace) -> None:
    """Prints what CoOp's published few-shot runs (`EPOCHS`) with every number of shots and seed would take, from the steps
    that `step` measures. Decoding, start-up and what is not a step are left out on both sides."""
    times = in_turns(step(options), options.repeats, at_least=1.0)
    online, known = (statistics.median(seconds) for seconds in times.values())
    image = (online - known) / options.batch
    steps = sum(EPOCHS[n] * -(-n * options.classes // options.batch) for n in options.shots) * len(options.seeds)
    encoded = options.views * sum(options.shots) * options.classes * len(options.seeds)
    tests, runs = options.test_images, len(options.shots) * len(options.seeds)
    before, after = steps * online + runs * tests * image, steps * known + (encoded + tests) * image
    print(
        f"derived     {runs} runs, {options.classes} classes, {tests} test images; {steps:,} steps of {online:.3f} s online:",
        f"{before / 3600:.1f} hours; of {known:.3f} s from features, and {encoded + tests:,} images of {image:.3f} s:",
        f"{after / 3600:.1f} hours; x {before / after:.1f}",
    )


def compare(name: str, sides: dict[str, Side], repeats: int) -> None:
    """Runs the sides in turn and prints their times; every ratio is to the first."""
    figures: dict[str, float] = {}

    def noted(side: str, work: Side) -> None:
        figures[side] = work()

    times = in_turns({side: partial(noted, side, work) for side, work in sides.items()}, repeats)
    first = next(iter(times.values()))
    for side, seconds in times.items():
        print(
            f"{name:12}{side:14}{statistics.median(seconds):>10.3f} s   x {ratio(first, seconds, '.2f'):24}",
            f"figure {figures[side]:.4f}",
            flush=True,
        )


def main(arguments: list[str] | None = None) -> None:
    """Prints a table of the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = ("evaluation", "training", "sweep", "step", "derived")
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clip", default="tiny", help="of the runs; others than tiny ones have random weights")
    parser.add_argument("--data", default="shapes", help="of the evaluation; one on disk where $DATA says")
    parser.add_argument("--shots", type=int, nargs="+", default=(1, 2, 4, 8, 16))
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3))
    parser.add_argument("--epochs", type=int, help="by default those of the recipe")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--drawn", type=int, help="runs take so many drawn JPEG files of each of four classes; 4 test images")
    parser.add_argument("--test-images", type=int, default=2000, help="of the derived runs")
    parser.add_argument("--step-model", default="ViT-B-16-quickgelu")
    parser.add_argument("--classes", type=int, default=100, help="at most 100")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{where(device)}; {options.repeats} of each, in turn; ratios to online encoding")
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder), options)
        for case in options.cases:
            if case == "derived":
                derived(options)
                continue
            compare(case, step(options) if case == "step" else getattr(runs, case)(), options.repeats)


if __name__ == "__main__":
    main()
