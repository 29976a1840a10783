"""The images that one method gains and loses against another, as a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import PIL.Image
from PIL import ImageDraw, ImageFont

from reports.collect import Predictions

COLUMNS, SIDE, WIDTH, LINE, GAP = 6, 160, 212, 17, 16  # pixels, but for the columns
TOP = 32  # above a section's first row
PAPER, EDGE, INK, FAINT, RIGHT, WRONG = "#ffffff", "#d0d0d0", "#1a1a1a", "#6b6b6b", "#00734f", "#b23a00"


@dataclass(frozen=True)
class Changes:
    """Places in the test list of images that the method alone, or the baseline alone, gets right."""

    gained: list[int]
    lost: list[int]


def changes(ours: Predictions, theirs: Predictions) -> Changes:
    """Each class's most confident image first (the method's confidence), then each one's second, and so on."""
    read = (ours.confidence_N > 0) & (theirs.confidence_N > 0)
    right = [read & each.correct_N for each in (ours, theirs)]
    both = (right[0] & ~right[1], right[1] & ~right[0])
    return Changes(*(_in_turn(np.flatnonzero(which), ours) for which in both))


def _in_turn(places: np.ndarray, ours: Predictions) -> list[int]:
    places = places[np.argsort(-ours.confidence_N[places], kind="stable")]
    seen: dict[int, int] = {}
    turns = []
    for label in ours.label_N[places].tolist():
        turns.append(seen.get(label, 0))
        seen[label] = turns[-1] + 1
    return places[np.argsort(turns, kind="stable")].tolist()


def draw(
    path: Path,
    title: str,
    found: Changes,
    most: int,
    dataset: Any,
    classnames: Sequence[str],
    named: Sequence[tuple[str, Predictions]],
) -> None:
    """A PNG of at most `most` images per section: true class, and class and confidence by each of `named`, of one test list.

    `dataset` opens images by place (`source`, `items`).
    """
    sections = []
    for name, places in (("Gained", found.gained), ("Lost", found.lost)):
        many = f"{min(most, len(places)):,} of {len(places):,}, each class's surest first"
        sections.append((f"{name}: {many if places else 'none'}", places[:most]))
    cell = SIDE + LINE * (len(named) + 1) + GAP
    heights = [TOP + cell * -(-len(places) // COLUMNS) + GAP for _, places in sections]
    sheet = PIL.Image.new("RGB", (COLUMNS * (WIDTH + GAP) + GAP, 44 + sum(heights)), PAPER)
    pen, small, large = ImageDraw.Draw(sheet), _font(11), _font(16)
    indent = max(pen.textlength(_cut(pen, name, small, WIDTH / 3), small) for name in ("true", *dict(named))) + 6
    pen.text((GAP, 14), _cut(pen, title, large, sheet.width - 2 * GAP), INK, large)
    top = 44
    for (text, places), height in zip(sections, heights, strict=True):
        pen.line((GAP, top, sheet.width - GAP, top), EDGE)
        pen.text((GAP, top + 8), text, INK, _font(13))
        for at, place in enumerate(places):
            x, y = GAP + at % COLUMNS * (WIDTH + GAP), top + TOP + at // COLUMNS * cell
            picture = _thumbnail(dataset.source.open(dataset.items[place]))
            sheet.paste(picture, (x, y))
            pen.rectangle((x, y, x + picture.width - 1, y + picture.height - 1), outline=EDGE)
            label = int(named[0][1].label_N[place])
            lines = [("true", label, "")]
            lines += [(name, int(p.predicted_N[place]), f"{100 * p.confidence_N[place]:.0f} %") for name, p in named]
            for number, (name, said, sure) in enumerate(lines):
                at_y = y + SIDE + 3 + number * LINE
                pen.text((x, at_y), _cut(pen, name, small, WIDTH / 3), FAINT, small)
                pen.text((x + WIDTH, at_y), sure, FAINT, small, anchor="ra")
                colour = INK if not sure else RIGHT if said == label else WRONG
                room = WIDTH - indent - pen.textlength(sure, small) - 5
                pen.text((x + indent, at_y), _cut(pen, classnames[said].replace("_", " "), small, room), colour, small)
        top += height
    sheet.save(path, optimize=True)


def _thumbnail(image: PIL.Image.Image) -> PIL.Image.Image:
    """The whole image, its longer side SIDE; small drawn ones keep their pixels' edges."""
    scale = SIDE / max(image.size)
    size = tuple(max(1, round(scale * side)) for side in image.size)
    return image.convert("RGB").resize(size, PIL.Image.Resampling.NEAREST if scale > 2 else PIL.Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def _cut(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    text = text if len(text) <= 300 else f"{text[:300]}…"  # measured letter by letter below
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"
