"""One page with all of a report: no script, no network, its styles and plots within it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from lightning_modules.report import sections
from lightning_modules.report.collect import Group
from lightning_modules.report.style import Palette
from lightning_modules.report.tables import tables


def page(groups: Sequence[Group], title: str) -> str:
    palette = Palette(group.label for group in sorted(groups, key=sections.legend_order))
    found = tables(groups)
    parts = [
        ("Accuracy", sections.accuracy(found)),
        ("Accuracy against shots", sections.shots(found, palette)),
        ("Base against new classes", sections.base_new(found, palette)),
        ("Classes gained and lost", sections.classes(groups)),
        ("Confusions", sections.confusion(groups)),
        ("Significance", sections.significance(groups)),
        ("Calibration", sections.calibration(groups, palette)),
        ("Cost", sections.cost(groups, palette)),
        ("Learning curves", sections.curves(groups, palette)),
        ("All results", sections.everything(groups)),
    ]
    shown = [(f"s{at}", heading, body) for at, (heading, body) in enumerate(parts) if body]
    contents = "".join(f'<li><a href="#{anchor}">{heading}</a></li>' for anchor, heading, _ in shown)
    body = "\n".join(f'<section id="{anchor}"><h2>{heading}</h2>\n{text}</section>' for anchor, heading, text in shown)
    css = Path(__file__).with_name("page.css").read_text()
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{css}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>
<p class="soft">{escape(summary(groups))}</p></header>
<nav aria-label="Contents"><ul>{contents}</ul></nav>
<main>
{body}
</main>
</body>
</html>
"""


def summary(groups: Sequence[Group]) -> str:
    runs = sum(len(group.runs) for group in groups)
    return (
        f"{count(runs, 'run')} of {count(len(groups), 'configuration')}: "
        f"{listed('method', (g.names['method'] for g in groups))}; {listed('dataset', (g.names['data'] for g in groups))}; "
        f"{listed('backbone', (g.names['clip'] for g in groups))}."
    )


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def listed(noun: str, values: Iterable[str]) -> str:
    names = list(dict.fromkeys(values))
    return f"{noun}{'s' * (len(names) > 1)} {', '.join(names)}"
