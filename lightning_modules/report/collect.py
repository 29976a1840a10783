"""The results below some folders, as groups of runs that differ in nothing but the seed. Reads result.json, never a log."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lightning_modules.identity import MACHINE, compared
from lightning_modules.jobs import RESULT

# the order of the field's tables; others follow
METHODS = ("zeroshot", "cupl", "linear_probe", "coop", "cocoop", "kgcoop", "vpt", "ivlp", "maple", "promptsrc")
PREDICTIONS = "predictions.npz"


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

    def predictions(self, evaluation: str) -> Predictions | None:
        file = self.path.with_name(PREDICTIONS)
        if not file.exists():
            return None
        with np.load(file, allow_pickle=False) as arrays:
            keys = [f"{evaluation}/{part}" for part in ("pred", "label", "confidence")]
            if not set(keys) <= set(arrays.files):
                return None
            predicted, label, confidence = (arrays[key] for key in keys)
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


def read(folders: Iterable[Path]) -> list[Group]:
    """The groups of all results below the folders, ordered.

    Raises:
        ValueError: there are none; one cannot be read; two claim one seed of one configuration with different results;
            two that claim to differ in the seed alone differ in more.
    """
    folders = list(folders)
    files = sorted({file.resolve(): file for folder in folders for file in sorted(folder.rglob(RESULT))}.values())
    if not files:
        below = ", ".join(map(str, folders))
        raise ValueError(f"there is no {RESULT} below {below}: give the folder that runs write to (run.py output=...).")
    found: dict[str, dict[int, Run]] = defaultdict(dict)
    for file in files:
        run = Run(file, load(file))
        seeds = found[run.result["digest"]]
        before = seeds.setdefault(run.result["seed"], run)
        if before.result["metrics"] != run.result["metrics"]:
            raise ValueError(
                f"{before.path} and {file} are the same configuration and seed with different results: report their folders "
                "apart, or remove one."
            )
    groups = [make_group(digest, dict(sorted(runs.items()))) for digest, runs in found.items()]
    return sorted(labelled(groups), key=order)


def load(file: Path) -> dict[str, Any]:
    try:
        result = json.loads(file.read_text())
        missing = [key for key in ("digest", "names", "seed", "shots", "metrics") if key not in result]
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{file} cannot be read ({error}): remove it and run that job again.") from error
    if missing:
        raise ValueError(f"{file} has no {', '.join(missing)}: it was not written by run.py, or by a version too old for this.")
    return result


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
    return f"{key.removeprefix('method.')}={value}"


def order(group: Group) -> tuple:
    return (group.protocol, group.names["clip"], group.names["data"], rank(group.names["method"]), group.label, group.shots)


def rank(method: str) -> tuple[int, str]:
    return (METHODS.index(method) if method in METHODS else len(METHODS), method)
