"""The time of the parts of a training step, in real runs of run.py's parts: what limits each case.

    python -m benchmarks.split                                         # tiny CLIP, under a minute on 2 cores
    python -m benchmarks.split --clip vit_b16 --cases coop maple --images 32 --epochs 2     # random weights of real shapes

JPEG files of 500 x 375 in four class folders are drawn and trained on. Counted are the epochs after the first. Parts of a
step, in per cent of the time of these epochs: `image` and `text`, forward and backward through the towers; `data`, waiting
for a batch and bringing it to the device; `head`, logits, losses and the rest of the training step; `optimiser`, its update;
`Lightning`, everything else: the loop, its hooks, ours, and saving. In the backward pass the text tower comes first, and the
image tower from the moment that its features' gradient is there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from pathlib import Path
from statistics import median

import torch

import run as entry
from benchmarks.clock import PARTS, Clock, watched
from benchmarks.data import draw_classes
from benchmarks.timing import where
from runs import jobs

CONF = Path(__file__).parents[1] / "conf"
CASES = {  # the method, and more
    "coop": ["method=coop"],
    "coop, features.views=1": ["method=coop", "features.views=1"],
    "cocoop": ["method=cocoop", "batch_size=1"],
    "maple": ["method=maple", "batch_size=4"],
    "ivlp": ["method=ivlp", "batch_size=4"],
}


def measure(case: str, root: Path, options: argparse.Namespace) -> tuple[dict[str, float], float]:
    """Shares of the parts, and seconds of a step, of one run."""
    weights = [] if options.clip.startswith("tiny") else ["clip.weights=random"]
    chosen = [f"clip={options.clip}", *weights, *CASES[case], "data=folder", f"data.source.root={root / 'images'}", "shots=-1"]
    chosen += [f"epochs={options.epochs}", f"workers={options.workers}"]
    chosen += [f"output={tempfile.mkdtemp(dir=root)}", f"features.store={root / 'store'}", "logger=csv", "callbacks=none"]
    chosen += ["+trainer.profiler._target_=benchmarks.clock.Clock", *([] if torch.cuda.is_available() else ["trainer=cpu"])]
    with contextlib.redirect_stdout(io.StringIO()), watched():
        entry.run(*jobs.compose_job(chosen, CONF))
    clock = Clock.latest
    return clock.shares(), clock.seconds["run_training_epoch"] / clock.steps


def main(arguments: list[str] | None = None) -> None:
    """Prints a line for each case: medians over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--clip", default="tiny", help="others than tiny ones have random weights")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", default="0", help="processes that load images")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    if options.epochs < 2:
        parser.error("the first epoch is not counted: give --epochs 2 or more.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{options.clip}, {where(device)}; shares of a step in per cent, median of {options.repeats}")
    print(f"{'':26}{'a step':>10}" + "".join(f"{part:>11}" for part in PARTS))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_classes(root / "images", options.images)
        found = {case: [] for case in options.cases}
        for _ in range(options.repeats):
            for case in options.cases:
                found[case].append(measure(case, root, options))
        for case, rounds in found.items():
            row = "".join(f"{100 * median(shares[part] for shares, _ in rounds):>11.1f}" for part in PARTS)
            print(f"{case:26}{median(seconds for _, seconds in rounds):>8.3f} s{row}", flush=True)


if __name__ == "__main__":
    main()
