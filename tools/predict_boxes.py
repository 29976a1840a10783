"""The part of `python -m tools.predict` that is for runs of detection: boxes, and masks, of each image as COCO's results."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from datamodules.annotation_files import by_id, read_annotations, records
from datamodules.image_files import ImageFiles
from datamodules.items import Item
from datamodules.loaders import ImageLoader
from datamodules.workers import workers_for
from files.untrusted import text_of
from files.whole import write_json, write_text
from lightning_modules.assembly import Assembly
from lightning_modules.process import quiet, seed_everything
from tools.box_finder import BoxFinder
from tools.predict_masks import (
    SizedImages,
    alone,
    digests_of,
    given_classes,
    given_workers,
    images_of,
    refuse_none,
    show_bad,
)
from tools.prediction_files import Progress

ImageId = int | str


def write_boxes(runs: Sequence[Assembly], options: argparse.Namespace) -> None:
    """Writes what is found in all images as one json file in the form of COCO's results (`datamodules.coco_results`).

    An image's id is its path, or what --image-ids says of its name. Images that cannot be read are listed, and named in
    OUT.not_read.txt. What is interrupted goes on with the same command.

    Raises:
        ValueError: a user's mistake.
    """
    out = options.out or Path("detections.json")
    if len(runs) > 1 or options.top is not None:
        raise ValueError("a run of detection finds boxes, each of one class: name a single run, and no --top.")
    if out.suffix != ".json":
        raise ValueError(f"--out {out}: boxes are written as COCO's results: give a name that ends in .json.")
    source = images_of(options)
    ids = image_ids([item.path for item in source.items], options.image_ids)
    quiet()
    seed_everything(1)
    finder = BoxFinder(runs[0], options.device)
    if (names := given_classes(options)) is not None:
        finder.model.bind(names)
    workers = given_workers(options)
    what = [digests_of(options.runs), options.set, finder.classnames, ids, [item.path for item in source.items]]
    progress = Progress(out, hashlib.sha256(json.dumps(what).encode()).hexdigest())
    if progress.done:
        print(f"going on after {progress.done:,} of {len(source.items):,} images")
    for row in _predicted(finder, source, source.items[progress.done :], ids[progress.done :], workers):
        progress.add([row])
    rows = list(progress.rows())
    found = [one for row in rows for one in row["found"]]
    not_read = out.with_name(f"{out.name}.not_read.txt")
    bad = [row["error"] for row in rows if row["error"]]
    if len(bad) == len(rows):
        progress.remove()
    refuse_none(bad, len(rows))
    if bad:
        write_text(not_read, "".join(f"{error}\n" for error in bad))
    write_json(out, found)
    progress.remove()
    print(f"{len(found):,} boxes of {len(finder.classnames):,} classes in {len(rows) - len(bad):,} images: {out}")
    show_bad(bad, not_read)


def image_ids(paths: Sequence[str], file: Path | None) -> list[ImageId]:
    """The id of each image: its path; with a file, the id that COCO's `images` in it have for the image's name.

    Args:
        file: instances_*.json, image_info_*.json or another file with `images`, each with `id` and `file_name`.

    Raises:
        ValueError: the file is another one, or has no image of a name, or several.
    """
    if file is None:
        return list(paths)
    of_name: dict[str, list[ImageId]] = {}
    for number, row in by_id(records(read_annotations(file, "the file of image ids"), "images", file), "id", f"{file}").items():
        name = text_of(row.get("file_name"), f"{file}: image {number}: file_name", 4096)
        of_name.setdefault(PurePosixPath(name).name, []).append(number)
    ids = []
    for path in paths:
        found = of_name.get(Path(path).name, [])
        if len(found) != 1:
            raise ValueError(
                f"{file} has {len(found)} images of the name {Path(path).name}, and each image needs one: give the file that "
                "belongs to these images, or no --image-ids."
            )
        ids += found
    return ids


def _predicted(
    finder: BoxFinder, source: ImageFiles, items: Sequence[Item], ids: Sequence[ImageId], workers: Any
) -> Iterator[dict[str, Any]]:
    """What is found in each image; an error where it cannot be read."""
    if not items:
        return
    bad = torch.zeros(len(items), dtype=torch.bool).share_memory_()
    dataset = SizedImages(source, items, finder.pixels, seed=0, bad=bad)
    count = workers_for(workers, len(items), source, 1)
    loader = ImageLoader(dataset, batch_sampler=[[at] for at in range(len(items))], num_workers=count, collate_fn=alone)
    for item, number, sample in zip(items, ids, loader, strict=True):
        if sample["weight"]:
            yield {"error": "", "found": finder.found_in(sample["image"], sample["size"], number)}
        else:
            yield {"error": source.why(item), "found": []}
