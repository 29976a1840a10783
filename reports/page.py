"""One page with all of a report: no script, no network, its styles and plots within it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from reports import sections
from reports.groups import Group
from reports.style import Palette
from reports.tables import Part, parts, tables
from reports.tasks import Sections, TaskReport
from reports.templates import ENVIRONMENT, HERE


def page(
    groups: Sequence[Group],
    title: str,
    left_out: Sequence[str] = (),
    reports: Mapping[str, TaskReport] | None = None,
    refresh: int | None = None,
) -> str:
    """The page of these groups.

    Args:
        left_out: a sentence about each file that could not be read.
        reports: as `reports.tasks.task_reports` returns them; other tasks have the common sections only.
        refresh: seconds after which a browser loads the page again; None: it does not.
    """
    palette = Palette(group.label for group in sorted(groups, key=sections.legend_order))
    bodies: Sections = []
    for part in parts(groups):
        part_sections = sections_of(part, palette, (reports or {}).get(part.task, TaskReport()))
        bodies += [(f"{part.title}: {heading}" if part.title else heading, body) for heading, body in part_sections]
    return ENVIRONMENT.get_template("page.html").render(
        title=title,
        refresh=refresh,
        summary=summary(groups),
        left_out=left_out,
        sections=[(f"s{at}", heading, body) for at, (heading, body) in enumerate(bodies) if body],
        css=Markup((HERE / "page.css").read_text()),
    )


def sections_of(part: Part, palette: Palette, report: TaskReport) -> Sections:
    """The sections of one task and figure: those that every task has, and its own."""
    part_tables, figure = tables(part.groups), part.figure["title"]
    name = figure[:1].upper() + figure[1:]
    return [
        (name, sections.figure_tables(part_tables)),
        (f"{name} against shots", sections.shots(part_tables, palette)),
        *report.sections(part.groups, part_tables, palette),
        ("Significance", sections.significance(part.groups, report.item_test)),
        ("Cost", sections.cost(part.groups, palette)),
        ("Learning curves", sections.curves(part.groups, palette)),
        ("All results", sections.everything(part.groups)),
    ]


def summary(groups: Sequence[Group]) -> str:
    """One sentence with the numbers of runs and configurations, the methods and the datasets."""
    runs = sum(len(group.runs) for group in groups)
    return (
        f"{count(runs, 'run')} of {count(len(groups), 'configuration')}: "
        f"{listed('method', (g.names['method'] for g in groups))}; {listed('dataset', (g.names['data'] for g in groups))}; "
        f"{listed('backbone', (g.names['clip'] for g in groups))}."
    )


def count(number: int, noun: str) -> str:
    """The number and the noun: "2 runs"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def listed(noun: str, values: Iterable[str]) -> str:
    """The names, each once, after the noun: "datasets a, b"."""
    names = list(dict.fromkeys(values))
    return f"{noun}{'s' * (len(names) > 1)} {', '.join(names)}"
