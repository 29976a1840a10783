"""The results below some folders, as groups of runs that differ in nothing but the seed. Reads result.json, never a log."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from files.untrusted import visible
from reports.arrays import PREDICTIONS, Predictions, read_predictions
from reports.published import method_rank
from runs.identity import EXECUTION_KEYS, compared
from runs.jobs import RESULT
from runs.result import Figure, Names, Result, Summary, load_result, targets

LONGEST_SETTING = 100  # characters of a setting in a label
MOST_SETTINGS = 4  # in a label; with more, the digest stands for them


@dataclass(frozen=True)
class Run:
    """A result and the predictions beside it."""

    path: Path  # of its result.json
    result: Result
    has_predictions: bool = True  # False: they cannot be read

    def predictions(self, evaluation: str) -> Predictions | None:
        """In the order of the test list, unreadable images included; None where there are none. ValueError where the file
        cannot be read."""
        if not self.has_predictions:
            return None
        classes = len(self.result["metrics"][evaluation].get("per_class", []))
        return read_predictions(self.path.with_name(PREDICTIONS), evaluation, classes or None)


@dataclass(frozen=True)
class Group:
    """Runs of one configuration over its seeds: of one task, with the same evaluations and summaries."""

    digest: str  # of the configuration without the seed
    runs: dict[int, Run]  # by seed, ascending
    settings: dict[str, str]  # dotted keys of what is run
    label: str  # the method, with the settings that tell it from others of its name
    is_baseline: bool = False  # of the task's baseline method

    @property
    def first(self) -> Result:
        """The result of the first seed."""
        return next(iter(self.runs.values())).result

    @property
    def names(self) -> Names:
        """The names of method, data, clip and protocol."""
        return self.first["names"]

    @property
    def shots(self) -> int:
        """Training images per class; below 1: all."""
        return self.first["shots"]

    @property
    def task(self) -> str:
        """The kind of task."""
        return self.first["task"]

    @property
    def figure(self) -> Figure:
        """The task's main figure."""
        return self.first["figure"]

    @property
    def protocol(self) -> str:
        """The protocol's name; evaluations of saved prompts are apart from runs that trained."""
        return ("saved prompts, " if self.settings.get("fit") == "false" else "") + self.names["protocol"]

    @property
    def evaluations(self) -> list[str]:
        """The names of the evaluations."""
        return list(self.first["metrics"])

    @property
    def targets(self) -> list[str]:
        """The evaluations on other datasets than the one trained on."""
        return targets(self.first)

    @property
    def summary(self) -> dict[str, Summary]:
        """Functions and evaluations of the summaries, by name (the values are those of the first seed)."""
        return self.first["summary"]

    @property
    def stages(self) -> list[dict[str, dict[int, float]]]:
        """The main figure after each earlier stage: evaluation -> seed -> value."""
        by_seed = {seed: run.result["stages"] for seed, run in self.runs.items()}
        return [
            {name: {seed: stages[at][name] for seed, stages in by_seed.items()} for name in stage}
            for at, stage in enumerate(self.first["stages"])
        ]

    def by_seed(self, evaluation: str) -> dict[int, float]:
        """The main figure of an evaluation, by seed."""
        return {seed: run.result["metrics"][evaluation][self.figure["key"]] for seed, run in self.runs.items()}


def best_of(figure: Figure) -> Callable[..., Any]:
    """`max`, or `min` where lower figures are better."""
    return max if figure["higher_is_better"] else min


def in_unit(figure: Figure) -> str:
    """The figure with its unit, for axes and legends: "accuracy in %"."""
    return f"{figure['title']} in {figure['unit']}" if figure["unit"] else figure["title"]


def read(folders: Iterable[Path], left_out: list[str] | None = None) -> list[Group]:
    """The groups of all results below the folders, ordered.

    Args:
        left_out: gets a sentence for each file that cannot be read and is in no figure; without it such a file is an error.

    Raises:
        ValueError: there are none, or none that can be read; two claim one seed of one configuration with different results;
            two that claim to differ in the seed alone differ in more.
    """
    folders = list(folders)
    files = sorted({os.path.realpath(file): file for folder in folders for file in sorted(folder.rglob(RESULT))}.values())
    below = visible(", ".join(map(str, folders)))
    if not files:
        raise ValueError(f"there is no {RESULT} below {below}: give the folder that runs write to (run.py output=...).")
    by_digest: dict[str, dict[int, Run]] = defaultdict(dict)
    for file in files:
        try:
            run = read_run(file, left_out)
        except ValueError as error:
            if left_out is None:
                raise
            left_out.append(visible(f"Left out: {error}"))
            continue
        earlier = by_digest[run.result["digest"]].setdefault(run.result["seed"], run)
        if earlier.result["metrics"] != run.result["metrics"]:
            raise ValueError(
                f"{earlier.path} and {file} are the same configuration and seed with different results: report their folders "
                "apart, or remove one."
            )
    if not by_digest:
        raise ValueError(f"none of the {len(files)} {RESULT} below {below} can be read.")
    groups = [make_group(digest, dict(sorted(runs.items()))) for digest, runs in by_digest.items()]
    return sorted(labelled(groups), key=order)


