"""The four analyses of a finished run. Each writes its files into a folder and returns the lines for the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from files.whole import write_json
from prompts.engine.attention import Share, image_shares, text_is_shown, text_shares
from prompts.engine.rows import TowerPrompts
from prompts.parts.words import LearnedTokens
from reports.arrays import Predictions
from reports.insight import sheet
from reports.insight.finished import FinishedRun, spread
from reports.plots import reliability_lines
from reports.stats import Calibration, calibration
from reports.style import PAPER, Palette, plt

SAMPLE = 64  # number of images, and of classes, over which attention and image-dependent contexts are averaged
SCREEN = 16  # vectors on the screen; words.txt has all


# ---- words


@torch.no_grad()
def words(run: FinishedRun, folder: Path, count: int) -> str:
    """words.txt, words.json: the nearest vocabulary words of each context vector that enters the text tower.

    Args:
        count: how many words are listed for each vector.
    """
    prompts, depends_on = _text_prompts(run), run.model.text_depends_on()
    rows = prompts.inputs or prompts.rows.get(0)
    if rows is None or not rows.count:
        return f"words: {run.names['method']} has no context vectors among its words"
    vocabulary = LearnedTokens(run.clip)
    streams = {"q": rows.q, "k": rows.k, "v": rows.v} if rows.k is not None or rows.v is not None else {"": rows.q}
    nearest = []
    for stream, vectors in streams.items():
        if vectors is None:
            continue
        if rows.per == "image":
            vectors = vectors.mean(0)
        classes = run.model.classnames if rows.per == "class" else [None]
        by_vector = iter(vocabulary.nearest(vectors.flatten(0, -2), count))
        for name in classes:
            for number in range(1, rows.count + 1):
                near = [{"word": word, "distance": round(distance, 4)} for word, distance in next(by_vector)]
                nearest.append({"stream": stream, "class": name, "vector": number, "words": near})
    spacing = vocabulary.spacing()
    heading = (
        f"the nearest of {len(vocabulary):,} vocabulary words to each context vector, and their Euclidean distances\n"
        f"(a word's own nearest other word is {spacing:.3g} away: a vector farther off than that resembles no word)"
    )
    if rows.per == "image":
        heading += f"\n(context depends on the image: the mean over {len(rows.q)} test images)"
    content = {"vocabulary": len(vocabulary), "spacing": spacing, "depends_on": depends_on, "vectors": nearest}
    write_json(folder / "words.json", content, indent=1)
    lines = _word_lines(nearest)
    (folder / "words.txt").write_text("\n".join([heading, "", *lines]) + "\n", encoding="utf-8")
    more = [f"  ... {len(lines) - SCREEN:,} more in words.txt"] * (len(lines) > SCREEN)
    return "\n".join([f"words: {heading}", *lines[:SCREEN], *more])


def _word_lines(nearest: Sequence[dict[str, Any]]) -> list[str]:
    """A line per vector, in columns."""
    table = [
        [
            " ".join(filter(None, (entry["stream"], entry["class"], str(entry["vector"])))),
            *(f"{near['word']} {near['distance']:.3g}" for near in entry["words"]),
        ]
        for entry in nearest
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  " + "   ".join([row[0].rjust(widths[0]), *map(str.ljust, row[1:], widths[1:])]).rstrip() for row in table]


@torch.no_grad()
def _text_prompts(run: FinishedRun) -> TowerPrompts:
    """The rows at the text tower's input. For methods whose text depends on the image, those of some test images."""
    model = run.model
    if model.text_depends_on() == "image":
        image_features = model.clip.encode_image(run.some_images(SAMPLE), model.learner.image_prompts())
    else:
        image_features = torch.zeros(1, model.clip.embed_dim, device=run.device)
    return model.learner.text_prompts(image_features)


# ---- images gained and lost


