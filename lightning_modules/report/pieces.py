"""The parts that sections of the page are made of, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from lightning_modules.report.style import Palette


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A table that scrolls within its box; cells are HTML. The first columns hold words, the others numbers."""

    def cells(row: Sequence[str], tag: str) -> str:
        kinds = ['<th scope="row">' if at == 0 and tag == "td" else f"<{tag}{css(at)}>" for at in range(len(row))]
        return "".join(f"{kind}{cell}</{kind[1:3]}>" for kind, cell in zip(kinds, row, strict=True))

    def css(at: int) -> str:
        return ' class="text"' if at < text_columns else ""

    body = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    wide = " wide" if len(head) > 8 else ""
    return (
        f'<div class="scroll words{wide}" tabindex="0"><table><thead><tr>{cells(head, "th")}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def figures(drawn: Iterable[str]) -> str:
    found = [f"<figure>{each}</figure>" for each in drawn]
    return f'<div class="plots">{"".join(found)}</div>' if found else ""


def legend(palette: Palette, labels: Iterable[str]) -> str:
    items = []
    for label in dict.fromkeys(labels):
        colour, symbol = palette.legend(label)
        items.append(f'<li><i style="color:{colour}">{symbol}</i>{escape(label)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def folded(parts: Sequence[tuple[str, str]], most: int = 4) -> str:
    """Headings with what belongs to them; many are folded up, but for the first (on paper all are open)."""
    if len(parts) <= most:
        return "".join(f"<h3>{escape(title)}</h3>{body}" for title, body in parts)
    return "".join(
        f"<details{' open' * (at == 0)}><summary>{escape(title)}</summary>{body}</details>"
        for at, (title, body) in enumerate(parts)
    )


def note(text: str) -> str:
    return f'<p class="soft">{text}</p>'


def p_value(p: float | None) -> str:
    return "" if p is None else "&lt; 0.001" if p < 0.001 else f"{p:.3f}"


def points(value: float) -> str:
    return f'<span class="{"gain" if value > 0 else "loss"}">{value:+.2f}</span>' if abs(value) >= 0.005 else "0.00"
