"""The plots of a report, each a function from results to one SVG element."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator

from files.whole import whole_file
from reports.groups import Group, in_unit
from reports.stats import Calibration, Spread
from reports.style import FAINT, INK, PAPER, Palette, drawing, plt, svg
from reports.tables import Table
from reports.templates import PIECES

PANELS = 100  # of one PNG: matplotlib admits no picture of 65,536 lines


def shots_lines(axis: Axes, table: Table, palette: Palette) -> None:
    """The main figure against shots; the band is one standard deviation."""
    for row in table.rows:
        points = [(shots, row.cells[column]) for column, shots in table.shots.items() if column in row.cells]
        if not points:
            continue
        x, cells = zip(*points, strict=True)
        _band(axis, x, cells, palette.line(row.label))
    axis.set_xscale("symlog", base=2, linthresh=1)  # 0 shots stand one step left of 1
    axis.set_xticks(list(table.shots.values()), [str(count) for count in table.shots.values()])
    axis.minorticks_off()
    axis.set(xlabel="shots", ylabel=in_unit(table.figure))


def shots_plot(table: Table, palette: Palette, title: str) -> Markup:
    """A table by shots as lines."""
    with drawing() as (figure, axis):
        shots_lines(axis, table, palette)
        axis.set_title(fill(title, 46))
        return svg(figure, f"Against shots, {title}")


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
        with whole_file(path) as temporary:  # replaces a link instead of writing to its target
            figure.savefig(temporary, dpi=150, format="png")
        plt.close(figure)


def harmonic_plot(table: Table, pair: tuple[str, str], palette: Palette, title: str) -> Markup:
    """The second column of the pair against the first, in percent; the grey curves are those of equal harmonic mean."""
    rows = [row for row in table.rows if set(pair) <= set(row.cells)]
    with drawing() as (figure, axis):
        for row in rows:
            x, y = (row.cells[name] for name in pair)
            style = palette.line(row.label) | {"linestyle": ""}
            axis.errorbar(x.mean, y.mean, xerr=x.std or None, yerr=y.std or None, **style, markersize=7, elinewidth=1)
        axis.margins(0.18)
        (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
        base = np.linspace(max(left, 1), right, 200)
        levels = MaxNLocator(5).tick_values(statistics.harmonic_mean([max(left, 1), max(low, 1)]), min((right + high) / 2, 100))
        for level in levels:
            with np.errstate(divide="ignore"):
                new = np.where(2 * base > level, level * base / (2 * base - level), np.nan)
            inside = (new >= low) & (new <= high)
            if inside.any():
                axis.plot(base[inside], new[inside], color=FAINT, linewidth=0.8, zorder=0)
                axis.annotate(f"H {level:g}", (base[inside][-1], new[inside][-1]), fontsize=7.5, ha="right", va="bottom")
        xlabel, ylabel = (f"{name} classes, %" for name in pair)
        axis.set(xlim=(left, right), ylim=(low, high), title=fill(title, 46), xlabel=xlabel, ylabel=ylabel)
        axis.grid(visible=False)
        return svg(figure, f"{pair[0]} against {pair[1]}, {title}")


def class_change_plot(changes: Sequence[tuple[str, float]], title: str, most: int = 12) -> Markup:
    """Points of per-class accuracy gained or lost, the largest of both; `changes` by class name.

    Drawn by a template instead of matplotlib, which takes half a second for so many labels; there is a plot for every method
    and dataset.
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
    """Share of each true class (row) by predicted class, from counts (C,C); classes without images are empty rows."""
    share = counts_CC / np.maximum(counts_CC.sum(1, keepdims=True), 1)
    few = len(names) <= 20
    with drawing(4.4, 4.2) as (figure, axis):
        # one medium grey whose opacity is the share: legible on white and on black
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


def reliability_lines(axis: Axes, curves: Sequence[tuple[str, Calibration]], palette: Palette) -> None:
    """Accuracy against confidence, by bins; a calibrated method lies on the diagonal."""
    axis.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":")
    for label, curve in curves:
        full = curve.share > 0.005  # bins with few images are noise
        axis.plot(100 * curve.confidence[full], 100 * curve.accuracy[full], **palette.line(label), label=label)
    axis.set(xlabel="confidence in %", ylabel="accuracy in %", xlim=(0, 101), ylim=(0, 101))


def reliability_plot(curves: Sequence[tuple[str, Calibration]], palette: Palette, title: str) -> Markup:
    """Reliability curves, by label."""
    with drawing() as (figure, axis):
        reliability_lines(axis, curves, palette)
        axis.set_title(fill(title, 46))
        return svg(figure, f"Reliability, {title}")


def cost_plot(
    points: Sequence[tuple[Group, float, float]],
    palette: Palette,
    axes: tuple[str, str],
    title: str,
    may_be_zero: bool = False,
) -> Markup:
    """A figure against a cost on a logarithmic axis; larger marks are more shots.

    Args:
        points: group, cost, figure.
        axes: what the two axes show.
        may_be_zero: the cost may be 0.
    """
    shots = sorted({group.shots for group, _, _ in points})
    with drawing() as (figure, axis):
        for group, cost, value in points:
            size = 4 + 5 * shots.index(group.shots) / max(len(shots) - 1, 1)
            axis.plot(cost, value, **palette.line(group.label) | {"linestyle": ""}, markersize=size, alpha=0.85)
        if may_be_zero and any(cost == 0 for _, cost, _ in points):
            axis.set_xscale("symlog", linthresh=100)
        else:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}M" if value >= 1e6 else f"{value:,.10g}")
        axis.minorticks_off()
        axis.set(title=fill(title, 46), xlabel=axes[0], ylabel=axes[1])
        axis.margins(0.1)
        return svg(figure, f"{title}, {axes[0]}")


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


def against_plot(
    lines: Mapping[str, Sequence[tuple[int, Spread]]], palette: Palette, axes: tuple[str, str], title: str
) -> Markup:
    """Lines over a few whole numbers, by label, with bands of one standard deviation; `axes` are the names of x and y."""
    with drawing() as (figure, axis):
        for label, points in lines.items():
            x, cells = zip(*points, strict=True)
            _band(axis, x, cells, palette.line(label))
        axis.set_xticks(sorted({k for points in lines.values() for k, _ in points}))
        axis.set(title=fill(title, 46), xlabel=axes[0], ylabel=axes[1])
        return svg(figure, f"{axes[1]} against {axes[0]}, {title}")


def _band(axis: Axes, x: Sequence[float], cells: Sequence[Spread], style: dict[str, str]) -> None:
    """A line of means, and a band of one standard deviation."""
    means, stds = (np.array(values) for values in ([c.mean for c in cells], [c.std or 0 for c in cells]))
    axis.plot(x, means, **style)  # type: ignore[arg-type]
    axis.fill_between(x, means - stds, means + stds, color=style["color"], alpha=0.16, linewidth=0)


def shorten(name: str, length: int = 26) -> str:
    """A class name for an axis, at most so long."""
    name = name.replace("_", " ")
    return name if len(name) <= length else f"{name[: length - 1]}…"