def images(run: FinishedRun, folder: Path, evaluations: Sequence[str], most: int) -> str:
    """images-EVALUATION.png, images.json: images that only the method, or only the baseline, classifies correctly. ValueError
    where the predictions do not belong to the images that are read here.

    Args:
        most: the largest number of gained images on a sheet, and of lost ones.
    """
    method, lines, content = run.names["method"], [], {}
    for evaluation in evaluations:
        theirs = run.baseline(evaluation)
        if theirs is None:
            return "images: this is zero-shot CLIP itself; --against FOLDER compares it with another run"
        ours, dataset = run.predictions(evaluation), run.dataset(evaluation)
        names = run.test_set(evaluation).classnames
        if not all(_fits(predictions, len(dataset), len(names)) for predictions in (ours, theirs)):
            raise ValueError(
                f"the predictions of {evaluation} are not of the images that are here: give the run's data_root=PATH."
            )
        changes = sheet.changes(ours, theirs)
        sentence = (
            f"{evaluation}: {method} gains {len(changes.gained):,} and loses {len(changes.lost):,} of {len(ours.label_N):,} "
            f"images against {run.baseline_name}"
        )
        named = [(run.baseline_name, theirs), (method if method != run.baseline_name else "this run", ours)]
        sheet.draw(folder / f"images-{evaluation}.png", sentence, changes, most, sheet.Images(dataset, names), named)
        lines.append(f"images: {sentence}")
        content[evaluation] = {
            kind: [
                {
                    "image": dataset.items[index].path,
                    "true": names[ours.label_N[index]],
                    "baseline": names[theirs.predicted_N[index]],
                    "this run": names[ours.predicted_N[index]],
                }
                for index in indices
            ]
            for kind, indices in asdict(changes).items()
        }
    about = {"baseline": run.baseline_name, "this run": method, "evaluations": content}
    write_json(folder / "images.json", about, indent=1)
    return "\n".join(lines)


def _fits(predictions: Predictions, images: int, classes: int) -> bool:
    """Whether the predictions can be of so many images and classes."""
    return len(predictions.label_N) == images and max(predictions.label_N.max(), predictions.predicted_N.max()) < classes


# ---- calibration


def calibrate(run: FinishedRun, folder: Path, evaluations: Sequence[str]) -> str:
    """calibration.png, calibration.json: calibration error and reliability, beside the baseline's where it is known."""
    content, curves = {}, {}
    for evaluation in evaluations:
        sides = {"this run": (run.names["method"], run.predictions(evaluation).readable())}
        if baseline := run.baseline(evaluation, evaluate=False):
            sides["baseline"] = (run.baseline_name, baseline.readable())
        curves[evaluation] = {
            side: calibration(predictions.confidence_N, predictions.correct_N) for side, (_, predictions) in sides.items()
        }
        content[evaluation] = {
            side: {"method": method, **_summary(predictions, curves[evaluation][side])}
            for side, (method, predictions) in sides.items()
        }
    _draw_calibration(folder / "calibration.png", content, curves)
    write_json(folder / "calibration.json", content, indent=1)
    lines = [
        f"  {evaluation:<12} {of['method']:<14} accuracy {of['accuracy']:5.1f}   mean confidence {of['confidence']:5.1f}   "
        f"ECE {of['ece']:5.2f}"
        for evaluation, sides in content.items()
        for of in sides.values()
    ]
    return "\n".join(["calibration, in % (ECE: expected calibration error, 15 bins)", *lines])


def _summary(predictions: Predictions, curve: Calibration) -> dict[str, Any]:
    """The calibration of the readable images: percentages, and the bins as shares of 1."""
    bins = {name: [None if x != x else float(x) for x in values] for name, values in vars(curve).items()}  # NaN: empty
    means = {"accuracy": predictions.correct_N.mean(), "confidence": predictions.confidence_N.mean()}
    return {"ece": curve.error, **{name: 100 * float(mean) for name, mean in means.items()}, "bins": bins}


