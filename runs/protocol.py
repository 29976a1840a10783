"""A protocol: which classes train, which are evaluated, and how the evaluations are summarised (`conf/protocol/NAME.yaml`).

Imports neither torch nor lightning.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datamodules.few_shot import subset_group
from runs.summaries import FUNCTIONS, summary_value

SOURCE = "source"  # an evaluation of this name is renamed to the dataset that is trained on
TARGETS = "targets"  # stands for all evaluations on other datasets
OF_STAGES = ("forgetting",)  # functions that compare with earlier stages
OF_TRAINING = ("val", "epoch")  # entries of a result's history that are no test
KEYS = {"train", "evaluate", "targets", "summary", "recipe"}


@dataclass(frozen=True)
class Protocol:
    """A checked protocol. Class subsets are "all", "base", "new" or "k/n" (`datamodules.few_shot.class_range`).

    Args:
        train: the class subsets that are learned one after the other, each in a run of its own; the last in this run.
        evaluate: class subset by the name of its evaluation on the dataset's own test images.
        targets: the datasets that are evaluated too, by the dataset that is trained on.
        summary: {name: (function of `runs.summaries`, names of evaluations or `TARGETS`)}.
        recipe: the protocol whose recipes this one uses; None: its own.
    """

    train: tuple[str, ...]
    evaluate: Mapping[str, str]
    targets: Mapping[str, Sequence[str]]
    summary: Mapping[str, tuple[str, Sequence[str] | str]]
    recipe: str | None = None

    @property
    def subset(self) -> str:
        """The class subset that this run trains on."""
        return self.train[-1]

    @property
    def stages(self) -> int:
        """How many class subsets are learned one after the other."""
        return len(self.train)

    def evaluations(self, data: str) -> dict[str, str]:
        """{evaluation: class subset} of the evaluations on the dataset's own test images."""
        return {data if name == SOURCE else name: subset for name, subset in self.evaluate.items()}

    def check_names(self, data: str) -> None:
        """ValueError where two evaluations or summaries would have the same name, with this dataset to train on."""
        subsets = [data if name == SOURCE else name for name in self.evaluate]
        names = Counter([*subsets, *self.targets.get(data, []), *self.summary])
        for name, count in names.items():
            if count > 1:
                raise ValueError(
                    f"this protocol would give {name} twice with data={data}: evaluations, targets and summaries have one "
                    "name each, so give another, or leave one out."
                )

    def targets_of(self, data: str) -> Sequence[str]:
        """The other datasets that a training on this one is evaluated on. ValueError where the protocol has targets, but none
        for this dataset."""
        if self.targets and data not in self.targets:
            raise ValueError(
                f"this protocol says no targets for data={data}, only for {', '.join(self.targets)}: choose one of these as "
                f"data, or add +protocol.targets.{data}=[NAMES]."
            )
        return self.targets.get(data, ())

    def summarise(
        self,
        figures: Mapping[str, float],
        targets: Sequence[str],
        stages: Sequence[Mapping[str, float]],
        higher_is_better: bool = True,
        data: str = SOURCE,
    ) -> dict[str, dict[str, Any]]:
        """The summaries of a finished run, as result.json holds them.

        Args:
            figures: the task's main figure by evaluation.
            targets: the evaluations on other datasets.
            stages: `figures` of the earlier stages, the first one first.
            data: the dataset that was trained on, after which the evaluation `source` is named.
        """
        summaries, subsets = {}, self.evaluations(data)
        for name, (function, evaluations) in self.summary.items():
            names = targets if evaluations == TARGETS else [data if name == SOURCE else name for name in evaluations]
            names = list(names)
            if function in OF_STAGES:  # only classes that an earlier stage has learned
                names = [name for name in names if subsets.get(name) in self.train[:-1]] if stages else []
            if not names:
                continue
            value = summary_value(function, names, figures, stages, higher_is_better)
            summaries[name] = {"function": function, "evaluations": names, "value": value}
        return summaries


