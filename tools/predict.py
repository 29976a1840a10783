"""Classifies images with the prompts of finished runs; with one of segmentation, every pixel; one of detection finds
boxes.

    python -m tools.predict RUN_FOLDER --images photos                          # a folder, at any depth; writes predictions.csv
    python -m tools.predict RUN_FOLDER --images a.jpg b.jpg --classes cat dog   # images, and other class names than the run's
    python -m tools.predict RUN_FOLDER --images list.txt --classes-file names.txt --out predictions.parquet --top all
    python -m tools.predict RUN1 RUN2 RUN3 --images photos                      # an ensemble: the mean of their probabilities

    python -m tools.predict RUN_FOLDER --images photos --out masks              # of segmentation: masks/NAME.png for each image
    python -m tools.predict RUN_FOLDER --images photos --out found.json         # of detection: boxes as COCO's results

A prediction that is interrupted goes on with the same command. Images that cannot be read are listed, and have no class in the
output. In Python: tools/classifier.py, tools/segmenter.py, tools/box_finder.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runs import signals

if __name__ == "__main__":
    signals.install(raising=False)  # before the imports below, which take a while

import torch
from torch import Tensor

from datamodules.image_files import ImageFiles
from datamodules.loaders import ImageDataset, ImageLoader, collate
from datamodules.workers import workers_for
from lightning_modules.process import quiet, seed_everything
from runs import launch
from tools.classifier import Classifier, device_for, opened
from tools.predict_boxes import write_boxes
from tools.predict_masks import digests_of, given_classes, given_workers, images_of, refuse_none, show_bad, write_masks
from tools.prediction_files import FORMATS, Progress, write


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs, or their prompts.safetensors")
    parser.add_argument("--images", nargs="+", required=True, metavar="PATH", help="images, folders, lists (.txt)")
    named = parser.add_mutually_exclusive_group()
    named.add_argument("--classes", nargs="+", metavar="NAME", help="class names (default: those of the run)")
    named.add_argument("--classes-file", type=Path, metavar="FILE", help="a class name a line")
    parser.add_argument("--out", type=Path, help=f"a name that ends in {', '.join(FORMATS)}; of masks a folder")
    parser.add_argument("--image-ids", type=Path, metavar="FILE", help="of boxes: COCO's json with the ids of the images")
    parser.add_argument("--top", metavar="K", help="classes per image, or all (default: 5)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N")
    parser.add_argument("--workers", default="auto", metavar="N", help="processes that read images (default: auto)")
    parser.add_argument("--device", help="cuda, cpu (default: a GPU where there is one)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the config, such as clip.weights=PATH")
    parser.add_argument("--config-dir", type=Path, metavar="FOLDER", help="more configs, as for run.py")
    return parser.parse_args()


def main() -> None:
    """Writes the predictions. ValueError for a user's mistake."""
    options = arguments()
    options.device = device_for(options.device)
    runs = [opened(run, options.set, options.config_dir) for run in options.runs]
    if any("pixel logits" in run.learner.offers for run in runs):
        return write_masks(runs, options)
    if any("boxes" in run.learner.offers for run in runs):
        return write_boxes(runs, options)
    if options.image_ids:
        raise ValueError("--image-ids is for runs that find boxes: leave it out.")
    options.out = options.out or Path("predictions.csv")
    if options.out.suffix not in FORMATS:
        raise ValueError(f"--out {options.out}: give a name that ends in {', '.join(FORMATS)}.")
    top = _top(options.top or "5")
    if options.batch_size < 1:
        raise ValueError(f"--batch-size {options.batch_size}: give a number, 1 or more.")
    source = images_of(options)
    quiet()
    seed_everything(1)
    classifiers = [Classifier(run.model, options.device) for run in runs]
    names = _class_list(classifiers, options.runs, given_classes(options))
    what = [digests_of(options.runs), options.set, names, top, [item.path for item in source.items]]
    progress = Progress(options.out, hashlib.sha256(json.dumps(what).encode()).hexdigest())
    if progress.done:
        print(f"going on after {progress.done:,} of {len(source.items):,} images")
    for row in predicted(classifiers, source, names, top, options, progress.done):
        progress.add(row)
    rows = list(progress.rows())
    bad = [row["error"] for row in rows if row["error"]]
    if len(bad) == len(rows):
        progress.remove()
    refuse_none(bad, len(rows))
    write(options.out, rows, min(top, len(names)))
    progress.remove()
    print(f"{len(rows) - len(bad):,} images predicted over {len(names):,} classes: {options.out}")
    show_bad(bad, options.out)
    return None


def _top(given: str) -> int:
    if given == "all":
        return sys.maxsize
    if not given.isdecimal() or not int(given):
        raise ValueError(f"--top {given}: give a number of classes, 1 or more, or all.")
    return int(given)


def _class_list(classifiers: Sequence[Classifier], runs: Sequence[str], given: Sequence[str] | None) -> list[str]:
    """The class names of all runs. ValueError where they have different ones and none are given."""
    for classifier, run in zip(classifiers, runs, strict=True):
        classifier.bind(given)
        if classifier.classnames != classifiers[0].classnames:
            raise ValueError(f"{runs[0]} and {run} have other classes: give those to predict by --classes.")
    return classifiers[0].classnames


def predicted(
    classifiers: Sequence[Classifier], source: ImageFiles, names: list[str], top: int, options: argparse.Namespace, done: int
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each batch of images, from the image number `done` on: image, classes and probabilities from the most
    probable on, and an error where it cannot be read."""
    items = source.items[done:]
    if not items:
        return
    bad = torch.zeros(len(items), dtype=torch.bool).share_memory_()
    specs = [classifier.model.clip.image_spec for classifier in classifiers]
    if any(spec != specs[0] for spec in specs):
        raise ValueError("these runs have CLIPs that take images in different ways: predict with each of them alone.")
    dataset = ImageDataset(source, items, classifiers[0].transform, seed=0, bad=bad)
    workers = workers_for(given_workers(options), len(items), source, 1)
    batches = [list(range(at, min(at + options.batch_size, len(items)))) for at in range(0, len(items), options.batch_size)]
    for batch in ImageLoader(dataset, batch_sampler=batches, num_workers=workers, collate_fn=collate):
        probabilities = mean_probabilities(classifiers, batch["image"])
        best = probabilities.topk(min(top, len(names)))
        rows = []
        for at, index in enumerate(batch["index"].tolist()):
            readable = bool(batch["weight"][at] > 0)
            row = {"image": items[index].path, "error": "" if readable else source.why(items[index])}
            row["classes"] = [names[c] for c in best.indices[at].tolist()] if readable else []
            row["probabilities"] = best.values[at].tolist() if readable else []
            rows.append(row)
        yield rows


@torch.no_grad()
def mean_probabilities(classifiers: Sequence[Classifier], pixels: Tensor) -> Tensor:
    """(N,C) on the CPU, of pixels (N,3,S,S): the mean over the classifiers."""
    total = sum(c.model(pixels.to(c.device)).logits.double().softmax(-1).cpu() for c in classifiers)
    return total / len(classifiers)


if __name__ == "__main__":
    sys.exit(launch.exit_status_of(main))