def _draw_calibration(path: Path, content: dict[str, Any], curves: dict[str, dict[str, Calibration]]) -> None:
    """A panel per evaluation: reliability, and below it how many images have which confidence."""
    palette = Palette(["this run", "baseline"], PAPER)
    columns = min(len(curves), 4)
    rows = -(-len(curves) // columns)
    plt.rcParams["text.parse_math"] = False  # a name may hold a dollar sign
    figure = plt.figure(figsize=(4.6 * columns, 5.4 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[3, 1] * rows)
    panels = [
        (axes[2 * (at // columns), at % columns], axes[2 * (at // columns) + 1, at % columns]) for at in range(rows * columns)
    ]
    for upper, lower in panels[len(curves) :]:
        upper.remove(), lower.remove()
    for (upper, lower), (evaluation, sides) in zip(panels, curves.items(), strict=False):
        reliability_lines(upper, list(sides.items()), palette)
        named = [f"{of['method']}, ECE {of['ece']:.1f}" for of in content[evaluation].values()]
        upper.legend(upper.get_legend_handles_labels()[0], named, frameon=False, loc="upper left")
        upper.set(title=evaluation, xlabel="")
        for side, curve in sides.items():
            lower.stairs(
                100 * curve.share, np.linspace(0, 100, len(curve.share) + 1), color=palette.colour(side), linewidth=1.4
            )
        lower.set(xlabel="confidence in %", ylabel="% of images", xlim=(0, 101))
        upper.grid(alpha=0.3), lower.grid(alpha=0.3)
    figure.savefig(path, dpi=130)
    plt.close(figure)


# ---- attention


@torch.no_grad()
def attention(run: FinishedRun, folder: Path) -> str:
    """attention.png, attention.json: the share of each block's attention that falls on prompt rows, in both towers."""
    learner, towers = run.model.learner, {}
    text, image = _text_prompts(run), learner.image_prompts()
    if text.tensors and text_is_shown(run.clip):
        classes = spread(len(run.model.classnames), SAMPLE)
        towers["text"] = text_shares(run.clip, learner.plan, text, classes)
    if image.tensors:
        towers["image"] = image_shares(run.clip, run.some_images(SAMPLE), image)
    if not towers:
        return f"attention: {run.names['method']} puts no prompts into the towers whose attention can be shown"
    content = {tower: [asdict(share) for share in shares] for tower, shares in towers.items()}
    write_json(folder / "attention.json", content, indent=1)
    _draw_attention(folder / "attention.png", towers)
    lines = ["attention on prompts, % of each block's (mean over heads, images and classes; the first block is 1)"]
    for tower, shares in towers.items():
        lines.append(f"  {tower + ' tower, block':<22}" + "".join(f"{block:>7}" for block in range(1, len(shares) + 1)))
        rows = {"prompt rows": [share.prompts for share in shares], **_attention_curves(tower, shares)}
        for name, values in rows.items():
            form = ".3g" if name == "prompt rows" else ".1f"
            lines.append(f"    {name:<20}" + "".join(f"{'-' if v is None else format(v, form):>7}" for v in values))
    return "\n".join(lines)


def _draw_attention(path: Path, towers: Mapping[str, Sequence[Share]]) -> None:
    """A panel per tower: % of attention on prompts by block."""
    figure, axes = plt.subplots(1, len(towers), figsize=(5 * len(towers), 3.8), squeeze=False, layout="constrained")
    for axis, (tower, shares) in zip(axes.flat, towers.items(), strict=True):
        curves = _attention_curves(tower, shares)
        palette = Palette(curves, [*PAPER[:2], "#6b7280"])
        for name, values in curves.items():
            style = palette.line(name) | ({"linestyle": ":", "marker": ""} if name == "if even" else {})
            axis.plot(range(1, len(values) + 1), [float("nan") if v is None else v for v in values], **style, label=name)
        axis.set(title=f"{tower} tower", xlabel="block", ylabel="% of attention on prompts")
        axis.set_xticks(range(1, len(shares) + 1))
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _attention_curves(tower: str, shares: Sequence[Share]) -> dict[str, list[float | None]]:
    """Percent by block; None where the block computes no such row."""
    read_out = "EOT row" if tower == "text" else "CLS row"
    columns = {read_out: "read_out", "all rows": "all_rows", "if even": "even"}
    values = {name: [getattr(share, field) for share in shares] for name, field in columns.items()}
    return {name: [None if v is None else 100 * v for v in column] for name, column in values.items()}