def protocol_of(node: Any) -> Protocol:
    """The protocol of a resolved config node. ValueError for a wrong key or value."""
    if unknown := sorted(set(node) - KEYS):
        raise ValueError(f"protocol.{unknown[0]} is not known: a protocol has the keys {', '.join(sorted(KEYS))}.")
    for key in ("train", "evaluate", "targets"):
        if key not in node:
            raise ValueError(f"there is no key protocol.{key}, which a run needs: leave out the ~ that took it away.")
    train = node["train"] if isinstance(node["train"], list) else [node["train"]]
    if not train:
        raise ValueError("protocol.train names no classes: give a class subset such as all, or a list of them.")
    for subset in train:
        _check_subset(subset, "protocol.train")
    summary = _summary(node.get("summary") or {}, _evaluations(node["evaluate"]))
    recipe = node.get("recipe")
    if recipe is not None and not isinstance(recipe, str):
        raise ValueError(f"protocol.recipe={recipe!r}: give the name of a protocol, or null.")
    return Protocol(tuple(train), node["evaluate"], _targets(node["targets"]), summary, recipe)


def _check_subset(subset: Any, key: str) -> None:
    try:
        subset_group(subset)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _check_name(name: Any, key: str) -> None:
    """ValueError for a name that cannot be used for a column, an array and a picture."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w .+-]{0,99}", name):
        raise ValueError(f"{key} has the name {name!r:.80}: give letters, digits and any of _ . + - (in yaml, quote a number).")


def _evaluations(evaluate: Any) -> Mapping[str, str]:
    if not evaluate:
        raise ValueError("protocol.evaluate names no evaluation, so there would be no result: add one, such as {test: all}.")
    if not isinstance(evaluate, Mapping):
        raise ValueError(
            f"protocol.evaluate={evaluate!r:.80}: name at least one evaluation and its classes, as in {{test: all}}."
        )
    for name, subset in evaluate.items():
        _check_name(name, "protocol.evaluate")
        if name in OF_TRAINING:
            raise ValueError(f"protocol.evaluate.{name} has a name that the history of a training needs: choose another.")
        _check_subset(subset, f"protocol.evaluate.{name}")
    return evaluate


def _targets(targets: Any) -> Mapping[str, Sequence[str]]:
    if not isinstance(targets, Mapping):
        raise ValueError(f"protocol.targets={targets!r:.80}: give a list of datasets by the dataset that is trained on.")
    for name, datasets in targets.items():
        if not isinstance(datasets, list) or not all(isinstance(dataset, str) and dataset for dataset in datasets):
            raise ValueError(f"protocol.targets.{name}={datasets!r:.80}: give a list of names of datasets.")
    return targets


def _summary(summary: Any, evaluate: Mapping[str, str]) -> dict[str, tuple[str, Sequence[str] | str]]:
    """{name: (function, evaluations or TARGETS)}"""
    example = "as in {H: {harmonic_mean: [base, new]}}"
    if not isinstance(summary, Mapping):
        raise ValueError(f"protocol.summary={summary!r:.80}: give a function of evaluations by name, {example}.")
    summaries = {}
    for name, entry in summary.items():
        _check_name(name, "protocol.summary")
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise ValueError(f"protocol.summary.{name}={entry!r:.80}: give one function and its evaluations, {example}.")
        ((function, evaluations),) = entry.items()
        if function not in FUNCTIONS:
            raise ValueError(f"protocol.summary.{name}.{function} is not known: choose one of {', '.join(FUNCTIONS)}.")
        named = [] if evaluations == TARGETS else evaluations
        if evaluations == []:
            raise ValueError(f"protocol.summary.{name} is of no evaluation: choose among {', '.join(evaluate)}.")
        if not isinstance(named, list) or (unknown := [evaluation for evaluation in named if evaluation not in evaluate]):
            what = f"{unknown[0]!r}, which is no evaluation" if isinstance(named, list) else f"{named!r:.80}"
            raise ValueError(
                f"protocol.summary.{name} is of {what}: choose among {', '.join(evaluate)}, or write {TARGETS} for all other "
                "datasets."
            )
        summaries[name] = function, evaluations
    return summaries
