"""One page with all of a report: no script, no network, its styles and plots within it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from reports import sections
from reports.collect import Group
from reports.style import Palette
from reports.tables import tables
from reports.templates import ENVIRONMENT, HERE


def page(groups: Sequence[Group], title: str, left_out: Sequence[str] = ()) -> str:
    """The page of these groups; `left_out`: a sentence about each file that is in none of its figures."""
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
    return ENVIRONMENT.get_template("page.html").render(
        title=title,
        summary=summary(groups),
        left_out=left_out,
        ids={heading: f"s{at}" for at, (heading, _) in enumerate(parts)},
        sections=[(heading, body) for heading, body in parts if body],
        css=Markup((HERE / "page.css").read_text()),
    )


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
