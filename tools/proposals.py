"""Detects the proposals for referring expressions: writes the dets.json of RefCOCO, RefCOCO+ and RefCOCOg by a detector.

    python -m tools.proposals data=refcoco --weights fasterrcnn_resnet50_fpn.pth --out dets.json
    python -m tools.proposals data=refcocog --splits val test --weights FILE --model maskrcnn_resnet50_fpn --out FILE

The weights are a file of yours, a state dict of torchvision's model (safetensors or PyTorch's format): nothing is downloaded.
Classes are ignored: of overlapping boxes the one with the highest score is kept. The same command continues an interrupted one.
Images that cannot be read are listed, and have no boxes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from datamodules.annotation_files import id_of, image_path
from datamodules.coco_instances import read_instances
from datamodules.disk import check_images
from datamodules.loaders import ImageDataset, ImageLoader
from datamodules.refer_files import ReferFiles, read_refs
from datamodules.referred import MAX_BOXES, MAX_VALUES
from datamodules.workers import workers_for
from files.whole import write_json, write_text
from runs import launch
from tools import doctor
from tools.detector import MODELS, detections, opened
from tools.predict_masks import given_workers, show_bad
from tools.prediction_files import Progress

VALUES = 11  # the most values that the reader of detections counts for a box


class Picture(NamedTuple):
    """An image of the dataset."""

    path: str  # below the source's image root
    image_id: int | str
    size: tuple[int, int]  # width, height
    label: int = 0  # unused; loaders need one


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.proposals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", metavar="KEY=VALUE", help="data=NAME, data_root=PATH, data.source.disk.KEY=VALUE")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="the state dict of the detector")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file of detections, a new one")
    parser.add_argument("--model", default=MODELS[0], choices=MODELS, help=f"torchvision's name (default: {MODELS[0]})")
    parser.add_argument("--splits", nargs="+", metavar="NAME", help="images of these splits alone (default: all of the file)")
    parser.add_argument("--threshold", type=float, default=0.3, metavar="S", help="least score of a box (default: 0.3)")
    parser.add_argument("--nms", type=float, default=0.5, metavar="IOU", help="boxes that overlap more are one (default: 0.5)")
    parser.add_argument("--most", type=int, default=100, metavar="N", help="boxes of an image, at most (default: 100)")
    parser.add_argument("--size", type=int, metavar="PX", help="images' shorter side for the detector (default: its own)")
    parser.add_argument("--workers", default="auto", metavar="N", help="processes that read images (default: auto)")
    parser.add_argument("--device", help="cuda, cpu (default: a GPU where there is one)")
    return parser.parse_intermixed_args()


def main() -> None:
    """Writes the detections. ValueError for a user's mistake."""
    options = arguments()
    check(options)
    source = source_of(options.data)
    pictures, names = pictures_of(source, options.splits)
    if len(pictures) * options.most * VALUES > MAX_VALUES:
        raise ValueError(
            f"--most {options.most}: a run reads no file of so many boxes of {len(pictures):,} images; give fewer."
        )
    (model, classes), weights = opened(options.model, options.weights, options.threshold, options.nms, options.size)
    try:
        model.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {options.device} cannot be used here ({str(error)[:80]}): give cuda or cpu.") from error
    what = [weights, options.model, options.threshold, options.nms, options.most, options.size, pictures]
    progress = Progress(options.out, hashlib.sha256(json.dumps(what).encode()).hexdigest())
    if progress.done:
        print(f"going on after {progress.done:,} of {len(pictures):,} images")
    for row in found(model, source, pictures[progress.done :], options):
        progress.add([row])
    # COCO's detectors number classes as its files do; for other detectors the meaning of class numbers is unknown
    same = classes == 1 + max((number for number in names if type(number) is int), default=0)
    rows = list(progress.rows())
    if all(row["error"] for row in rows):
        progress.remove()  # so that the next try reads them again
        raise ValueError(f"no image can be read: {rows[0]['error']}; `python -m tools.doctor` says what is wrong.")
    finish(options.out, rows, names if same else {})
    progress.remove()


