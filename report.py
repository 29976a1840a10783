"""The results of many runs as tables and a page.

    python report.py outputs                       # every result.json below the folder; several folders may be given
    python report.py outputs --compare A B         # paired tests of two methods over the same seeds and images
    python report.py outputs --markdown            # the tables for a README; or --latex, --csv
    python report.py outputs --watch               # again whenever a result is new, while a sweep goes on
    python report.py mine theirs --leaderboard     # who is first over all datasets, as a page of its own

Runs that differ in nothing but the seed are one figure: mean and population standard deviation over their seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from files.untrusted import visible
from files.whole import write_text
from reports import render
from reports.collect import read
from reports.compare import Comparison, check_names, comparisons
from reports.groups import Group
from reports.tables import Table, parts, tables
from reports.tasks import TaskReport, task_reports
from reports.watch import stamps, unfinished, watch

WARNED = 20  # unreadable files that the screen names
MANY = 4  # with more datasets the screen shows their average alone


def arguments() -> argparse.Namespace:
    """The parsed command line; ends the process with a message where it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="OUTPUTS", help="folders that runs write to")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="the tables as Markdown, and nothing else")
    form.add_argument("--latex", action="store_true", help="the same for LaTeX, with booktabs")
    form.add_argument("--csv", action="store_true", help="the same as CSV: a line per figure, unrounded")
    form.add_argument("--leaderboard", action="store_true", help="rank all entries of all folders, on a page of its own")
    form.add_argument("--compare", nargs=2, metavar=("METHOD", "METHOD"), help="test two methods against each other")
    parser.add_argument("--all", action="store_true", help="on the screen also the tables by dataset, where there are many")
    parser.add_argument("--decimals", type=int, metavar="N", help="of the tables; 2 where published figures stand beside")
    parser.add_argument("--watch", type=float, nargs="?", const=5.0, metavar="SECONDS", help="look for new results so often")
    parser.add_argument("--page", type=Path, help="where the page goes (default: report.html in the first folder)")
    parser.add_argument("--config-dir", type=Path, metavar="FOLDER", help="more configs, as for run.py: of tasks of your own")
    parser.add_argument("--wandb", metavar="PROJECT", help="also log tables and page as a run of this W&B project")
    options = parser.parse_args()
    if options.decimals is not None and not 0 <= options.decimals <= 10:
        parser.error(f"--decimals {options.decimals}: give a number from 0 to 10.")
    if options.watch is not None and not 0.1 <= options.watch <= 3600:
        parser.error(f"--watch {options.watch:g}: give seconds from 0.1 to 3600.")
    if options.watch is not None and (options.markdown or options.latex or options.csv or options.compare or options.wandb):
        parser.error("--watch writes the page again and again: leave out the other forms and --wandb.")
    if (text := ignored(options)) is not None:
        parser.error(text)
    if options.config_dir and not options.config_dir.is_dir():
        parser.error(f"--config-dir {options.config_dir}: there is no such folder.")
    options.decimals = 1 if options.decimals is None else options.decimals
    return options


def ignored(options: argparse.Namespace) -> str | None:
    """One sentence for an option that the chosen form of the report has no use for; None where all are used."""
    form = next((form for form in ("markdown", "latex", "csv", "leaderboard", "compare") if getattr(options, form)), None)
    if form is None:
        return None
    table = form in ("markdown", "latex")
    unused = {
        "wandb": True,
        "all": True,
        "decimals": not table,
        "page": form != "leaderboard",
        "config_dir": form == "leaderboard",  # the others read the tasks of the results
    }
    for name, is_unused in unused.items():
        if is_unused and getattr(options, name) not in (None, False):
            return f"--{name.replace('_', '-')} has no effect with --{form}: leave one of them out."
    return None


def main() -> int:
    """The exit status: 1 where nothing could be read or written."""
    options = arguments()
    if options.watch is None:
        return report(options)
    try:
        watch(options.folders, options.watch, lambda: watched(options))
    except KeyboardInterrupt:
        options.watch = None  # the last page does not reload itself
        return report(options) if stamps(options.folders) else 0
    return 0


def watched(options: argparse.Namespace) -> None:
    """One report of a watch. Errors are printed and do not end it, as a file may be readable the next time."""
    found, begun = len(stamps(options.folders)), unfinished(options.folders)
    print(f"\n{time.strftime('%H:%M:%S')}: finished runs: {found}, unfinished: {begun}")
    report(options)
    sys.stdout.flush()


