"""The report's sections for detection: all metrics, the classes, and images with their boxes. `conf/task/detection.yaml` names
this module."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from reports.groups import Group
from reports.numbers import all_numbers
from reports.style import Palette
from reports.tables import Table

TITLES = {
    "map": "box mAP", "map_50": "box mAP at 0.5", "map_75": "box mAP at 0.75", "map_small": "small boxes",
    "map_medium": "medium boxes", "map_large": "large boxes", "mask_map": "mask mAP", "mask_map_50": "mask mAP at 0.5",
    "mask_map_75": "mask mAP at 0.75", "mask_map_small": "small masks", "mask_map_medium": "medium masks",
    "mask_map_large": "large masks",
}  # fmt: skip


def sections(groups: Sequence[Group], tables: Sequence[Table], palette: Palette) -> list[tuple[str, Markup]]:
    """The sections of detection, each empty where the results have nothing for it."""
    return [("All metrics", all_numbers(groups, TITLES))]
