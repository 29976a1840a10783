"""The style of plots: SVG with the page's CSS colours, so that one plot suits light mode, dark mode and paper."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import matplotlib
from markupsafe import Markup

from reports.templates import PIECES

matplotlib.use("Agg")
from typing import Any

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

# Placeholder colours for matplotlib; in the SVG each is replaced by a CSS variable of the page (see page.css).
INK, FAINT = "#010203", "#010204"
SERIES = [f"#0102{at:02x}" for at in range(16, 26)]
MARKERS = "os^DvP*X<>"
SYMBOLS = "●■▲◆▼✚★✖◀▶"
PAPER = ("#0072b2", "#d55e00", "#009e73", "#b0569a", "#8a6d00", "#2a9fd6", "#7b61c9", "#c03d3d", "#5f7f2f", "#6b7280")  # PNG

RC: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a class name may hold a dollar sign
    "svg.hashsalt": "report",  # the same results give the same file
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.alpha": 0.45,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
}


class Palette:
    """A colour and a marker for each label, the same in all plots."""

    def __init__(self, labels: Iterable[str], colours: Iterable[str] = SERIES) -> None:
        self.at = {label: at for at, label in enumerate(dict.fromkeys(labels))}
        self.colours = list(colours)

    def line(self, label: str) -> dict[str, Any]:
        """Colour, marker and style of a label's line, as matplotlib takes them."""
        at = self.at[label]
        # after the last colour, colours repeat with other markers and a dashed line
        turn, at = divmod(at, len(self.colours))
        marker = MARKERS[(at + 3 * turn) % len(MARKERS)]
        return {"color": self.colours[at], "marker": marker, "linestyle": ("-", "--", ":")[min(turn, 2)]}

    def colour(self, label: str) -> str:
        """The colour of a label, as matplotlib takes it."""
        return self.line(label)["color"]

    def legend(self, label: str) -> tuple[str, str]:
        """Its CSS colour and its marker as a character."""
        line = self.line(label)
        return css(line["color"]), SYMBOLS[MARKERS.index(line["marker"])]


def css(colour: str) -> str:
    """A colour for the page: a placeholder becomes its CSS variable."""
    return f"var(--series-{SERIES.index(colour)})" if colour in SERIES else colour


@contextmanager
def drawing(width: float = 4.4, height: float = 3.3) -> Iterator[tuple[Figure, Axes]]:
    """A figure of one plot, in inches, closed at the end."""
    with plt.rc_context(RC):
        figure, axis = plt.subplots(figsize=(width, height), layout="constrained")
        try:
            yield figure, axis
        finally:
            plt.close(figure)


def svg(figure: Figure, title: str) -> Markup:
    """The figure as an element for a page: no background, the page's colours, a title for screen readers. Matplotlib escapes
    its texts."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "var(--ink)").replace(FAINT, "var(--line)")
    for at, colour in enumerate(SERIES):
        text = text.replace(colour, f"var(--series-{at})")
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text).groups()
    text = text.replace(
        f'width="{width}pt" height="{height}pt"', f'role="img" style="max-width:{float(width) * 4 / 3:.0f}px"', 1
    )
    text = re.sub(r' xmlns="[^"]*"| version="1.1"', "", text, count=2)
    opening, rest = text.strip().split(">", 1)
    return Markup(opening + ">") + PIECES.picture_title(title) + Markup(rest)
