"""The plots of a report, each a function from results to one SVG element."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator

from files.whole import whole_file
from reports.collect import Group
from reports.stats import Calibration
from reports.style import FAINT, INK, PAPER, Palette, drawing, plt, svg
from reports.tables import Table, shots_of
from reports.templates import PIECES

ACCURACY = "accuracy in %"
PANELS = 100  # of one PNG: matplotlib admits no picture of 65,536 lines


def shots_lines(axis: Axes, table: Table, palette: Palette) -> None:
    """Accuracy against training images per class; the band is one standard deviation."""
    shots = {column: count for column in table.columns if (count := shots_of(column)) is not None}
    for row in table.rows:
        points = [(shots[column], row.cells[column]) for column in table.columns if column in shots and column in row.cells]
        if not points:
            continue
        x, cells = zip(*points, strict=True)
        means, stds = (np.array(values) for values in ([c.mean for c in cells], [c.std or 0 for c in cells]))
        style = palette.line(row.label)
        axis.plot(x, means, **style)
        axis.fill_between(x, means - stds, means + stds, color=style["color"], alpha=0.16, linewidth=0)
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(shots.values()), [str(count) for count in shots.values()])
    axis.minorticks_off()
    axis.set(xlabel="training images per class", ylabel=ACCURACY)


def shots_plot(table: Table, palette: Palette, title: str) -> Markup:
    with drawing() as (figure, axis):
        shots_lines(axis, table, palette)
        axis.set_title(fill(title, 46))
        return svg(figure, f"Accuracy against shots, {title}")


def shots_png(tables: Sequence[Table], path: Path) -> None:
    """All tables by shots side by side, as a picture of its own; at most `PANELS` of them."""
    tables = tables[:PANELS]
    palette = Palette((row.label for table in tables for row in table.rows), PAPER)
    columns = min(len(tables), 4)
    lines = -(-len(tables) // columns)
    with plt.rc_context({"text.parse_math": False}):  # a label may hold a dollar sign
        figure, axes = plt.subplots(lines, columns, figsize=(5.5 * columns, 4.2 * lines), squeeze=False, layout="constrained")
        for axis in axes.flat[len(tables) :]:
            axis.remove()
        for axis, table in zip(axes.flat, tables, strict=False):
            shots_lines(axis, table, palette)
            axis.set_title(table.title)
            axis.grid(alpha=0.3)
            axis.legend(axis.lines, [row.label for row in table.rows], frameon=False)
        with whole_file(path) as temporary:  # where `path` is a link, what it leads to is not written
            figure.savefig(temporary, dpi=150, format="png")
        plt.close(figure)


def base_new_plot(table: Table, palette: Palette, title: str) -> Markup:
    """New against base; the grey curves are those of equal harmonic mean."""
    rows = [row for row in table.rows if {"base", "new"} <= set(row.cells)]
    base, new = ([row.cells[name] for row in rows] for name in ("base", "new"))
    with drawing() as (figure, axis):
        for row, b, n in zip(rows, base, new, strict=True):
            style = palette.line(row.label) | {"linestyle": ""}
            axis.errorbar(b.mean, n.mean, xerr=b.std or None, yerr=n.std or None, **style, markersize=7, elinewidth=1)
        axis.margins(0.18)
        (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
        x = np.linspace(max(left, 1), right, 200)
        levels = MaxNLocator(5).tick_values(statistics.harmonic_mean([max(left, 1), max(low, 1)]), min((right + high) / 2, 100))
        for level in levels:
            with np.errstate(divide="ignore"):
                y = np.where(2 * x > level, level * x / (2 * x - level), np.nan)
            inside = (y >= low) & (y <= high)
            if inside.any():
                axis.plot(x[inside], y[inside], color=FAINT, linewidth=0.8, zorder=0)
                axis.annotate(f"H {level:g}", (x[inside][-1], y[inside][-1]), fontsize=7.5, ha="right", va="bottom")
        axis.set(xlim=(left, right), ylim=(low, high), title=fill(title, 46), xlabel="base classes, %", ylabel="new classes, %")
        axis.grid(visible=False)
        return svg(figure, f"Base against new classes, {title}")


def class_change_plot(changes: Sequence[tuple[str, float]], title: str, most: int = 12) -> Markup:
    """Points of per-class accuracy gained or lost, the largest of both; `changes` by class name.

    A template of its own: matplotlib takes half a second for so many labels, and there is a plot per method and dataset.
    """
    ranked = sorted(changes, key=lambda item: -item[1])
    gains, losses = [c for c in ranked if c[1] > 0.05][:most], [c for c in ranked if c[1] < -0.05][-most:]
    between = len(ranked) - len(gains) - len(losses)
    less = "changed less" if most in (len(gains), len(losses)) else "unchanged"
    rest = [(f"{between} class{'es' * (between > 1)} {less}", None)] if between else []
    values = [0.0, *(value for _, value in (*gains, *losses))]
    low, high = min(values), max(values)
    names, bars, height = 168, 195, 17  # widths of two columns and height of a row, pixels
    unit = bars / (high - low or 1)
    rows, top = [], 26
    for name, value in [*gains, *rest, *losses]:
        bar = None
        if value is not None:
            left, colour = names + unit * (min(value, 0) - low), "gain" if value > 0 else "loss"
            bar = {"left": f"{left:.1f}", "width": f"{unit * abs(value):.1f}", "colour": colour, "figure": f"{value:+.1f}"}
        rows.append((shorten(name), top, bar))
        top += height
    zero, width = f"{names - unit * low:.1f}", names + bars + 54
    return PIECES.bars(title, f"Change per class, {title}", rows, names, names + bars + 50, zero, width, top)


def confusion_plot(counts_CC: np.ndarray, names: Sequence[str], title: str) -> Markup:
    """Share of each true class (row) by predicted class; classes without images are empty rows."""
    share = counts_CC / np.maximum(counts_CC.sum(1, keepdims=True), 1)
    few = len(names) <= 20
    with drawing(4.4, 4.2) as (figure, axis):
        # one mid-tone whose opacity is the share: legible on white and on black
        image = np.empty((*share.shape, 4))
        image[..., :3], image[..., 3] = (0.16, 0.5, 0.73), np.sqrt(share)
        axis.imshow(image, interpolation="nearest")
        if few:
            axis.set_xticks(range(len(names)), [shorten(name, 14) for name in names], rotation=90, fontsize=7.5)
            axis.set_yticks(range(len(names)), [shorten(name, 14) for name in names], fontsize=7.5)
        axis.grid(visible=False)
        axis.spines[["top", "right"]].set_visible(True)
        axis.set(title=fill(title, 46), xlabel="predicted class", ylabel="true class")
        return svg(figure, f"Confusion matrix, {title}")


def reliability_lines(axis: Axes, each: Sequence[tuple[str, Calibration]], palette: Palette) -> None:
    """Accuracy against confidence, by bins; on the diagonal, the confidence is right."""
    axis.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":")
    for label, found in each:
        full = found.share > 0.005  # bins of a few images are noise
        axis.plot(100 * found.confidence[full], 100 * found.accuracy[full], **palette.line(label), label=label)
    axis.set(xlabel="confidence in %", ylabel=ACCURACY, xlim=(0, 101), ylim=(0, 101))


def reliability_plot(each: Sequence[tuple[str, Calibration]], palette: Palette, title: str) -> Markup:
    with drawing() as (figure, axis):
        reliability_lines(axis, each, palette)
        axis.set_title(fill(title, 46))
        return svg(figure, f"Reliability, {title}")


def cost_plot(
    points: Sequence[tuple[Group, float, float]], palette: Palette, xlabel: str, title: str, zero: bool = False
) -> Markup:
    """Accuracy against a cost on a logarithmic axis; larger marks are more shots. `zero`: the cost may be 0."""
    shots = sorted({group.shots for group, _, _ in points})
    with drawing() as (figure, axis):
        for group, cost, accuracy in points:
            size = 4 + 5 * shots.index(group.shots) / max(len(shots) - 1, 1)
            axis.plot(cost, accuracy, **palette.line(group.label) | {"linestyle": ""}, markersize=size, alpha=0.85)
        if zero and any(cost == 0 for _, cost, _ in points):
            axis.set_xscale("symlog", linthresh=100)
        else:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}M" if value >= 1e6 else f"{value:,.10g}")
        axis.minorticks_off()
        axis.set(title=fill(title, 46), xlabel=xlabel, ylabel=ACCURACY)
        axis.margins(0.1)
        return svg(figure, f"{title}, {xlabel}")


def curves_plot(
    curves: Sequence[tuple[str, Sequence[Sequence[float]], Sequence[int]]], palette: Palette, ylabel: str, title: str
) -> Markup:
    """Lines over epochs, mean and band of one standard deviation; a curve: label, values by seed, epochs counted from 1."""
    with drawing() as (figure, axis):
        for label, by_seed, epochs in curves:
            values = np.array(by_seed)
            mean, std = values.mean(0), values.std(0)
            style = palette.line(label)
            style["marker"] = style["marker"] if len(epochs) == 1 else ""
            axis.plot(epochs, mean, **style)
            axis.fill_between(epochs, mean - std, mean + std, color=style["color"], alpha=0.16, linewidth=0)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(title=fill(title, 46), xlabel="epoch", ylabel=ylabel)
        return svg(figure, f"{ylabel} by epoch, {title}")


def shorten(name: str, length: int = 26) -> str:
    name = name.replace("_", " ")
    return name if len(name) <= length else f"{name[: length - 1]}…"