def check(options: argparse.Namespace) -> None:
    """ValueError for an option that is out of its range, or an output that is there."""
    for name, value in (("--threshold", options.threshold), ("--nms", options.nms)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} {value}: give a number from 0 to 1.")
    if not 1 <= options.most <= MAX_BOXES:
        raise ValueError(f"--most {options.most}: give a number of boxes from 1 to {MAX_BOXES:,}.")
    if options.size is not None and not 32 <= options.size <= 4096:
        raise ValueError(f"--size {options.size}: give a number of pixels from 32 to 4,096.")
    if options.out.exists():
        raise ValueError(f"--out {options.out} is there: give another name, or remove it.")
    given_workers(options)


def source_of(words: Sequence[str]) -> ReferFiles:
    """The dataset that a command line names. ValueError where it has no files of expressions as RefCOCO's."""
    for word in words:
        if not word.startswith(("data=", "data_root=", "data.source.disk.")):
            raise ValueError(f"{word} is not understood: give data=NAME, data_root=PATH or data.source.disk.KEY=VALUE.")
    options, overrides = doctor.parsed(words)
    source = None if options.data == "all" else doctor.disk_source(options.data, options, overrides)
    if not isinstance(source, ReferFiles):
        raise ValueError(f"data={options.data} has no files of expressions: give data=refcoco, refcoco_plus or refcocog.")
    return source


def pictures_of(source: ReferFiles, splits: Sequence[str] | None) -> tuple[list[Picture], dict[int | str, str]]:
    """The images with an expression in those splits (None: in any), in the order of the file of objects, and its categories.

    Raises:
        ValueError: a file or an image is missing or malformed; the file has no such split.
    """
    where = source.folder / source.refs
    rows = read_refs(where)
    there = {row["split"] for row in rows if isinstance(row.get("split"), str)}
    for split in splits or ():
        if split not in there:
            raise ValueError(f"--splits {split}: {where} has the splits {', '.join(sorted(there)[:10])}; choose of these.")
    wanted = {id_of(row.get("image_id"), f"{where}: an image_id") for row in rows if not splits or row.get("split") in splits}
    file = source.folder / source.instances
    images, names = read_instances(file, masks=False)
    pictures = [
        Picture(
            image_path(source.below, one.row.get("file_name"), f"{file}: a file_name"), one.image_id, (one.width, one.height)
        )
        for one in images
        if one.image_id in wanted
    ]
    if len(pictures) < len(wanted):
        raise ValueError(f"{where} has expressions for images that {source.instances} has not: download both again.")
    check_images(source.images, pictures, f"{source.refs} and {source.instances}")
    return pictures, names


def _first(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return samples[0]


def found(
    model: nn.Module, source: ReferFiles, pictures: Sequence[Picture], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """The boxes of each image, one image after the other; an error where it cannot be read."""
    if not pictures:
        return
    bad = torch.zeros(len(pictures), dtype=torch.bool).share_memory_()
    dataset = ImageDataset(source, pictures, pil_to_tensor, seed=0, bad=bad)
    workers = workers_for(given_workers(options), len(pictures), source, 1)
    loader = ImageLoader(dataset, batch_sampler=[[at] for at in range(len(pictures))], num_workers=workers, collate_fn=_first)
    device = next(model.parameters()).device
    for picture, sample in zip(pictures, loader, strict=True):
        error = (
            "" if sample["weight"] else f"{source.images / picture.path} cannot be decoded, or has another size than it should"
        )
        boxes = [] if error else detections(model, sample["image"][0].to(device), options.nms, options.most)
        yield {"image_id": picture.image_id, "error": error, "boxes": boxes}


def finish(out: Path, images: Sequence[Mapping[str, Any]], names: Mapping[int | str, str]) -> None:
    """Writes the file of detections, and OUT.not_read.txt where images could not be read."""
    rows: list[dict[str, Any]] = []
    for image in images:
        for box, label, score in image["boxes"]:
            name = names.get(label, f"class {label}")
            row = {"det_id": len(rows), "image_id": image["image_id"], "box": box, "category_id": label}
            rows.append(row | {"category_name": name, "score": score})
    if bad := [image["error"] for image in images if image["error"]]:
        write_text(not_read := out.with_name(f"{out.name}.not_read.txt"), "".join(f"{error}\n" for error in bad))
        show_bad(bad, not_read)
    write_json(out, rows)
    print(f"{len(rows):,} boxes in {len(images):,} images, {sum(not image['boxes'] for image in images):,} without one: {out}")
    print(f"a run reads them with data.source.disk.detections={out.resolve()}")


if __name__ == "__main__":
    sys.exit(launch.exit_status_of(main))
