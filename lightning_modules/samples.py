"""Samples of evaluations for the report: the best, the worst and random items, in samples.json, with small pictures of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.evaluation import Evaluation
from files.whole import whole_file, write_json

SAMPLES, FOLDER = "samples.json", "samples"
EACH = 4  # best, worst and random ones of an evaluation
SIDE = 128  # pixels of a picture's longer side
LONGEST, MOST = 1000, 50  # characters of a text and entries of a list in samples.json


def choose(scores: Sequence[float], seed: int, each: int = EACH) -> list[tuple[str, int]]:
    """("best" | "worst" | "random", position) of items with these scores, higher ones being better.

    Of equal scores the first are taken. Random positions follow from `seed` and may be among the others. Items whose score is
    NaN are left out.
    """
    scores = np.asarray(scores, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(scores))
    best, worst = (known[np.argsort(sign * scores[known], kind="stable")][:each] for sign in (-1, 1))
    random = np.random.default_rng(seed).permutation(known)[:each]
    chosen = {"best": best, "worst": worst, "random": random}
    return [(why, int(position)) for why, positions in chosen.items() for position in positions]


def write_samples(
    folder: Path, task: str, evaluations: Iterable[Evaluation], samples: Mapping[str, Sequence[Mapping[str, Any]]]
) -> None:
    """Writes samples.json and samples/NAME-INDEX.png into a run's folder.

    Args:
        evaluations: where the images come from; its loader's dataset has the list that `index` counts in.
        samples: by the name of an evaluation, entries with "why", "index" and the fields of the task: plain data, which is cut
            to `LONGEST` and `MOST`. Each gets "image", the picture's path below `folder`; null where it cannot be read.
    """
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    content = {}
    for evaluation in evaluations:
        entries = samples.get(evaluation.name, ())
        pictures = {index: _picture(folder, evaluation, index) for index in sorted({entry["index"] for entry in entries})}
        content[evaluation.name] = [{**_bounded(entry), "image": pictures[entry["index"]]} for entry in entries]
    write_json(folder / SAMPLES, {"task": task, "evaluations": content}, indent=1)


def picture(evaluation: Evaluation, index: int) -> Image.Image | None:
    """A small picture of an evaluation's image; None where it cannot be read."""
    dataset = evaluation.loader(0, 1).dataset
    try:
        image = dataset.source.open(dataset.items[index]).convert("RGB")
    except ValueError:  # it could not be read in the evaluation either
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    return image


def _picture(folder: Path, evaluation: Evaluation, index: int) -> str | None:
    if (image := picture(evaluation, index)) is None:
        return None
    name = f"{FOLDER}/{re.sub(r'[^A-Za-z0-9_.-]', '_', evaluation.name)}-{index}.png"
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