def report(options: argparse.Namespace) -> int:
    """Makes the report once. The exit status: 1 where nothing could be read or written."""
    left_out: list[str] = []
    if options.leaderboard:
        return leaders(options)
    try:
        try:
            groups = read(options.folders, left_out)
        finally:
            warn(left_out)
        reports = task_reports((group.task for group in groups), options.config_dir)
        pairs = pairs_of(groups, reports, options.compare) if options.compare else []
    except ValueError as error:
        return failed(error)
    if options.compare:
        render.compared(pairs, Console())
        return 0
    all_tables = tables(groups)
    if options.markdown or options.latex or options.csv:
        text = render.to_markdown if options.markdown else render.to_latex if options.latex else None
        print(text(all_tables, options.decimals) if text else render.to_csv(all_tables), end="")
        return 0
    try:
        show(groups, all_tables, left_out, reports, options)
    except OSError as error:
        where = options.page or options.folders[0]
        return failed(f"the page cannot be written to {where} ({error.strerror}): name another place with --page PATH.")
    return 0


def leaders(options: argparse.Namespace) -> int:
    """Writes the leaderboard's page and prints its tables. The exit status."""
    from reports.leaderboard import boards, page, to_terminal

    left_out: list[str] = []
    path = options.page or options.folders[0] / "leaderboard.html"
    try:
        by_folder = {visible(str(folder)): read([folder], left_out) for folder in options.folders}
        warn(left_out)
        found = boards(by_folder)
        refresh = None if options.watch is None else max(1, round(options.watch))
        write_text(path, page(found, f"Leaderboard of {', '.join(by_folder)}", left_out, refresh))
    except ValueError as error:
        return failed(error)
    except OSError as error:
        return failed(f"the page cannot be written to {path} ({error.strerror}): name another place with --page PATH.")
    to_terminal(found, Console())
    print(f"all boards, to open in a browser: {path}")
    return 0


def pairs_of(groups: list[Group], reports: dict[str, TaskReport], names: list[str]) -> list[Comparison]:
    """The two methods' comparisons in every task. ValueError where one of them has no result."""
    check_names(groups, names)
    return [
        comparison
        for part in parts(groups)
        for comparison in comparisons(part.groups, tuple(names), reports[part.task].item_test)  # type: ignore[arg-type]
    ]


def warn(left_out: list[str]) -> None:
    """Prints the first of the files that cannot be read; the page lists all."""
    for sentence in left_out[:WARNED]:
        print(sentence, file=sys.stderr)
    if len(left_out) > WARNED:
        print(f"... and {len(left_out) - WARNED} more files that cannot be read; the page names them.", file=sys.stderr)


def failed(error: ValueError | str) -> int:
    """Prints the error and returns the exit status."""
    print(f"error: {visible(str(error))}", file=sys.stderr)
    return 1


def show(
    groups: list[Group],
    all_tables: list[Table],
    left_out: list[str],
    reports: dict[str, TaskReport],
    options: argparse.Namespace,
) -> None:
    """Prints the tables, writes the page and the plot, and prints where these are."""
    brief = [table for table in all_tables if options.all or table.datasets <= MANY]
    render.to_terminal(brief, options.decimals, Console())
    if len(brief) < len(all_tables):
        print(f"{len(all_tables) - len(brief)} tables by dataset: on the page, or with --all")

    from reports.page import page  # here, as matplotlib takes a second and the tables above do not need it
    from reports.plots import shots_png
    from reports.sections import is_by_shots

    first = options.folders[0]
    if by_shots := [table for table in all_tables if is_by_shots(table)]:
        shots_png(by_shots, first / "accuracy.png")
        print(f"plot against shots: {first / 'accuracy.png'}")
    path = options.page or first / "report.html"
    title = f"Results in {visible(', '.join(folder.name or str(folder) for folder in options.folders))}"
    content = page(groups, title, left_out, reports, None if options.watch is None else max(1, round(options.watch)))
    write_text(path, content)
    print(f"tables and all plots, to open in a browser: {path}")
    if options.wandb:
        from lightning_modules.loggers import report_to_wandb

        report_to_wandb(options.wandb, first, title, render.figures(all_tables), content)
    print(f"results: result.json in the folders below {', '.join(map(str, options.folders))}")


if __name__ == "__main__":
    sys.exit(main())
