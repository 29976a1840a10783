"""The content of published.json: published figures with their recipes, and the usual order of methods and datasets in
tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from files.untrusted import read_json
from runs.summaries import summary_value

if TYPE_CHECKING:
    from reports.groups import Group

AVERAGE = "average"  # stands for a dataset where figures are averages over datasets
MARK = "†"  # behind a figure that was not compared with a publication
ABSENT = object()


@dataclass(frozen=True)
class Published:
    """A published figure, in the unit of the task's main figure, and where it is from."""

    value: float
    source: str
    unverified: bool  # it was not compared with a publication

    def __str__(self) -> str:
        return f"{self.value:.2f}{MARK * self.unverified}"


@cache
def published() -> dict[str, Any]:
    """The content of published.json."""
    return read_json(Path(__file__).with_name("published.json"), "the published figures")


def method_rank(method: str) -> tuple[int, str]:
    """Sorts methods as the field's tables have them; others follow by name."""
    return _rank(method, published()["methods"])


def dataset_rank(data: str) -> tuple[int, str]:
    """Sorts datasets as the field's tables have them; others follow by name."""
    return _rank(data, published()["datasets"])


def _rank(name: str, order: list[str]) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)


def notes(figures: Iterable[Published]) -> list[str]:
    """The sentences below the first table that has these figures: their sources, the mark, and the precision."""
    by_mark: dict[bool, dict[str, None]] = {False: {}, True: {}}
    for figure in figures:
        by_mark[figure.unverified][figure.source] = None
    sentences = {False: "Published: {}.", True: f"{MARK} Published, but not compared with a text by us: {{}}."}
    found = [sentences[mark].format("; ".join(sources)) for mark, sources in by_mark.items() if sources]
    return [*found, published()["precision"]] if found else []


def is_published_average(protocol: str, datasets: set[str]) -> bool:
    """Whether the published averages of a protocol are over these datasets."""
    return set(published()["protocols"].get(protocol, {}).get("average_over", [])) == datasets


def recipe_settings(protocol: str, recipe: str, data: str) -> dict[str, Any]:
    """The settings, by dotted key, of a run of a recipe of published.json on a dataset; values as `has_value` takes them."""
    known = published()
    entry = known["recipes"][recipe]
    of_data = entry.get("of_data", {}).get(data, {})
    return known["every_recipe"] | known["protocols"][protocol]["settings"] | entry["settings"] | of_data


def is_of_recipe(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a run with these settings, by dotted key, has all those of a recipe, and no others in the groups that
    published.json calls closed."""
    unknown = [key for key in settings if key.split(".")[0] in published()["closed"] and key not in wanted]
    return not unknown and all(has_value(settings, key, value) for key, value in wanted.items())


def has_value(settings: Mapping[str, Any], key: str, wanted: Any) -> bool:
    """Whether a setting is as wanted: this value; "${KEY}", that of another key; or {"one_of": values}, {"not": value},
    {"any": true}, {"absent": true}."""
    given = settings.get(key, ABSENT)
    if isinstance(wanted, Mapping) and wanted:
        ((condition, of),) = wanted.items()
        if condition == "absent":
            return not any(f"{name}.".startswith(f"{key}.") for name in settings)
        return (
            given is not ABSENT
            and {"one_of": lambda: given in of, "not": lambda: given != of, "any": lambda: True}[condition]()
        )
    if isinstance(wanted, str) and wanted.startswith("${"):
        wanted = settings.get(wanted[2:-1], ABSENT)
        return given is not ABSENT and given == wanted
    return given == wanted and isinstance(given, bool) == isinstance(wanted, bool)


def published_figures(groups: Sequence[Group], data: str | None) -> dict[str, Published]:
    """Column -> published figure of a row: of the recipe that its groups are runs of; empty where there is none.

    Args:
        groups: those of one row: one protocol, method and backbone, and one dataset unless `data` is `AVERAGE`.
        data: the dataset trained on, or `AVERAGE`, which all groups must be of the recipe for; None: no published figures.
    """
    first = groups[0]
    known = published()["protocols"].get(first.protocol, {})
    if data is None or (known.get("task"), known.get("figure")) != (first.task, first.figure["key"]):
        return {}
    figures = {
        column: figure
        for block, group in _blocks_of(known, groups, data)
        for column, figure in _figures_of(known, block, group, data).items()
    }
    return figures | _summaries(first, known, figures)


def _blocks_of(known: Mapping[str, Any], groups: Sequence[Group], data: str) -> Iterator[tuple[dict[str, Any], Group]]:
    """Each block of figures whose recipe some of the groups are runs of, with one of these groups."""
    able = [group for group in groups if (group.names["clip"], group.shots) == (known["clip"], known["shots"])]
    able = [group for group in able if not group.stages]
    flat = {group.digest: group.flat_config for group in able}
    for block in known["blocks"]:
        if data not in block["figures"] or published()["recipes"][block["recipe"]]["method"] != groups[0].names["method"]:
            continue
        members = [
            group
            for group in able
            if is_of_recipe(flat[group.digest], recipe_settings(group.protocol, block["recipe"], group.names["data"]))
        ]
        if members and (data != AVERAGE or {g.names["data"] for g in members} == {g.names["data"] for g in groups}):
            yield block, members[0]


def _figures_of(known: Mapping[str, Any], block: Mapping[str, Any], group: Group, data: str) -> dict[str, Published]:
    """The figures of a block, without averages over other datasets than the group's."""
    figures = dict(block["figures"][data])
    for name, summary in group.summary.items():
        published_over = known.get("summaries", {}).get(name)
        if published_over and set(summary["evaluations"]) - {data} != set(published_over) - {data}:
            figures.pop(name, None)
    return {name: Published(value, block["source"], block.get("unverified", False)) for name, value in figures.items()}


def _summaries(group: Group, known: Mapping[str, Any], figures: Mapping[str, Published]) -> dict[str, Published]:
    """Summaries that no publication states, computed from the published figures of their evaluations."""
    result = {}
    for name, summary in group.summary.items():
        of = [figures.get(evaluation) for evaluation in summary["evaluations"]]
        if name in figures or name in known.get("summaries", {}) or None in of:
            continue
        values = {evaluation: figures[evaluation].value for evaluation in summary["evaluations"]}
        value = summary_value(summary["function"], summary["evaluations"], values)
        result[name] = Published(value, of[0].source, any(figure.unverified for figure in of))
    return result
