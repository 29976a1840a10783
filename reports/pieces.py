"""The building blocks of the page's sections, as markup; the texts given to them are escaped."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from reports.style import Palette
from reports.templates import PIECES

grid, folded, note, heading, code = PIECES.grid, PIECES.folded, PIECES.note, PIECES.heading, PIECES.code


def figures(drawn: Iterable[Markup]) -> Markup:
    """Plots side by side."""
    return PIECES.figures(list(drawn))


def legend(palette: Palette, labels: Iterable[str]) -> Markup:
    """Colour and marker of each label, once."""
    return PIECES.legend([(*palette.legend(label), label) for label in dict.fromkeys(labels)])


def p_value(p: float | None) -> str:
    """A p-value to three decimals; empty where there is none."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def points(difference: float, is_gain: bool) -> Markup | str:
    """A difference in the colour of a gain or a loss."""
    return PIECES.points(f"{difference:+.2f}", is_gain) if abs(difference) >= 0.005 else "0.00"
