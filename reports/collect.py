"""The results below some folders, as groups of runs that differ in nothing but the seed. Reads result.json, never a log."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from files.untrusted import visible
from reports.arrays import read_arrays
from runs.identity import MACHINE, compared
from runs.jobs import RESULT
from runs.result import load_result

# the order of the field's tables; others follow
METHODS = ("zeroshot", "cupl", "linear_probe", "coop", "cocoop", "kgcoop", "vpt", "ivlp", "maple", "promptsrc")
PREDICTIONS = "predictions.npz"
LONGEST = 100  # characters of a setting in a label


@dataclass(frozen=True)
class Predictions:
    """Of one evaluation, in the order of its test list: class index, label, probability of the predicted class."""

    predicted_N: np.ndarray
    label_N: np.ndarray
    confidence_N: np.ndarray

    @property
    def correct_N(self) -> np.ndarray:
        return self.predicted_N == self.label_N


@dataclass(frozen=True)
class Run:
    path: Path  # of its result.json
    result: dict[str, Any]
    readable: bool = True  # its predictions

    def predictions(self, evaluation: str) -> Predictions | None:
        """None where there are none. ValueError where the file cannot be read."""
        found = None
        if self.readable:
            classes = len(self.result["metrics"][evaluation].get("per_class", []))
            found = read_arrays(self.path.with_name(PREDICTIONS), evaluation, classes or None)
        if found is None:
            return None
        predicted, label, confidence = (found[part] for part in ("pred", "label", "confidence"))
        read = confidence > 0  # an image that cannot be read is not predicted
        return Predictions(predicted[read].astype(int), label[read].astype(int), confidence[read].astype(float))


@dataclass(frozen=True)
class Group:
    """Runs of one configuration over its seeds."""

    names: dict[str, str]  # protocol, data, clip, method
    shots: int
    digest: str  # of the configuration without the seed
    runs: dict[int, Run]  # by seed, ascending
    settings: dict[str, str]  # dotted keys of what is run
    label: str  # the method, with the settings that tell it from others of its name

    @property
    def protocol(self) -> str:
        return ("saved prompts, " if self.settings.get("fit") == "false" else "") + self.names["protocol"]

    @property
    def first(self) -> dict[str, Any]:
        return next(iter(self.runs.values())).result

    @property
    def evaluations(self) -> list[str]:
        return list(self.first["metrics"])

    def accuracy(self, evaluation: str) -> dict[int, float]:
        """Percent, by seed."""
        return {seed: run.result["metrics"][evaluation]["accuracy"] for seed, run in self.runs.items()}


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
    found: dict[str, dict[int, Run]] = defaultdict(dict)
    for file in files:
        try:
            run = read_run(file, left_out)
        except ValueError as error:
            if left_out is None:
                raise
            left_out.append(visible(f"Left out: {error}"))
            continue
        seeds = found[run.result["digest"]]
        before = seeds.setdefault(run.result["seed"], run)
        if before.result["metrics"] != run.result["metrics"]:
            raise ValueError(
                f"{before.path} and {file} are the same configuration and seed with different results: report their folders "
                "apart, or remove one."
            )
    if not found:
        raise ValueError(f"none of the {len(files)} {RESULT} below {below} can be read.")
    groups = [make_group(digest, dict(sorted(runs.items()))) for digest, runs in found.items()]
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
        return replace(run, readable=False)
    return run


def make_group(digest: str, runs: dict[int, Run]) -> Group:
    first, *others = runs.values()
    settings = settings_of(first.result)
    for other in others:
        both = [settings_of(run.result) | run.result["names"] | {"shots": run.result["shots"]} for run in (first, other)]
        # a file is the same wherever it lies: the digest is of what it holds
        differing = [key for key in differences(both) if not all("/" in str(each.get(key)) for each in both)]
        if set(first.result["metrics"]) != set(other.result["metrics"]):
            differing.append("their evaluations")
        if differing:
            raise ValueError(
                f"{first.path} and {other.path} have the digest {digest} but differ in more than the seed "
                f"({', '.join(differing)}), so they are not averaged: run one of them again with force=true."
            )
    return Group(first.result["names"], first.result["shots"], digest, runs, settings, first.result["names"]["method"])


def settings_of(result: dict[str, Any]) -> dict[str, str]:
    """Dotted key -> value as JSON, of what is run: without the seed, and without how and where it is run."""
    config = result.get("config", {})
    root = str(config.get("data_root") or "\0")
    # which prompts an evaluation is of, or training starts from, is what is run
    kept = {key for key in ("ckpt", "init_from") if config.get(key) and (key != "ckpt" or not config.get("fit", True))}
    flat: dict[str, str] = {}

    def walk(key: str, value: Any) -> None:
        if key.split(".")[-1] in MACHINE.keys() - kept:
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
    keys = {key: None for each in settings for key in each}  # in order
    return [key for key in keys if len({str(each.get(key)) for each in settings}) > 1]


def labelled(groups: list[Group]) -> list[Group]:
    """Labels groups of one method that stand in the same place by the settings in which they differ."""
    places: dict[tuple, dict[tuple, list[Group]]] = defaultdict(lambda: defaultdict(list))
    for group in groups:
        names = group.names
        places[group.protocol, names["clip"], names["method"]][names["data"], group.shots].append(group)
    result = []
    for cells in places.values():
        crowded = [cell for cell in cells.values() if len(cell) > 1]
        keys = list(dict.fromkeys(key for cell in crowded for key in differences([group.settings for group in cell])))
        told = {group.digest: ", ".join(tell(key, group.settings) for key in keys) for cell in cells.values() for group in cell}
        # what settings cannot tell apart, or only at length, the digest does
        clear = len(keys) <= 4 and all(len({told[group.digest] for group in cell}) == len(cell) for cell in crowded)
        for cell in cells.values():
            for group in cell:
                note = told[group.digest] if clear else f"#{group.digest}" if len(cell) > 1 else ""
                result.append(replace(group, label=f"{group.label} ({note})" if note else group.label))
    return result


def tell(key: str, settings: dict[str, str]) -> str:
    value = settings.get(key, "absent").strip('"')
    return f"{key.removeprefix('method.')}={value if len(value) <= LONGEST else f'{value[:LONGEST]}…'}"


def order(group: Group) -> tuple:
    return (group.protocol, group.names["clip"], group.names["data"], rank(group.names["method"]), group.label, group.shots)


def rank(method: str) -> tuple[int, str]:
    return (METHODS.index(method) if method in METHODS else len(METHODS), method)
