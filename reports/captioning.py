"""The report's sections for captioning: all metrics, and images with their captions. `conf/task/captioning.yaml` names this
module."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from reports.cards import Lines, cards
from reports.groups import Group
from reports.numbers import all_numbers
from reports.samples import Sample
from reports.style import Palette
from reports.tables import Table

TITLES = {
    "cider_d": "CIDEr-D",
    **{f"bleu_{n}": f"BLEU-{n}" for n in range(1, 5)},
    "rouge_l": "ROUGE-L",
    "meteor": "METEOR",
    "spice": "SPICE",
    "clip_score": "CLIPScore",
    "ref_clip_score": "RefCLIPScore",
}


def sections(groups: Sequence[Group], tables: Sequence[Table], palette: Palette) -> list[tuple[str, Markup]]:
    """The sections of captioning, each empty where the results have nothing for it."""
    return [
        ("All metrics", all_numbers(groups, TITLES)),
        ("Captions", cards(groups, of_image, of_method)),
    ]


def of_image(sample: Sample) -> list[str]:
    """The reference captions."""
    return sample.fields["references"]


def of_method(sample: Sample) -> Lines:
    """The generated caption and its scores."""
    scores = ", ".join(f"{TITLES.get(name, name)} {value:.1f}" for name, value in sample.fields["scores"].items())
    return [(sample.fields["caption"] or "(no words)", ""), (scores, "")]
