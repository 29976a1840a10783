"""The report's sections for grounding: the accuracy beside chance, against the number of shots, and expressions with the
boxes that were chosen. `conf/task/grounding.yaml` names this module."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from reports import plots
from reports.cards import Lines, cards
from reports.groups import Group
from reports.numbers import all_numbers
from reports.pieces import figures, legend, note
from reports.rows import by
from reports.samples import Sample
from reports.stats import Spread, spread
from reports.style import Palette
from reports.tables import Table

HIT = 0.5  # a box is right if its IoU is greater than this
TITLES = {
    "accuracy": "accuracy in %",
    "chance": "chance in %",
    "upper_bound": "best choice in %",
    "mean_iou": "mean IoU",
    "undetected": "images without a detected box",
}
ABOUT = "Chance is the accuracy of a random choice among the proposals, best choice that of always taking the best one."


def sections(groups: Sequence[Group], tables: Sequence[Table], palette: Palette) -> list[tuple[str, Markup]]:
    """The sections of grounding, each empty where the results have nothing for it."""
    text = all_numbers(groups, TITLES)
    return [
        ("Accuracy beside chance", note(ABOUT) + text if text else text),
        ("Accuracy by the number of expressions learned", against_shots(groups, palette)),
        ("Chosen boxes", cards(groups, of_image, of_method, own_pictures=True)),
    ]


def against_shots(groups: Sequence[Group], palette: Palette) -> Markup:
    """A plot for each protocol, backbone, dataset and evaluation in which a method was run with several numbers of shots.
    Methods with one number, such as those that learn nothing, are points."""
    drawn, labels = [], []
    for (protocol, clip, data), members in by(groups, lambda g: (g.protocol, g.names["clip"], g.names["data"])).items():
        for evaluation in dict.fromkeys(name for group in members for name in group.evaluations):
            lines = _lines(members, evaluation)
            if any(len(points) > 1 for points in lines.values()):
                labels += lines
                title = f"{data}, {protocol}, clip {clip}: {evaluation}"
                drawn.append(plots.against_plot(lines, palette, ("expressions learned", "accuracy in %"), title))
    return legend(palette, labels) + figures(drawn) if drawn else Markup()


def _lines(groups: Sequence[Group], evaluation: str) -> dict[str, list[tuple[int, Spread]]]:
    """By label: (shots, accuracy), in order; runs on all images, whose number is not told, are left out."""
    lines: dict[str, list[tuple[int, Spread]]] = {}
    for group in sorted(groups, key=lambda g: g.shots):
        if evaluation in group.evaluations and group.shots >= 0:
            lines.setdefault(group.label, []).append((group.shots, spread(list(group.by_seed(evaluation).values()))))
    return lines


def of_image(sample: Sample) -> list[str]:
    """The expression, and an explanation of the boxes drawn."""
    count = sample.fields["proposals"]
    return [sample.fields["expression"], f"gold box in green, {count} proposal{'s' * (count != 1)}"]


def of_method(sample: Sample) -> Lines:
    """The IoU of the chosen box with the gold one."""
    right = sample.fields["iou"] > HIT
    return [(f"IoU {sample.fields['iou']:.2f}", "gain" if right else "loss"), (f"score {sample.fields['score']:.2f}", "")]
