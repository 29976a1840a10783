"""The value that a search maximises: the main figure on the validation images, or a number of result.json that `objective`
names.

A figure of test images may be maximised only on data that no table reports (`data.search_only`). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig

from runs import keys
from runs.protocol import Protocol, protocol_of

FOLLOWED = "PROMPTS_FOLLOWED"  # environment variable of a trial's job: the file for its figures after each epoch
SUMMARY, METRICS = "summary", "metrics"  # entries of result.json that hold a run's figures


def check_start(config: DictConfig, varied: Collection[str]) -> None:
    """Checks a search before its first job. Keys that the search varies are checked by its jobs.

    Args:
        config: with Hydra's own, before any job; its targets are not filled in.
        varied: the keys and groups that the search varies.

    Raises:
        ValueError: it would minimise, or choose a seed, or there is no figure that it may maximise.
    """
    check_sweeper(config, varied)
    objective = keys.resolved(config, "objective")
    keys.check_value(keys.KEYS["objective"], "objective", objective)
    if objective is None and config.select != "best_val" and "select" not in varied:
        raise ValueError(
            "a search is judged by the validation images: add select=best_val, or give objective=PATH with data that are "
            "search_only."
        )
    if not {"data", "data.search_only"} & set(varied):
        check_objective(objective, {key: config.data.get(key) for key in ("name", "search_only")}, {})


def check_sweeper(config: DictConfig, varied: Collection[str]) -> None:
    """ValueError for options of the search that are out of range or contradict each other."""
    if find_spec("optuna") is None:
        raise ValueError("a search needs the package optuna, which is not installed: pip install -e '.[optuna]'.")
    options = config.hydra.sweeper
    direction = options.direction
    if direction != "maximize":
        raise ValueError("a search maximises what its jobs return: give hydra.sweeper.direction=maximize.")
    if seeds := sorted(key for key in varied if key.lstrip("+").split(".")[-1] == "seed"):
        raise ValueError(
            f"a search that varies {seeds[0]} selects a lucky seed: leave it out; hydra.sweeper.seeds=[1,2,3] judges each "
            "trial by its mean over seeds."
        )
    for key in ("n_trials", "n_jobs"):
        if type(options[key]) is not int or options[key] < 1:
            raise ValueError(f"hydra.sweeper.{key}={options[key]}: give an integer, 1 or more.")
    given = list(options.seeds or [])
    if any(type(seed) is not int or seed < 0 for seed in given) or len(set(given)) < len(given):
        raise ValueError(f"hydra.sweeper.seeds={given}: give different integers of 0 or more, as in [1,2,3], or null.")
    if given and any(override.startswith("seed=") for override in config.hydra.overrides.task):
        raise ValueError("hydra.sweeper.seeds and seed contradict each other: leave one of them out.")
    if (launcher := config.hydra.runtime.choices["hydra/launcher"]) != "basic":
        raise ValueError(
            f"a search starts its trials itself, so hydra/launcher={launcher} does nothing: leave it out and give "
            "hydra.sweeper.n_jobs=N; on several machines start the same command on each."
        )
    if not options.pruner._target_.endswith("NopPruner") and config.select != "best_val" and "select" not in varied:
        raise ValueError("a trial is ended early by its validation images: add select=best_val, or hydra/sweeper/pruner=none.")


def check_objective(objective: str | None, data: Mapping[str, Any], targets: Mapping[str, Any]) -> None:
    """ValueError where `objective` is given and a table may report the data, or one of the other datasets evaluated.

    Args:
        data: the resolved config of the dataset trained on.
        targets: those of the others, by name.
    """
    if objective is None:
        return
    for name, node in ({data.get("name", "?"): data} | dict(targets)).items():
        if node.get("search_only") is not True:
            raise ValueError(
                f"objective={objective} judges a run by test images, and tables may report those of data={name}: choose data "
                "whose search_only is true, or leave objective out and give select=best_val, which judges by validation images."
            )


def check_exists(objective: str | None, protocol: Protocol, data: str, targets: Mapping[str, Any]) -> None:
    """ValueError where `objective` names a summary or an evaluation that the run will not have.

    Args:
        data: the option chosen as data, after which evaluations are named.
        targets: the other datasets evaluated, by name.
    """
    kind, _, rest = (objective or "").partition(".")
    known = {SUMMARY: list(protocol.summary), METRICS: [*protocol.evaluations(data), *targets]}
    if kind in known and not any(rest.startswith(f"{name}.") for name in known[kind]):
        numbers = _paths(known[SUMMARY], known[METRICS], "FIGURE")
        raise ValueError(f"objective={objective} is nothing that this run measures: give one of {', '.join(numbers)}.")


def check_job(config: Mapping[str, Any], data: str) -> None:
    """Checks `objective` for the resolved config of a job, whose targets are filled in. `data`: the option chosen."""
    check_objective(config["objective"], config["data"], config["targets"])
    check_exists(config["objective"], protocol_of(config["protocol"]), data, config["targets"])


def scores_of(history: Iterable[Mapping[str, Any]], figure: Mapping[str, Any]) -> list[tuple[int, float]]:
    """(epoch, main figure on the validation images) of a run's history; negated where lower is better.

    Args:
        figure: the task's, with `key` and `higher_is_better`.
    """
    sign = 1 if figure["higher_is_better"] else -1
    return [(int(entry["epoch"]), sign * float(entry["val"][figure["key"]])) for entry in history if "val" in entry]


def value_of(result: Mapping[str, Any], objective: str | None) -> float:
    """The value of a finished run that a search maximises; a main figure is negated where lower is better.

    Args:
        result: the content of result.json.
        objective: a dotted path into it; None: the best main figure on the validation images.

    Raises:
        ValueError: the result has no such number.
    """
    key, sign = result["figure"]["key"], 1 if result["figure"]["higher_is_better"] else -1
    if objective is None:
        scores = [score for _, score in scores_of(result.get("history") or [], result["figure"])]
        if not scores:
            raise ValueError(
                "it was never evaluated on validation images, by which a search judges it: give select=best_val and a method "
                "that trains by gradients, or an objective on data that are search_only."
            )
        return max(scores)
    value = _at(result, objective.split("."))
    if type(value) not in (int, float):
        raise ValueError(
            f"its result.json has no number at objective={objective}: give the dotted path of one that it has, such as "
            f"{', '.join(_paths(result[SUMMARY], result[METRICS], key))}."
        )
    is_figure = objective.startswith(f"{SUMMARY}.") or (objective.startswith(f"{METRICS}.") and objective.endswith(f".{key}"))
    return (sign if is_figure else 1) * value


def _at(node: Any, parts: list[str]) -> Any:
    """The entry at a dotted path, None where there is none; keys may have dots themselves."""
    if not parts:
        return node
    if not isinstance(node, Mapping):
        return None
    for end in range(1, len(parts) + 1):
        found = _at(node.get(".".join(parts[:end])), parts[end:])
        if found is not None:
            return found
    return None


def _paths(summaries: Iterable[str], evaluations: Iterable[str], key: str) -> list[str]:
    """The paths of the main figure, whose key in the metrics is `key`: of each summary, and of each evaluation."""
    return [f"{SUMMARY}.{name}.value" for name in summaries] + [f"{METRICS}.{name}.{key}" for name in evaluations]


def words(objective: str | None) -> str:
    """The objective in words, for the last line of a search."""
    return objective or "the main figure on the validation images"
