"""The four looks at a finished run. Each writes its files into a folder and returns what the screen says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_modules.results import write_json
from prompts.engine.attention import Share, image_shares, text_shares
from prompts.engine.rows import TowerPrompts
from prompts.parts.words import LearnedTokens
from reports.collect import Predictions
from reports.insight import sheet
from reports.insight.finished import FinishedRun, spread
from reports.plots import reliability_lines
from reports.stats import Calibration, calibration
from reports.style import PAPER, Palette, plt

SAMPLE = 64  # images and classes that attention, and context that depends on the image, are averaged over
SCREEN = 16  # vectors that the screen shows; words.txt has all


# ---- words


@torch.no_grad()
def words(run: FinishedRun, folder: Path, count: int) -> str:
    """words.txt, words.json: the nearest vocabulary words of each context vector that enters the text tower."""
    prompts, depends_on = _text_prompts(run), run.model.text_depends_on()
    rows = prompts.inputs or prompts.rows.get(0)
    if rows is None or not rows.count:
        return f"words: {run.names['method']} has no context vectors among its words"
    vocabulary = LearnedTokens(run.clip)
    streams = {"q": rows.q, "k": rows.k, "v": rows.v} if rows.k is not None or rows.v is not None else {"": rows.q}
    found = []
    for stream, vectors in streams.items():
        if vectors is None:
            continue
        if rows.per == "image":
            vectors = vectors.mean(0)
        owners = run.model.classnames if rows.per == "class" else [None]
        near = iter(vocabulary.nearest(vectors.flatten(0, -2), count))
        for owner in owners:
            for place in range(1, rows.count + 1):
                near_words = [{"word": word, "distance": round(distance, 4)} for word, distance in next(near)]
                found.append({"stream": stream, "class": owner, "vector": place, "words": near_words})
    spacing = vocabulary.spacing()
    heading = (
        f"the nearest of {len(vocabulary):,} vocabulary words to each context vector, and their Euclidean distances\n"
        f"(a word's own nearest other word is {spacing:.3g} away: a vector farther off than that resembles no word)"
    )
    if rows.per == "image":
        heading += f"\n(context depends on the image: the mean over {len(rows.q)} test images)"
    content = {"vocabulary": len(vocabulary), "spacing": spacing, "depends_on": depends_on, "vectors": found}
    write_json(folder / "words.json", content)
    lines = _word_lines(found)
    (folder / "words.txt").write_text("\n".join([heading, "", *lines]) + "\n", encoding="utf-8")
    more = [f"  ... {len(lines) - SCREEN:,} more in words.txt"] * (len(lines) > SCREEN)
    return "\n".join([f"words: {heading}", *lines[:SCREEN], *more])


def _word_lines(found: Sequence[dict[str, Any]]) -> list[str]:
    table = [
        [
            " ".join(filter(None, (each["stream"], each["class"], str(each["vector"])))),
            *(f"{near['word']} {near['distance']:.3g}" for near in each["words"]),
        ]
        for each in found
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  " + "   ".join([row[0].rjust(widths[0]), *map(str.ljust, row[1:], widths[1:])]).rstrip() for row in table]


@torch.no_grad()
def _text_prompts(run: FinishedRun) -> TowerPrompts:
    """The rows that enter the text tower; of methods whose text depends on the image, those of some test images."""
    model = run.model
    if model.text_depends_on() == "image":
        image = model.clip.encode_image(run.some_images(SAMPLE), model.learner.image_prompts())
    else:
        image = torch.zeros(1, model.clip.embed_dim, device=run.device)
    return model.learner.text_prompts(image)


# ---- images gained and lost


def images(run: FinishedRun, folder: Path, evaluations: Sequence[str], most: int) -> str:
    """images-EVALUATION.png, images.json: what the method alone, or the baseline alone, gets right."""
    method, lines, content = run.names["method"], [], {}
    for evaluation in evaluations:
        theirs = run.baseline(evaluation)
        if theirs is None:
            return "images: this is zero-shot CLIP itself; --against FOLDER compares it with another run"
        ours, dataset = run.predictions(evaluation), run.dataset(evaluation)
        names = run.test_set(evaluation).classnames
        if any(
            len(each.label_N) != len(dataset) or max(each.label_N.max(), each.predicted_N.max()) >= len(names)
            for each in (ours, theirs)
        ):
            raise ValueError(
                f"the predictions of {evaluation} are not of the images that are here: give the run's data_root=PATH."
            )
        found = sheet.changes(ours, theirs)
        said = (
            f"{evaluation}: {method} gains {len(found.gained):,} and loses {len(found.lost):,} of {len(ours.label_N):,} images "
            f"against {run.baseline_name}"
        )
        named = [(run.baseline_name, theirs), (method if method != run.baseline_name else "this run", ours)]
        sheet.draw(folder / f"images-{evaluation}.png", said, found, most, dataset, names, named)
        lines.append(f"images: {said}")
        content[evaluation] = {
            kind: [
                {
                    "image": dataset.items[place].path,
                    "true": names[ours.label_N[place]],
                    "baseline": names[theirs.predicted_N[place]],
                    "this run": names[ours.predicted_N[place]],
                }
                for place in places
            ]
            for kind, places in asdict(found).items()
        }
    write_json(folder / "images.json", {"baseline": run.baseline_name, "this run": method, "evaluations": content})
    return "\n".join(lines)


# ---- calibration


def calibrate(run: FinishedRun, folder: Path, evaluations: Sequence[str]) -> str:
    """calibration.png, calibration.json: calibration error and reliability, beside the baseline's where it is known."""
    content, curves = {}, {}
    for evaluation in evaluations:
        baseline = run.baseline(evaluation, evaluate=False)
        each = {"this run": (run.names["method"], run.predictions(evaluation))}
        if baseline:
            each["baseline"] = (run.baseline_name, baseline)
        curves[evaluation] = {side: _calibration(predicted) for side, (_, predicted) in each.items()}
        content[evaluation] = {
            side: {"method": method, **_summary(predicted, curves[evaluation][side])}
            for side, (method, predicted) in each.items()
        }
    _draw_calibration(folder / "calibration.png", content, curves)
    write_json(folder / "calibration.json", content)
    lines = [
        f"  {evaluation:<12} {of['method']:<14} accuracy {of['accuracy']:5.1f}   mean confidence {of['confidence']:5.1f}   "
        f"ECE {of['ece']:5.2f}"
        for evaluation, sides in content.items()
        for of in sides.values()
    ]
    return "\n".join(["calibration, in % (ECE: expected calibration error, 15 bins)", *lines])


