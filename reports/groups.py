"""Results in the report: a run, and a group, which is the runs of one configuration over its seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.arrays import PREDICTIONS, Predictions, read_predictions
from reports.samples import SAMPLES, Sample, read_samples
from runs.identity import compared
from runs.result import Figure, Names, Result, Summary, targets


@dataclass(frozen=True)
class Run:
    """A result, and the predictions and samples beside it."""

    path: Path  # its result.json
    result: Result
    has_predictions: bool = True  # False: they cannot be read
    has_samples: bool = True  # the same of samples

    def predictions(self, evaluation: str) -> Predictions | None:
        """The predictions in the order of the test list, unreadable images included; None where the run has none. ValueError
        where the file cannot be read."""
        if not self.has_predictions:
            return None
        classes = len(self.result["metrics"][evaluation].get("per_class", []))
        return read_predictions(self.path.with_name(PREDICTIONS), evaluation, classes or None)

    def samples(self, evaluation: str) -> list[Sample]:
        """Single images with their predictions; empty where the run has none. ValueError where they cannot be read."""
        return read_samples(self.path.with_name(SAMPLES), evaluation) if self.has_samples else []


@dataclass(frozen=True)
class Group:
    """Runs of one configuration over its seeds: of one task, with the same evaluations and summaries."""

    digest: str  # the configuration's digest, without the seed
    runs: dict[int, Run]  # by seed, ascending
    settings: dict[str, str]  # `settings_of` the configuration
    label: str  # the method, with the settings in which it differs from other groups of the method
    is_baseline: bool = False  # whether this is the task's baseline method

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
        """Training images per class, or the data's own unit; below 0: all."""
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
    def flat_config(self) -> dict[str, Any]:
        """{dotted key: value} of the resolved config, an empty mapping being a value, without what can change no result."""
        flat: dict[str, Any] = {}

        def walk(key: str, value: Any) -> None:
            if isinstance(value, dict) and value:
                for name, child in value.items():
                    walk(f"{key}.{name}" if key else name, child)
            else:
                flat[key] = value

        walk("", compared(self.first.get("config", {})))
        return flat

    @property
    def protocol(self) -> str:
        """The protocol's name, with a suffix for evaluations of saved prompts, which are not compared with trained runs."""
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
