"""Tables as text: for the terminal, Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from reports.compare import Comparison
from reports.groups import in_unit
from reports.published import MARK
from reports.stats import Spread
from reports.tables import Table

HTML = {"<": "&lt;", ">": "&gt;"}
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    MARK: r"\textdagger{}",
}
FIRST = 12  # least width of the first column, in characters


def legend(tables: list[Table]) -> str:
    """A line that explains the numbers of these tables."""
    figures = ", ".join(dict.fromkeys(in_unit(table.figure) for table in tables))
    return f"{figures}, mean ± population standard deviation over the seeds"


def number(cell: Spread | None, decimals: int) -> str:
    """Mean ± standard deviation; empty for no cell."""
    if cell is None:
        return ""
    return f"{cell.mean:.{decimals}f}" + ("" if cell.std is None else f" ± {cell.std:.{decimals}f}")


def lines(table: Table, decimals: int, mark: Callable[[str], str]) -> Iterator[tuple[str, str, list[str]]]:
    """Kind ("ours", "published", "difference"), label and cells of each line; `mark` decorates a column's best."""
    if table.has_published:
        decimals = 2  # as published
    has_rivals = len(table.rows) > 1 and not table.is_by_stage
    for row in table.rows:
        cells = []
        for column in table.columns:
            cell = row.cells.get(column)
            best = has_rivals and cell is not None and cell.mean == table.best(column)
            cells.append(mark(number(cell, decimals)) if best else number(cell, decimals))
        yield "ours", row.label, cells
        differences = [row.difference(column) for column in table.columns]
        if any(difference is not None for difference in differences):
            figures = [row.published.get(column) for column in table.columns]
            yield "published", "published", ["" if figure is None else str(figure) for figure in figures]
            yield "difference", "difference", ["" if value is None else f"{value:+.2f}" for value in differences]


def to_terminal(tables: list[Table], decimals: int, console: Console) -> None:
    """Prints the tables. One wider than the terminal is split into several with some of the columns each."""
    for table in tables:
        rows = list(lines(table, decimals, lambda text: f"[bold]{text}[/bold]"))
        labels = [Text(label) if kind == "ours" else Text(f"  {label}", "dim") for kind, label, _ in rows]
        columns = [[Text.from_markup(cells[at]) for _, _, cells in rows] for at in range(len(table.columns))]
        wide = [3 + max(len(name), *map(len, cells)) for name, cells in zip(table.columns, columns, strict=True)]
        room = console.width - 4 - max(FIRST, *map(len, labels))
        title, at = table.title, 0
        while at < len(columns):
            end = at + max(1, sum(total <= room for total in accumulate(wide[at:])))
            shown = new_table(title)
            for name in table.columns[at:end]:
                shown.add_column(Text(name), justify="right", overflow="fold")  # rich reads markup in a plain string
            for label, *cells in zip(labels, *columns[at:end], strict=True):
                shown.add_row(label, *cells, style=label.style)
            console.print(shown)
            title, at = "", end
        console.print(Text(f"  {' '.join(table.notes)}\n", "dim"))
    console.print(Text(legend(tables)), highlight=False)


def new_table(title: str) -> RichTable:
    """A table of rich with its first column."""
    shown = RichTable(box=box.SIMPLE_HEAD, title=Text(title) if title else None, title_justify="left", title_style="bold")
    shown.add_column("", overflow="fold", min_width=FIRST)
    return shown


def to_markdown(tables: list[Table], decimals: int) -> str:
    """One pipe table each, its notes below."""
    parts = []
    for table in tables:
        head = map(markdown, [table.title, *table.columns])
        text = [f"| {' | '.join(head)} |", "|---|" + "---:|" * len(table.columns)]
        for kind, label, cells in lines(table, decimals, str):
            text.append(f"| {' | '.join([markdown(label) if kind == 'ours' else f'*{label}*', *cells])} |")
        parts.append("\n".join([*text, "", markdown(" ".join(table.notes))]))
    return "\n\n".join([*parts, f"{markdown(legend(tables))}\n"])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def markdown(text: str) -> str:
    """Text as Markdown shows it: no markup, no cell's end."""
    return "".join(f"\\{c}" if c in "\\|*`[]" else HTML.get(c, c) for c in text)


