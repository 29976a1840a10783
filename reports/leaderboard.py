"""A leaderboard over folders of results: ranks entries over all datasets of a protocol.

A board is one task, figure, protocol, backbone and number of training images; its columns are datasets. An entry is one
configuration of one folder. Entries with every dataset of their board are ranked by their mean rank over the datasets. Entries
that lack a dataset are listed below without a rank, as a mean over fewer datasets is not comparable.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from scipy.stats import rankdata

from reports.groups import Group, in_unit
from reports.pieces import grid, note
from reports.render import number
from reports.rows import by, by_evaluation, shots_text, summaries, summary_cell
from reports.stats import Spread, spread
from reports.templates import ENVIRONMENT, HERE

ABOUT = (
    "Entries with every dataset are ranked by their mean rank over the datasets; equal figures share a rank. A figure is the "
    "mean ± population standard deviation over seeds."
)


@dataclass(frozen=True)
class Entry:
    """One configuration of one folder on a board."""

    label: str
    cells: dict[str, Spread]  # its figure by dataset
    seeds: int  # of the dataset with the fewest
    mean_rank: float | None = None  # over the board's datasets; None where it lacks one
    average: float | None = None  # over the board's datasets, of the means; None where it lacks one


@dataclass(frozen=True)
class Board:
    """The entries of one benchmark, the best first."""

    title: str
    what: str  # the figure with its unit
    datasets: list[str]
    entries: list[Entry]


def boards(by_folder: Mapping[str, Sequence[Group]]) -> list[Board]:
    """The boards of all folders' results together.

    Args:
        by_folder: the groups of each folder, by its name.
    """
    places: dict[tuple, dict[str, list[Group]]] = {}
    for folder, groups in by_folder.items():
        for group in groups:
            figure = group.figure
            place = (group.task, *figure.values(), group.protocol, group.names["clip"], group.shots)
            label = f"{group.label} ({folder})" if len(by_folder) > 1 else group.label
            places.setdefault(place, {}).setdefault(label, []).append(group)
    return [_board(entries) for entries in places.values()]


def _board(by_label: Mapping[str, list[Group]]) -> Board:
    first = next(iter(by_label.values()))[0]
    figures = {label: {data: _figure(of[0]) for data, of in by(groups, _data).items()} for label, groups in by_label.items()}
    datasets = list(dict.fromkeys(data for cells in figures.values() for data in cells))
    whole = [label for label, cells in figures.items() if len(cells) == len(datasets)]
    sign = -1 if first.figure["higher_is_better"] else 1
    ranks = {data: rankdata([sign * figures[label][data][1].mean for label in whole]) for data in datasets} if whole else {}
    entries = []
    for label, cells in figures.items():
        entry = Entry(
            label, {data: cell for data, (_, cell) in cells.items()}, min(len(group.runs) for group in by_label[label])
        )
        if label in whole:
            at = whole.index(label)
            entry = replace(
                entry,
                mean_rank=statistics.mean(float(ranks[data][at]) for data in datasets),
                average=statistics.mean(cell.mean for cell in entry.cells.values()),
            )
        entries.append(entry)
    names = {name for cells in figures.values() for name, _ in cells.values()}
    what = in_unit(first.figure) if len(names) > 1 or not min(names) else f"{min(names)}, {in_unit(first.figure)}"
    title = f"{first.task}, {first.protocol}, {first.names['clip']}, {shots_text(first.shots)}"
    return Board(title, what, datasets, sorted(entries, key=lambda e: _order(e, sign)))


def _data(group: Group) -> str:
    return group.names["data"]


def _order(entry: Entry, sign: int) -> tuple:
    unranked = entry.mean_rank is None
    return (unranked, 0 if unranked else entry.mean_rank, 0 if unranked else sign * entry.average, entry.label)


def _figure(group: Group) -> tuple[str, Spread]:
    """The name and the value of the one figure that stands for a group: its first summary, such as H; else its first
    evaluation, whose name is left out."""
    for name, entry in summaries([group]).items():
        if (cell := summary_cell(entry, by_evaluation([group]), group.figure["higher_is_better"])) is not None:
            return name, cell
    return "", spread(list(group.by_seed(group.evaluations[0]).values()))


def page(found: Iterable[Board], title: str, left_out: Sequence[str] = (), refresh: int | None = None) -> str:
    """The boards as one page without scripts. `left_out` and `refresh` are as of `reports.page.page`."""
    bodies = [(board.title, note(f"In this table: {board.what}.") + grid(head(board), lines(board))) for board in found]
    return ENVIRONMENT.get_template("page.html").render(
        title=title,
        refresh=refresh,
        summary=ABOUT,
        left_out=left_out,
        sections=[(f"s{at}", heading, body) for at, (heading, body) in enumerate(bodies)],
        css=Markup((HERE / "page.css").read_text()),
    )


def head(board: Board) -> list[str]:
    """The heads of a board's columns."""
    return ["entry", "place", "mean rank", "average", *board.datasets, "seeds"]


def lines(board: Board) -> list[list[str]]:
    """The cells of a board's rows as text, the best entry first."""
    rows = []
    for at, entry in enumerate(board.entries, start=1):
        cells = [number(entry.cells.get(data), 2) for data in board.datasets]
        ranked = entry.mean_rank is not None
        rank = [f"{entry.mean_rank:.2f}", f"{entry.average:.2f}"] if ranked else ["", ""]
        rows.append([entry.label, str(at) if ranked else "–", *rank, *cells, str(entry.seeds)])
    return rows


def to_terminal(found: Iterable[Board], console: Console) -> None:
    """Prints the boards."""
    for board in found:
        shown = RichTable(title=Text(f"{board.title}: {board.what}"), title_justify="left", box=box.SIMPLE)
        for at, column in enumerate(head(board)):
            shown.add_column(Text(column), justify="right" if at else "left")
        for row in lines(board):
            shown.add_row(*map(Text, row))
        console.print(shown)
