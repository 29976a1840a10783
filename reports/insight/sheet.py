"""The images that one method gains and loses against another, as a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import PIL.Image
from PIL import ImageDraw, ImageFont

from reports.arrays import Predictions

COLUMNS, SIDE, WIDTH, LINE, GAP = 6, 160, 212, 17, 16  # the first is a number, the others are pixels
TOP = 32  # pixels above a section's first row
PAPER, EDGE, INK, FAINT, RIGHT, WRONG = "#ffffff", "#d0d0d0", "#1a1a1a", "#6b6b6b", "#00734f", "#b23a00"


@dataclass(frozen=True)
class Changes:
    """Indices into the test list of images that the method alone, or the baseline alone, gets right."""

    gained: list[int]
    lost: list[int]


@dataclass(frozen=True)
class Images:
    """The test list: `dataset` opens its images (`source`, `items`)."""

    dataset: Any
    classnames: Sequence[str]

    def open(self, index: int) -> PIL.Image.Image:
        """The image at this index."""
        return self.dataset.source.open(self.dataset.items[index])


def changes(ours: Predictions, theirs: Predictions) -> Changes:
    """Of the images that both could read: each class's most confident image first (the method's confidence), then each one's
    second, and so on."""
    both_N = ours.readable_N & theirs.readable_N
    gained_N, lost_N = (x.correct_N & ~y.correct_N & both_N for x, y in ((ours, theirs), (theirs, ours)))
    return Changes(_in_turn(np.flatnonzero(gained_N), ours), _in_turn(np.flatnonzero(lost_N), ours))


def _in_turn(indices: np.ndarray, ours: Predictions) -> list[int]:
    """The indices in turn by class: the first of every class, then the second of every class, and so on."""
    indices = indices[np.argsort(-ours.confidence_N[indices], kind="stable")]
    counts: dict[int, int] = {}
    turns = []
    for label in ours.label_N[indices].tolist():
        turns.append(counts.get(label, 0))
        counts[label] = turns[-1] + 1
    return indices[np.argsort(turns, kind="stable")].tolist()


def draw(
    path: Path,
    title: str,
    changed: Changes,
    most: int,
    images: Images,
    named: Sequence[tuple[str, Predictions]],
) -> None:
    """A PNG of at most `most` images per section: true class, and class and confidence by each of `named`, of one test list."""
    sections = []
    for name, indices in (("Gained", changed.gained), ("Lost", changed.lost)):
        many = f"{min(most, len(indices)):,} of {len(indices):,}, each class's most confident first"
        sections.append((f"{name}: {many if indices else 'none'}", indices[:most]))
    cell = SIDE + LINE * (len(named) + 1) + GAP
    heights = [TOP + cell * -(-len(indices) // COLUMNS) + GAP for _, indices in sections]
    sheet = PIL.Image.new("RGB", (COLUMNS * (WIDTH + GAP) + GAP, 44 + sum(heights)), PAPER)
    pen, large = ImageDraw.Draw(sheet), _font(16)
    pen.text((GAP, 14), _cut(pen, title, large, sheet.width - 2 * GAP), INK, large)
    top = 44
    for (text, indices), height in zip(sections, heights, strict=True):
        pen.line((GAP, top, sheet.width - GAP, top), EDGE)
        pen.text((GAP, top + 8), text, INK, _font(13))
        for at, index in enumerate(indices):
            x, y = GAP + at % COLUMNS * (WIDTH + GAP), top + TOP + at // COLUMNS * cell
            picture = _thumbnail(images.open(index))
            sheet.paste(picture, (x, y))
            pen.rectangle((x, y, x + picture.width - 1, y + picture.height - 1), outline=EDGE)
            _write_answers(pen, (x, y + SIDE + 3), index, images.classnames, named)
        top += height
    sheet.save(path, optimize=True)


def _write_answers(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    index: int,
    classnames: Sequence[str],
    named: Sequence[tuple[str, Predictions]],
) -> None:
    """A line with the true class, and one for each answer, below an image."""
    (x, y), small = corner, _font(11)
    indent = max(pen.textlength(_cut(pen, name, small, WIDTH / 3), small) for name in ("true", *dict(named))) + 6
    label = int(named[0][1].label_N[index])
    lines = [("true", label, "")]
    lines += [(name, int(p.predicted_N[index]), f"{100 * p.confidence_N[index]:.0f} %") for name, p in named]
    for name, answer, confidence in lines:
        pen.text((x, y), _cut(pen, name, small, WIDTH / 3), FAINT, small)
        pen.text((x + WIDTH, y), confidence, FAINT, small, anchor="ra")
        colour = INK if not confidence else RIGHT if answer == label else WRONG
        room = WIDTH - indent - pen.textlength(confidence, small) - 5
        pen.text((x + indent, y), _cut(pen, classnames[answer].replace("_", " "), small, room), colour, small)
        y += LINE


def _thumbnail(image: PIL.Image.Image) -> PIL.Image.Image:
    """The whole image, its longer side SIDE; small drawn ones keep their pixels' edges."""
    scale = SIDE / max(image.size)
    size = tuple(max(1, round(scale * side)) for side in image.size)
    how = PIL.Image.Resampling.NEAREST if scale > 2 else PIL.Image.Resampling.LANCZOS
    return image.convert("RGB").resize(size, how)  # type: ignore[arg-type]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def _cut(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, cut to `width` pixels."""
    text = text if len(text) <= 300 else f"{text[:300]}…"  # as each letter is measured below
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"