def read_run(file: Path, left_out: list[str] | None) -> Run:
    """A result, with its predictions where these can be read."""
    run = Run(file, load_result(file))
    try:
        for evaluation in run.result["metrics"]:
            run.predictions(evaluation)
    except ValueError as error:
        if left_out is None:
            raise
        left_out.append(visible(f"Without its predictions: {error}"))
        return replace(run, has_predictions=False)
    return run


def make_group(digest: str, runs: dict[int, Run]) -> Group:
    """The group of these runs, by seed. ValueError where they differ in more than the seed."""
    first, *others = runs.values()
    settings = settings_of(first.result)
    for other in others:
        both = [settings_of(run.result) | run.result["names"] | {"shots": run.result["shots"]} for run in (first, other)]
        # a file is the same wherever it lies: the digest is of what it holds
        differing = [key for key in differences(both) if not all("/" in str(flat.get(key)) for flat in both)]
        for what, of in COMPARED.items():
            if of(first.result) != of(other.result):
                differing.append(what)
        if differing:
            raise ValueError(
                f"{first.path} and {other.path} have the digest {digest} but differ in more than the seed "
                f"({', '.join(differing)}), so they are not averaged: run one of them again with force=true."
            )
    return Group(digest, runs, settings, first.result["names"]["method"])


# what runs of one configuration have in common, beside their settings
COMPARED: dict[str, Callable[[Result], Any]] = {
    "their evaluations": lambda result: set(result["metrics"]),
    "their task": lambda result: (result["task"], result["figure"]),
    "their summaries": lambda result: {name: (s["function"], s["evaluations"]) for name, s in result["summary"].items()},
    "their stages": lambda result: [set(stage) for stage in result["stages"]],
}


def settings_of(result: Result) -> dict[str, str]:
    """Dotted key -> value as JSON, of what is run: without the seed, and without how and where it is run."""
    config = result.get("config", {})
    root = str(config.get("data_root") or "\0")
    # which prompts an evaluation is of, or training starts from, is what is run
    kept = {key for key in ("ckpt", "init_from") if config.get(key) and (key != "ckpt" or not config.get("fit", True))}
    flat: dict[str, str] = {}

    def walk(key: str, value: Any) -> None:
        if key.split(".")[-1] in EXECUTION_KEYS.keys() - kept:
            return
        if isinstance(value, dict) and value:
            for name, child in value.items():
                walk(f"{key}.{name}" if key else name, child)
        else:
            flat[key] = json.dumps(value).replace(root, "DATA")

    walk("", compared(config))
    return flat


def differences(settings: list[dict[str, Any]]) -> list[str]:
    """The keys in which they are not all the same."""
    keys = {key: None for flat in settings for key in flat}  # in order
    return [key for key in keys if len({str(flat.get(key)) for flat in settings}) > 1]


def labelled(groups: list[Group]) -> list[Group]:
    """Labels groups of one method that stand in the same place by the settings in which they differ."""
    rows: dict[tuple, dict[tuple, list[Group]]] = defaultdict(lambda: defaultdict(list))
    for group in groups:
        names = group.names
        row = (group.task, group.figure["key"], group.protocol, names["clip"], names["method"])
        rows[row][names["data"], group.shots].append(group)
    result = []
    for cells in rows.values():
        crowded = [cell for cell in cells.values() if len(cell) > 1]
        keys = list(dict.fromkeys(key for cell in crowded for key in differences([group.settings for group in cell])))
        notes = {
            group.digest: ", ".join(setting_text(key, group.settings) for key in keys)
            for cell in cells.values()
            for group in cell
        }
        # where settings do not distinguish them, or only at length, the digest does
        clear = len(keys) <= MOST_SETTINGS and all(len({notes[g.digest] for g in cell}) == len(cell) for cell in crowded)
        for cell in cells.values():
            for group in cell:
                note = notes[group.digest] if clear else f"#{group.digest}" if len(cell) > 1 else ""
                result.append(replace(group, label=f"{group.label} ({note})" if note else group.label))
    return result


def setting_text(key: str, settings: dict[str, str]) -> str:
    """A setting as it stands in a label: "depth=9"."""
    value = settings.get(key, "absent").strip('"')
    return f"{key.removeprefix('method.')}={value if len(value) <= LONGEST_SETTING else f'{value[:LONGEST_SETTING]}…'}"


def order(group: Group) -> tuple:
    """Sorts groups as tables have them."""
    names = group.names
    place = (group.task, group.protocol, names["clip"], names["data"])
    return (*place, method_rank(names["method"]), group.label, group.shots)
