"""The report's section for relations: recall at all K, and the accuracy of each relation. `conf/task/relation.yaml` names this
module."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from reports.groups import Group
from reports.numbers import all_numbers
from reports.style import Palette
from reports.tables import Table


def sections(groups: Sequence[Group], tables: Sequence[Table], palette: Palette) -> list[tuple[str, Markup]]:
    """The section of relations, empty where the results have nothing for it."""
    titles = {"accuracy": "accuracy in %", "chance": "chance in %"}
    for group in groups:
        for metrics in group.first["metrics"].values():
            titles |= {f"by_relation {name}": f"{name} in %" for name in metrics.get("by_relation", {})}
    return [("By relation", all_numbers(groups, titles))]
