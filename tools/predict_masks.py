"""The part of `python -m tools.predict` for runs of segmentation: the class of every pixel, a picture for each image; and
functions for the command line that both parts use."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from datamodules.disk import read_text
from datamodules.image_files import ImageFiles, in_words
from datamodules.loaders import ImageDataset, ImageLoader
from datamodules.workers import workers_for
from files.untrusted import read_json, visible
from files.whole import remove_temporaries, whole_file, write_json, write_text
from lightning_modules.assembly import Assembly
from lightning_modules.label_pictures import hex_of, label_picture
from lightning_modules.process import quiet, seed_everything
from lightning_modules.segmentation import colours_of
from runs.keys import PROCESSES
from tools.classifier import prompts_file
from tools.segmenter import Segmenter

LISTED = 20  # images that cannot be read, on the screen
ABOUT, NOT_READ = "classes.json", "not_read.txt"  # in the folder of masks


def given_classes(options: argparse.Namespace) -> list[str] | None:
    """The class names of the command line, if any. ValueError where the file cannot be read."""
    return read_text(options.classes_file, "the class names") if options.classes_file else options.classes


def given_workers(options: argparse.Namespace) -> int | Literal["auto"]:
    """The number of processes that read images. ValueError where it is none, or too large."""
    if options.workers == "auto":
        return "auto"
    if not re.fullmatch(r"\d{1,9}", options.workers, re.ASCII) or int(options.workers) > PROCESSES:
        raise ValueError(f"--workers {options.workers}: give a number of processes, at most {PROCESSES}, or auto.")
    return int(options.workers)


def digests_of(runs: Sequence[str]) -> list[str]:
    """sha256 of the prompts of each run."""
    return [hashlib.sha256(prompts_file(run).read_bytes()).hexdigest() for run in runs]


def images_of(options: argparse.Namespace) -> ImageFiles:
    """The images of the command line; says what their folders hold besides. ValueError where one is missing."""
    source = ImageFiles(options.images)
    if said := in_words(source.passed_over):
        print(f"passed over, as no image: {visible(said)}")
    return source


def refuse_none(errors: Sequence[str], count: int) -> None:
    """ValueError where none of `count` images could be read."""
    if errors and len(errors) == count:
        raise ValueError(f"none of the {count:,} images can be read, so nothing is written; the first: {visible(errors[0])}.")


def show_bad(errors: Sequence[str], file: Path) -> None:
    """Prints which images could not be read; the complete list is in `file`."""
    for error in errors[:LISTED]:
        print(f"not read: {visible(error)}", file=sys.stderr)
    if len(errors) > LISTED:
        print(f"and {len(errors) - LISTED:,} more, which {file} names", file=sys.stderr)


def write_masks(runs: Sequence[Assembly], options: argparse.Namespace) -> None:
    """Writes OUT/NAME.png for each image, in the image's own size: class ids with a palette; OUT/classes.json says their names.
    Images whose mask exists are skipped; those that cannot be read are listed in OUT/not_read.txt.

    Raises:
        ValueError: a user's mistake.
    """
    if len(runs) > 1 or options.top is not None:
        raise ValueError("a run of segmentation gives each pixel one class: name a single run, and no --top.")
    source, out = images_of(options), options.out or Path("masks")
    quiet()
    seed_everything(1)
    segmenter = Segmenter(runs[0], options.device)
    if (names := given_classes(options)) is not None:
        segmenter.model.bind(names)
    names = segmenter.classnames
    colours = colours_of(len(names))
    _claim(out, [digests_of(options.runs), options.set, names], {"classes": _listed(names, colours)})
    items = [item for item in source.items if out.resolve() not in Path(item.path).resolve().parents]  # no masks of masks
    files = dict(zip(mask_names([item.path for item in items]), items, strict=True))
    left = {name: item for name, item in files.items() if not (out / name).exists()}
    if len(left) < len(files):
        print(f"going on after {len(files) - len(left):,} of {len(files):,} images")
    bad = []
    for name, ids in _predicted(segmenter, source, left, given_workers(options)):
        if ids is None:
            bad.append(source.why(left[name]))
            continue
        with whole_file(out / name) as temporary:
            label_picture(ids, colours).save(temporary, format="PNG")
    refuse_none(bad, len(files))
    write_text(out / NOT_READ, "".join(f"{error}\n" for error in bad))
    print(f"{len(files) - len(bad):,} masks of {len(names):,} classes: {out}")
    show_bad(bad, out / NOT_READ)


def mask_names(images: Sequence[str]) -> list[str]:
    """The name of each image's mask: its path below the folder that all of them share, with the suffix .png instead of its own.
    Where images differ in their suffix alone, .png is appended to the whole name."""
    paths = [os.path.abspath(image) for image in images]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    below = [Path(os.path.relpath(path, shared)) for path in paths]
    count = Counter(path.with_suffix("") for path in below)
    return [(f"{path}.png" if count[path.with_suffix("")] > 1 else str(path.with_suffix(".png"))) for path in below]


def _listed(names: Sequence[str], colours: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"id": at, "class": name, "colour": hex_of(colours[at])} for at, name in enumerate(names)]


def _claim(out: Path, what: Any, about: dict[str, Any]) -> None:
    """Writes classes.json into a new folder. ValueError where the folder holds anything but this prediction's masks."""
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    if (out / ABOUT).exists():
        content = read_json(out / ABOUT, "the classes of the masks")
        if not isinstance(content, dict) or content.get("digest") != digest:
            raise ValueError(f"{out} holds the masks of another prediction: give another --out, or remove that folder.")
        remove_temporaries(out)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there and no folder of masks: give a new folder as --out.")
    else:
        write_json(out / ABOUT, {"digest": digest, **about}, indent=1)


class SizedImages(ImageDataset):
    """Images as `{"image": (3,h,w), "size": (H,W)}`, each in its own size."""

    def tensors(self, content: PIL.Image.Image | None, epoch: int, index: int) -> dict[str, Any]:
        """The transformed image, and the size of the file."""
        image = content or PIL.Image.new("RGB", (1, 1))
        return {"image": self.transform(image), "size": (image.height, image.width)}


def alone(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The sample of a batch of one."""
    return samples[0]


def _predicted(
    segmenter: Segmenter, source: ImageFiles, left: dict[str, Any], workers: int | Literal["auto"]
) -> Iterator[tuple[str, np.ndarray | None]]:
    """The name and the class ids (H,W) uint8 of each image; None where it cannot be read."""
    items = list(left.values())
    if not items:
        return
    bad: Tensor = torch.zeros(len(items), dtype=torch.bool).share_memory_()
    dataset = SizedImages(source, items, segmenter.transform, seed=0, bad=bad)
    count = workers_for(workers, len(items), source, 1)
    loader = ImageLoader(dataset, batch_sampler=[[at] for at in range(len(items))], num_workers=count, collate_fn=alone)
    for name, sample in zip(left, loader, strict=True):
        yield name, segmenter.classes_of(sample["image"], sample["size"]) if sample["weight"] else None
