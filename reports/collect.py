"""Reads all result.json files below some folders, as groups of runs that differ in nothing but the seed."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from files.untrusted import visible
from reports.groups import Group, Run
from reports.published import method_rank
from reports.settings import differences, labelled, settings_of
from runs.jobs import RESULT
from runs.result import Result, load_result


def read(folders: Iterable[Path], left_out: list[str] | None = None) -> list[Group]:
    """The groups of all results below the folders, ordered.

    Args:
        left_out: a list that gets a sentence for each file that cannot be read; None: such a file is an error.

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
    groups = [make_group(digest, dict(sorted(runs.items()))) for digest, runs in without_stages(by_digest).items()]
    return sorted(labelled(groups), key=order)


def read_run(file: Path, left_out: list[str] | None) -> Run:
    """A result, with its predictions and samples where these can be read."""
    run = Run(file, load_result(file))
    for what, read_one in (("predictions", run.predictions), ("samples", run.samples)):
        try:
            for evaluation in run.result["metrics"]:
                read_one(evaluation)
        except ValueError as error:
            if left_out is None:
                raise
            left_out.append(visible(f"Without its {what}: {error}"))
            run = replace(run, **{f"has_{what}": False})  # type: ignore[arg-type]
    return run


def without_stages(by_digest: Mapping[str, Mapping[int, Run]]) -> dict[str, dict[int, Run]]:
    """The runs without those that are an earlier stage of another run, whose result repeats their figures."""
    runs = [run.result for seeds in by_digest.values() for run in seeds.values()]
    earlier = {_history(result, result["stages"][:count]) for result in runs for count in range(1, len(result["stages"]) + 1)}
    last_stages = {
        digest: {seed: run for seed, run in seeds.items() if _history(run.result, _all_stages(run.result)) not in earlier}
        for digest, seeds in by_digest.items()
    }
    return {digest: seeds for digest, seeds in last_stages.items() if seeds}


def _all_stages(result: Result) -> list[dict[str, float]]:
    """The main figure by evaluation after each stage, the run itself being the last."""
    key = result["figure"]["key"]
    return [*result["stages"], {name: metrics[key] for name, metrics in result["metrics"].items()}]


def _history(result: Result, stages: Sequence[Mapping[str, float]]) -> str:
    """A key that is equal for runs of the same task, names, shots and seed whose stages have the same figures."""
    what = [result[key] for key in ("task", "figure", "names", "shots", "seed")]
    return json.dumps([what, stages], sort_keys=True)


def make_group(digest: str, runs: dict[int, Run]) -> Group:
    """The group of these runs, by seed. ValueError where they differ in more than the seed."""
    first, *others = runs.values()
    settings = settings_of(first.result)
    for other in others:
        both = [settings_of(run.result) | run.result["names"] | {"shots": run.result["shots"]} for run in (first, other)]
        # paths may differ: the digest is of the files' content
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


# what must be equal in the runs of one configuration, beside their settings
COMPARED: dict[str, Callable[[Result], Any]] = {
    "their evaluations": lambda result: set(result["metrics"]),
    "their task": lambda result: (result["task"], result["figure"]),
    "their summaries": lambda result: {name: (s["function"], s["evaluations"]) for name, s in result["summary"].items()},
    "their stages": lambda result: [set(stage) for stage in result["stages"]],
}


def order(group: Group) -> tuple:
    """The sort key of a group: the order of rows in tables."""
    names = group.names
    benchmark = (group.task, group.protocol, names["clip"], names["data"])
    return (*benchmark, method_rank(names["method"]), group.label, group.shots)
