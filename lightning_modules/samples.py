"""Samples of evaluations for the report: the best, the worst and random items, in samples.json, with small pictures of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.evaluation import Evaluation
from files.whole import whole_file, write_json

SAMPLES, FOLDER = "samples.json", "samples"
EACH = 4  # best, worst and random ones of an evaluation
SIDE = 128  # pixels of a picture's longer side
Paint = Callable[[Image.Image, Mapping[str, Any], float], Image.Image]  # (picture, its entry, its scale) -> the drawn picture
LONGEST, MOST = 1000, 50  # characters of a text and entries of a list in samples.json


def choose(scores: Sequence[float] | np.ndarray, seed: int, each: int = EACH) -> list[tuple[str, int]]:
    """("best" | "worst" | "random", position) of items with these scores, higher ones being better.

    Of equal scores the first are taken. Random positions follow from `seed` and may be among the others. Items whose score is
    NaN are left out.
    """
    values = np.asarray(scores, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    best, worst = (known[np.argsort(sign * values[known], kind="stable")][:each] for sign in (-1, 1))
    random = np.random.default_rng(seed).permutation(known)[:each]
    chosen = {"best": best, "worst": worst, "random": random}
    return [(why, int(position)) for why, positions in chosen.items() for position in positions]


def write_samples(
    folder: Path,
    task: str,
    evaluations: Iterable[Evaluation],
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
    paint: Paint | None = None,
) -> None:
    """Writes samples.json and samples/NAME-INDEX.png into a run's folder.

    Args:
        evaluations: where the images come from; its loader's dataset has the list that `index` counts in.
        samples: by the name of an evaluation, entries with "why", "index" and the fields of the task: plain data, which is cut
            to `LONGEST` and `MOST`, and pictures, which are saved and replaced by their paths below `folder`. Each entry gets
            "image", the path of the image's picture; null where it cannot be read.
        paint: draws the content of an entry into the image's picture.
    """
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    content = {}
    for evaluation in evaluations:
        entries = samples.get(evaluation.name, ())
        by_index = {entry["index"]: entry for entry in entries}
        pictures = {index: _picture(folder, evaluation, by_index[index], paint) for index in sorted(by_index)}
        written = [_with_paths(folder, evaluation, entry) for entry in entries]
        content[evaluation.name] = [{**_bounded(entry), "image": pictures[entry["index"]]} for entry in written]
    write_json(folder / SAMPLES, {"task": task, "evaluations": content}, indent=1)


def picture(evaluation: Evaluation, entry: Mapping[str, Any], paint: Paint | None = None) -> Image.Image | None:
    """A small picture of an evaluation's image, of which `entry` has the "index"; None where it cannot be read."""
    dataset: Any = evaluation.loader(0, 1).dataset
    index = entry["index"]
    try:
        image = dataset.source.open(dataset.items[index]).convert("RGB")
    except ValueError:  # it could not be read in the evaluation either
        return None
    if paint and (times := SIDE // max(image.size)) > 1:  # lines are of whole pixels, and would cover a small picture
        return paint(image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST), entry, times)
    side = max(image.size)
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    return paint(image, entry, max(image.size) / side) if paint else image


def _picture(folder: Path, evaluation: Evaluation, entry: Mapping[str, Any], paint: Paint | None) -> str | None:
    image = picture(evaluation, entry, paint)
    return None if image is None else _save(image, folder, evaluation, str(entry["index"]))


def _with_paths(folder: Path, evaluation: Evaluation, entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with its pictures saved and replaced by their paths. Resizing a palette picture adds no colours."""
    written = dict(entry)
    for key, shown in entry.items():
        if isinstance(shown, Image.Image):
            small = shown.copy()
            small.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST)
            written[key] = _save(small, folder, evaluation, f"{entry['index']}-{key}")
    return written


def _save(image: Image.Image, folder: Path, evaluation: Evaluation, what: str) -> str:
    name = f"{FOLDER}/{re.sub(r'[^A-Za-z0-9_.-]', '_', evaluation.name)}-{what}.png"
    with whole_file(folder / name) as temporary:
        image.save(temporary, format="PNG")
    return name


def _bounded(value: Any) -> Any:
    """Plain data with texts and lists cut."""
    if isinstance(value, str):
        return value[:LONGEST]
    if isinstance(value, Mapping):
        return {str(key): _bounded(entry) for key, entry in list(value.items())[:MOST]}
    if isinstance(value, list | tuple):
        return [_bounded(entry) for entry in value[:MOST]]
    return value
