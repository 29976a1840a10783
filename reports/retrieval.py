"""The report's sections for retrieval: recall at all K, by direction, and images with the captions that were found for them.
`conf/task/retrieval.yaml` names this module."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from reports.cards import Lines, cards
from reports.groups import Group
from reports.numbers import against, all_numbers
from reports.samples import Sample
from reports.style import Palette
from reports.tables import Table

RANKS = (1, 5, 10)
DIRECTIONS = {"image_to_text": "image to text", "text_to_image": "text to image"}
TITLES = {f"{key}_r{k}": f"{title}, R@{k}" for key, title in DIRECTIONS.items() for k in RANKS}
TITLES |= {f"{key}_median_rank": f"{title}, median rank" for key, title in DIRECTIONS.items()}


def sections(groups: Sequence[Group], tables: Sequence[Table], palette: Palette) -> list[tuple[str, Markup]]:
    """The sections of retrieval, each empty where the results have nothing for it."""
    drawn = Markup()
    for key, title in DIRECTIONS.items():
        drawn += against(groups, {k: f"{key}_r{k}" for k in RANKS}, palette, f"recall in %, {title}", "K, captions looked at")
    return [
        ("Recall", all_numbers(groups, TITLES)),
        ("Recall against K", drawn),
        ("Retrieved captions", cards(groups, of_image, of_method)),
    ]


def of_image(sample: Sample) -> list[str]:
    """The image's own captions."""
    return sample.fields["captions"]


def of_method(sample: Sample) -> Lines:
    """The captions found first, the image's own marked."""
    found = [(f"{caption} ({score:.2f})", "gain" if own else "") for caption, score, own in sample.fields["retrieved"]]
    return [*found, (f"its own first at rank {sample.fields['rank']:,}", "")]