def to_latex(tables: list[Table], decimals: int) -> str:
    """One `table` environment each; needs the package booktabs."""
    parts = []
    for table in tables:
        body = []
        for kind, label, cells in lines(table, decimals, lambda text: f"BEST{text}"):
            shown = [latex_number(cell) for cell in cells]
            name = escape(label) if kind == "ours" else rf"\quad \emph{{{label}}}"
            body.append(rf"    {' & '.join([name, *shown])} \\")
        head = " & ".join(["", *map(escape, table.columns)])
        parts.append(
            "\\begin{table}\n  \\centering\n"
            f"  \\caption{{{escape(table.title)}. {escape(_capital(legend([table])).replace(' ± ', ' and '))}. "
            f"{escape(' '.join(table.notes))}}}\n"
            f"  \\begin{{tabular}}{{l{'r' * len(table.columns)}}}\n    \\toprule\n    {head.strip()} \\\\\n    \\midrule\n"
            + "\n".join(body)
            + "\n    \\bottomrule\n  \\end{tabular}\n\\end{table}"
        )
    return "\n\n".join(parts) + "\n"


def latex_number(cell: str) -> str:
    """A cell of `lines`, whose best begin with BEST, in math mode."""
    bold, text = cell.startswith("BEST"), cell.removeprefix("BEST")
    if not text:
        return ""
    pm = r" \pm "
    value, *std = text.replace(MARK, r"^{\dagger}").split(" ± ")
    value = rf"\mathbf{{{value}}}" if bold else value
    return f"${pm.join([value, *std])}$"


def escape(text: str) -> str:
    """Text as LaTeX shows it. A bracket or a star after a line's end would be an argument of it."""
    return "".join(rf"\{c}" if c in "_%&#${}" else LATEX.get(c, c) for c in text)


def to_csv(tables: list[Table]) -> str:
    """All cells, unrounded; see `figures`."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([[cell_text(cell) for cell in row] for row in figures(tables)])
    return file.getvalue()


def cell_text(cell: Any) -> Any:
    """A text that a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in tuple("=+-@") else cell


def figures(tables: list[Table]) -> list[list[Any]]:
    """A line per cell, unrounded, below a line with their names."""
    spread, published = ("mean", "std", "interval_95", "seeds"), ("published", "difference", "unverified")
    rows: list[list[Any]] = [["table", "row", "column", *spread, *published, "figure"]]
    for table in tables:
        for row in table.rows:
            for column in table.columns:
                if (cell := row.cells.get(column)) is not None:
                    ours = (cell.mean, cell.std, cell.interval, cell.seeds)
                    figure = row.published.get(column)
                    theirs = (figure.value, row.difference(column), figure.unverified) if figure else (None, None, None)
                    rows.append([table.title, row.label, column, *ours, *theirs, in_unit(table.figure)])
    return rows


def compared(comparisons: list[Comparison], console: Console) -> None:
    """Paired tests for the terminal, a table for each pair."""
    for pair in dict.fromkeys((comparison.a, comparison.b) for comparison in comparisons):
        shown = new_table(" minus ".join(pair))
        for name in ("points", "95 % interval", "t-test", "McNemar, by seed"):
            shown.add_column(name, justify="right", overflow="fold")
        for comparison in comparisons:
            if (comparison.a, comparison.b) == pair:
                items = comparison.items
                interval = f"{items.interval[0]:+.2f} to {items.interval[1]:+.2f}" if items else ""
                tests = ["" if p is None else f"{p:.3f}" for p in (comparison.t_test, *(items.mcnemar if items else ()))]
                cells = (f"{comparison.difference:+.2f}", interval, tests[0], ", ".join(tests[1:]))
                shown.add_row(Text(comparison.where), *cells)
        console.print(shown)
    console.print(
        "points: difference over the same seeds; interval: paired bootstrap over test images; t-test: p over seeds; "
        "McNemar: p over images, exact. Those over images need predictions.npz beside result.json.",
        highlight=False,
    )
