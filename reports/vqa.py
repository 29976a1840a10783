"""The report's sections for visual question answering: accuracy by the number of examples and by the kind of answer, and
questions with their answers. `conf/task/vqa.yaml` names this module."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from reports.cards import Lines, cards
from reports.groups import Group
from reports.numbers import against, all_numbers, numbers
from reports.samples import Sample
from reports.style import Palette
from reports.tables import Table

BY_SHOTS = "by_shots"


def sections(groups: Sequence[Group], tables: Sequence[Table], palette: Palette) -> list[tuple[str, Markup]]:
    """The sections of question answering, each empty where the results have nothing for it."""
    shots = {int(k) for group in groups for k in _shots(group)}
    names = {k: f"{BY_SHOTS} {k}" for k in sorted(shots)}
    titles = {name: f"{k} examples" for k, name in names.items()}
    return [
        ("Accuracy by the number of examples", against(groups, names, palette, "accuracy in %", "examples in the context")),
        ("All numbers", all_numbers(groups, titles)),
        ("Questions and answers", cards(groups, of_image, of_method)),
    ]


def _shots(group: Group) -> list[str]:
    names = [name for metrics in group.first["metrics"].values() for name in numbers(metrics)]
    return [name.removeprefix(f"{BY_SHOTS} ") for name in names if name.removeprefix(f"{BY_SHOTS} ").isdecimal()]


def of_image(sample: Sample) -> list[str]:
    """The question and the answers of people."""
    return [sample.fields["question"], ", ".join(sample.fields["answers"])]


def of_method(sample: Sample) -> Lines:
    """The answer, the number of examples in its context, and its accuracy."""
    accuracy, examples = sample.fields["accuracy"], sample.fields["shots"]
    kind = "gain" if accuracy >= 50 else "loss"
    return [(sample.fields["answer"] or "(no words)", kind), (f"{accuracy:.0f} %, {examples} examples", "")]
