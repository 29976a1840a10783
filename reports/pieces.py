"""The parts that sections of the page are made of, as markup; what they are given is escaped."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from reports.style import Palette
from reports.templates import PIECES

grid, folded, note, heading, code = PIECES.grid, PIECES.folded, PIECES.note, PIECES.heading, PIECES.code


def figures(drawn: Iterable[Markup]) -> Markup:
    return PIECES.figures(list(drawn))


def legend(palette: Palette, labels: Iterable[str]) -> Markup:
    return PIECES.legend([(*palette.legend(label), label) for label in dict.fromkeys(labels)])


def p_value(p: float | None) -> str:
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def points(value: float) -> Markup | str:
    return PIECES.points(f"{value:+.2f}", value > 0) if abs(value) >= 0.005 else "0.00"