def _calibration(predicted: Predictions) -> Calibration:
    read = predicted.confidence_N > 0
    return calibration(predicted.confidence_N[read], predicted.correct_N[read])


def _summary(predicted: Predictions, found: Calibration) -> dict[str, Any]:
    read = predicted.confidence_N > 0
    bins = {name: [None if x != x else float(x) for x in values] for name, values in vars(found).items()}  # NaN: empty
    means = {"accuracy": predicted.correct_N[read].mean(), "confidence": predicted.confidence_N[read].mean()}
    return {"ece": found.error, **{name: 100 * float(mean) for name, mean in means.items()}, "bins": bins}


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
    learner, found = run.model.learner, {}
    prompts, pictures = _text_prompts(run), learner.image_prompts()
    if prompts.tensors:
        classes = spread(len(run.model.classnames), SAMPLE)
        found["text"] = text_shares(run.clip, learner.plan, prompts, classes)
    if pictures.tensors:
        found["image"] = image_shares(run.clip, run.some_images(SAMPLE), pictures)
    if not found:
        return f"attention: {run.names['method']} puts no prompts into the towers"
    content = {tower: [asdict(share) for share in shares] for tower, shares in found.items()}
    write_json(folder / "attention.json", content)
    figure, axes = plt.subplots(1, len(found), figsize=(5 * len(found), 3.8), squeeze=False, layout="constrained")
    lines = ["attention on prompts, % of each block's (mean over heads, images and classes; the first block is 1)"]
    for axis, (tower, shares) in zip(axes.flat, found.items(), strict=True):
        curves = _attention_curves(tower, shares)
        lines.append(f"  {tower + ' tower, block':<22}" + "".join(f"{block:>7}" for block in range(1, len(shares) + 1)))
        for name, values in {"prompt rows": [share.prompts for share in shares], **curves}.items():
            form = ".3g" if name == "prompt rows" else ".1f"
            lines.append(f"    {name:<20}" + "".join(f"{'-' if v is None else format(v, form):>7}" for v in values))
        palette = Palette(curves, [*PAPER[:2], "#6b7280"])
        for name, values in curves.items():
            style = palette.line(name) | ({"linestyle": ":", "marker": ""} if name == "if even" else {})
            axis.plot(range(1, len(values) + 1), [float("nan") if v is None else v for v in values], **style, label=name)
        axis.set(title=f"{tower} tower", xlabel="block", ylabel="% of attention on prompts")
        axis.set_xticks(range(1, len(shares) + 1))
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(folder / "attention.png", dpi=130)
    plt.close(figure)
    return "\n".join(lines)


def _attention_curves(tower: str, shares: Sequence[Share]) -> dict[str, list[float | None]]:
    read_out = "EOT row" if tower == "text" else "CLS row"
    columns = {read_out: "read_out", "all rows": "all_rows", "if even": "even"}
    values = {name: [getattr(share, field) for share in shares] for name, field in columns.items()}
    return {name: [None if v is None else 100 * v for v in column] for name, column in values.items()}
