"""Reads `samples.json` and its pictures, which a run of a task with texts leaves beside its result and which anyone may have
made: types, sizes and paths are checked, and a picture is decoded and written anew before it enters a page."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image

from files.untrusted import path_within, read_bytes, read_json
from runs.checks import LARGEST_INTEGER, LARGEST_NUMBER, Check, choice, listed, mapped, number, record, shown, text, whole

SAMPLES = "samples.json"
WHY = ("random", "best", "worst")
MOST_BYTES = 4 * 2**20
MOST_SAMPLES = 200  # of one evaluation
MOST_TEXTS = 100  # of one sample
SIDE = 128  # pixels, of a picture's longer side
MOST_PICTURE = 256 * 2**10  # bytes
UNREADABLE = (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError)


@dataclass(frozen=True)
class Sample:
    """One image of an evaluation and its predictions: the task's entries of samples.json are in `fields` and `pictures`."""

    why: str
    index: int
    picture: str  # a data URI; empty where the run left none
    fields: dict[str, Any]
    pictures: dict[str, str] = field(default_factory=dict)  # data URIs by name, of tasks whose answers are pictures


LONGEST = 2000  # characters of a caption, a question or an answer
PERCENT = number(0, 100 + 1e-6)
PICTURE = text()  # a picture's path; its data URI is in `Sample.pictures`
TEXT, TEXTS, NUMBER = text(LONGEST), listed(text(LONGEST), MOST_TEXTS), number(-LARGEST_NUMBER, LARGEST_NUMBER)

BOX = listed(NUMBER, 4)


def _generated(value: Any, what: str) -> None:
    """ValueError unless the value is generated text, which may be empty."""
    if not isinstance(value, str) or len(value) > LONGEST:
        raise ValueError(f"{what} is {shown(value)}, not a text of at most {LONGEST:,} characters.")


def _retrieved(value: Any, what: str) -> None:
    listed(lambda entry, where: None, 20)(value, what)
    for at, entry in enumerate(value):
        if not isinstance(entry, list) or len(entry) != 3 or not isinstance(entry[2], bool):
            raise ValueError(f"{what}[{at}] is not [caption, score, whether it is the image's own].")
        TEXT(entry[0], f"{what}[{at}]: the caption")
        NUMBER(entry[1], f"{what}[{at}]: the score")


def _coloured(value: Any, what: str) -> None:
    listed(lambda entry, where: None, 255)(value, what)
    for at, entry in enumerate(value):
        if not isinstance(entry, list) or len(entry) != 3:
            raise ValueError(f"{what}[{at}] is not [class, IoU, colour].")
        TEXT(entry[0], f"{what}[{at}]: the class")
        PERCENT(entry[1], f"{what}[{at}]: the IoU")
        _colour(entry[2], f"{what}[{at}]")


def _colour(value: Any, what: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"#[0-9a-f]{6}", value):
        raise ValueError(f"{what}: the colour is {shown(value)}, not one such as #ff0000.")


def _boxed(value: Any, what: str) -> None:
    listed(lambda entry, where: None, 50)(value, what)
    for at, entry in enumerate(value):
        if not isinstance(entry, list) or len(entry) not in (2, 3):
            raise ValueError(f"{what}[{at}] is not [class, colour] or [class, score, colour].")
        TEXT(entry[0], f"{what}[{at}]: the class")
        if len(entry) == 3:
            PERCENT(entry[1], f"{what}[{at}]: the score")
        _colour(entry[-1], f"{what}[{at}]")


FIELDS: dict[str, dict[str, Check]] = {
    "detection": {"f1": PERCENT, "objects": _boxed, "found": _boxed, "truth": PICTURE, "prediction": PICTURE},
    "retrieval": {"captions": TEXTS, "retrieved": _retrieved, "rank": whole(1, LARGEST_INTEGER)},
    "captioning": {"caption": _generated, "references": TEXTS, "scores": mapped(NUMBER, 50)},
    "segmentation": {"miou": PERCENT, "classes": _coloured, "truth": PICTURE, "prediction": PICTURE},
    "vqa": {
        "question": TEXT,
        "answer": _generated,
        "answers": TEXTS,
        "accuracy": number(0, 100 + 1e-6),
        "shots": whole(0, 1000),
    },
    "grounding": {
        "expression": TEXT,
        "iou": number(0, 1 + 1e-6),
        "score": NUMBER,
        "proposals": whole(1, LARGEST_INTEGER),
        "box": BOX,
        "gold": BOX,
    },
}

CONTENT = record({"task": choice(*FIELDS), "evaluations": mapped(listed(lambda value, what: None, MOST_SAMPLES), 100)}, {})


def read_samples(file: Path, evaluation: str) -> list[Sample]:
    """The samples of an evaluation; none where there is no such file.

    Raises:
        ValueError: the file is not as a run writes it, or a picture cannot be read.
    """
    if not file.exists():
        return []
    content = read_json(file, "the samples", MOST_BYTES)
    CONTENT(content, str(file))
    samples, fields = [], FIELDS[content["task"]]
    for at, entry in enumerate(content["evaluations"].get(evaluation, [])):
        where = f"{file}: {evaluation[:40]}[{at}]"
        record({"why": choice(*WHY), "index": whole(0, LARGEST_INTEGER), **fields}, {})(entry, where)
        picture = picture_of(file.parent, entry["image"], where) if entry.get("image") else ""
        texts = {key: entry[key] for key, check in fields.items() if check is not PICTURE}
        more = {key: picture_of(file.parent, entry[key], where) for key, check in fields.items() if check is PICTURE}
        samples.append(Sample(entry["why"], entry["index"], picture, texts, more))
    return samples


def picture_of(folder: Path, path: Any, where: str) -> str:
    """A picture of a folder as a data URI, decoded and written anew. ValueError where it is none, or is not in the folder."""
    file = folder / path_within(path, f"{where}: the image")
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{where}: the image {path!r:.80} is a link that leads out of its folder.")
    content = read_bytes(file, f"{where}: the image", MOST_PICTURE)
    try:
        with PIL.Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
            if max(image.size) > SIDE:
                raise ValueError(f"it has {image.width} x {image.height} pixels, more than {SIDE}")
            out = io.BytesIO()
            image.convert("RGB").save(out, "PNG")
    except UNREADABLE as error:
        raise ValueError(f"{where}: the image {file} cannot be shown ({str(error)[:120].rstrip('.')}).") from error
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
