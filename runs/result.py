"""The content of `result.json`: its types, and the checks of a file's content, which anyone may have written.

A result of an earlier version is upgraded when it is read, so readers only know the present version. Imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired, TypedDict

from files.untrusted import read_json
from runs import checks
from runs.checks import LARGEST_INTEGER, LARGEST_NUMBER, listed, mapped, number, optional, plain, record, shown, text, whole
from runs.jobs import NAMED
from runs.summaries import FUNCTIONS, summary_value

VERSION = 1
VERSION_0 = Path(__file__).with_name("result_version_0.json")

MOST_BYTES = 64 * 2**20  # of a result.json; that of ImageNet-21K is 2 MiB
MOST_EVALUATIONS = 100  # in one run: the report draws several pictures for each
MOST_STAGES = 100
MOST_EPOCHS = 100_000
MOST_DOTTED = 100_000_000  # characters; of a config with 20,000 class names and their sentences 2 million

# ---------------------------------------------------------------- types


class Names(TypedDict):
    """The option chosen in each group of configs."""

    method: str
    data: str
    clip: str
    protocol: str


class Figure(TypedDict):
    """The main figure of a task, which tables show."""

    key: str  # its entry in the metrics of every evaluation
    title: str  # "accuracy"
    unit: str  # "%"; "" where there is none
    higher_is_better: bool


ClassMetrics = TypedDict("ClassMetrics", {"class": str, "accuracy": float | None, "images": NotRequired[int]})
"""A class by name, its accuracy in percent (None: it has no test images) and the number of these."""

Metrics = dict[str, Any]
"""The metrics of one evaluation, which differ by task: at least `Figure.key`. The same in every task are accuracy and macro_f1
in percent, images (their number) and per_class, a list of `ClassMetrics`."""


class Summary(TypedDict):
    """One number from several evaluations, by a function of `runs.summaries`, in the unit of the main figure."""

    function: str
    evaluations: list[str]
    value: float


class Result(TypedDict):
    """The content of result.json, version 1."""

    version: int
    task: str
    digest: str  # of the config and data, without the seed
    names: Names
    seed: int
    shots: int  # training images per class, or the data's own unit; below 0: all
    figure: Figure
    metrics: dict[str, Metrics]  # by evaluation
    summary: dict[str, Summary]  # by its name in the protocol
    stages: list[dict[str, float]]  # the main figure by evaluation after each earlier stage, in the order of training
    backbone: NotRequired[str]  # digest of the CLIP's weights
    epoch: NotRequired[int | None]  # 0-based epoch of the saved prompts; -1 or None: there was none
    history: NotRequired[list[dict[str, Any]] | None]  # by epoch evaluated: {"epoch": from 0, evaluation: Metrics}
    train_loss: NotRequired[list[float] | None]  # mean by epoch
    trainable_parameters: NotRequired[int]
    effective_parameters: NotRequired[int]
    seconds: NotRequired[float]  # of the whole run
    peak_memory: NotRequired[dict[str, float]]  # MiB: cpu_mib, gpu_mib
    found: NotRequired[dict[str, Any]]  # the method's own figures of what it has found
    classnames: NotRequired[list[str]]  # trained on
    selected: NotRequired[Any]  # the training images
    bad_images: NotRequired[dict[str, Any]]  # {"count": N, "names": the first of them}
    versions: NotRequired[dict[str, str]]  # of libraries
    config: NotRequired[dict[str, Any]]  # resolved


# ---------------------------------------------------------------- checks

COUNT = whole(0, LARGEST_INTEGER)
PERCENT = number(0, 100 + 1e-6)
NUMBER = number(-LARGEST_NUMBER, LARGEST_NUMBER)
OF_CLASS = record({"class": text(1000), "accuracy": optional(PERCENT)}, {"images": COUNT})
OF_EVALUATION = {"accuracy": PERCENT, "macro_f1": PERCENT, "images": COUNT, "per_class": listed(OF_CLASS, checks.MOST_ENTRIES)}


def _unit(value: Any, what: str) -> None:
    if value != "":
        text(40)(value, what)


def _metrics(value: Any, what: str) -> None:
    mapped(_number_or_plain, MOST_EVALUATIONS)(value, what)
    record({}, OF_EVALUATION)(value, what)


def _number_or_plain(value: Any, what: str) -> None:
    (NUMBER if type(value) in (int, float) else plain)(value, what)


def _epoch_entry(value: Any, what: str) -> None:
    record({"epoch": COUNT}, {})(value, what)
    mapped(_metrics, MOST_EVALUATIONS)({key: entry for key, entry in value.items() if key != "epoch"}, what)


def _names(value: Any, what: str) -> None:
    record(dict.fromkeys(NAMED, text()), {})(value, what)
    if other := set(value) - set(NAMED):
        raise ValueError(f"{what} has {shown(min(other))}, which is none of {', '.join(NAMED)}.")


def _config(value: Any, what: str) -> None:
    """Checks a resolved config. Its task, trainer, callbacks, targets and earlier run are objects, which readers rely on."""
    mapped(plain, 10_000)(value, what)
    if _dotted(value) > MOST_DOTTED:
        raise ValueError(f"{what} is nested so deep that its dotted keys have more than {MOST_DOTTED:,} characters.")
    for key in ("task", "trainer", "targets"):
        optional(mapped(plain, 1000))(value.get(key), f"{what}.{key}")
    optional(_config)(value.get("earlier"), f"{what}.earlier")
    optional(mapped(mapped(plain, 1000), 1000))(value.get("callbacks"), f"{what}.callbacks")


def _dotted(config: dict[str, Any], above: int = 0) -> int:
    """Number of characters of all dotted keys. Each repeats the names of its parents, so deep nesting is expensive."""
    total = 0
    for key, entry in config.items():
        here = above + len(key) + 1
        total += _dotted(entry, here) if isinstance(entry, dict) and entry else here
    return total


FIGURE = record({"key": text(), "title": text(), "unit": _unit, "higher_is_better": checks.boolean}, {})
OF_SUMMARY = {"function": checks.choice(*FUNCTIONS), "evaluations": listed(text(), MOST_EVALUATIONS), "value": NUMBER}
SUMMARY = record(OF_SUMMARY, {})
ANY_VERSION = record(
    {
        "digest": text(),
        "names": _names,
        "seed": whole(0, 2**32),
        "shots": whole(-(10**6), 10**6),
        "metrics": mapped(_metrics, MOST_EVALUATIONS),
    },
    {
        "config": _config,
        "history": optional(listed(_epoch_entry, MOST_EPOCHS)),
        "train_loss": optional(listed(NUMBER, MOST_EPOCHS)),
        "epoch": optional(whole(-1, LARGEST_INTEGER)),
        "trainable_parameters": COUNT,
        "effective_parameters": COUNT,
        "seconds": number(0, LARGEST_INTEGER),
        "peak_memory": mapped(number(0, LARGEST_INTEGER), 100),
        "versions": mapped(text(), 200),
        "found": mapped(_number_or_plain, 1000),
        "classnames": listed(text(1000), checks.MOST_ENTRIES),
    },
)
SINCE_1 = record(
    {
        "task": text(),
        "figure": FIGURE,
        "summary": mapped(SUMMARY, MOST_EVALUATIONS),
        "stages": listed(mapped(NUMBER, MOST_EVALUATIONS), MOST_STAGES),
    },
    {},
)

# ---------------------------------------------------------------- reading


def load_result(file: Path) -> Result:
    """The content of a result.json, checked and upgraded to the present version.

    Raises:
        ValueError: it cannot be read, is of a version that is not known, holds what no run writes, or is the result of no
            evaluation.
    """
    try:
        result = read_json(file, "the result", MOST_BYTES)
    except ValueError as error:
        raise ValueError(f"{file} cannot be read ({str(error).rstrip('.')}): remove it and run that job again.") from error
    ANY_VERSION(result, str(file))
    version = result.get("version", 0)
    if type(version) is not int or not 0 <= version <= VERSION:
        raise ValueError(
            f"{file} is of version {shown(version)}, and this project reads results up to version {VERSION}: read it with the "
            "project that wrote it, or update this one."
        )
    result = upgraded(result)
    SINCE_1(result, str(file))
    _check_evaluations(result, file)
    _check_summaries(result, file)
    return result


def upgraded(result: dict[str, Any]) -> Any:
    """The result in the present version. Version 0 is what was written before there were versions; result_version_0.json has
    the entries that it lacks."""
    if result.get("version", 0) == VERSION:
        return result
    known = read_json(VERSION_0, "the defaults")
    figures = {name: metrics.get(known["figure"]["key"]) for name, metrics in result["metrics"].items()}
    wanted = known["summary"] | {name: entry | {"evaluations": targets(result)} for name, entry in known["targets"].items()}
    summary = {}
    for name, entry in wanted.items():
        evaluations = entry["evaluations"]
        if name not in figures and evaluations and all(figures.get(evaluation) is not None for evaluation in evaluations):
            summary[name] = entry | {"value": summary_value(entry["function"], evaluations, figures)}
    return result | {"version": VERSION, "task": known["task"], "figure": known["figure"], "summary": summary, "stages": []}


def targets(result: Result | dict[str, Any]) -> list[str]:
    """The evaluations on datasets other than the one trained on, as the result's config has them."""
    return [name for name in result.get("config", {}).get("targets") or {} if name in result["metrics"]]


def _check_evaluations(result: Result, file: Path) -> None:
    """ValueError unless there are evaluations, each with images and the main figure."""
    key, history = result["figure"]["key"], result.get("history") or []
    entries = [{name: entry for name, entry in epoch.items() if name != "epoch"} for epoch in history]
    for metrics, where in ((result["metrics"], "metrics"), *((entry, "history") for entry in entries)):
        for name, numbers in metrics.items():
            record({key: NUMBER}, {})(numbers, f"{file}: {where}[{name[:40]}]")
    if any(set(entry) != set(entries[0]) for entry in entries):
        raise ValueError(f"{file}: history has other evaluations in one epoch than in another.")
    empty = [name for name, numbers in result["metrics"].items() if numbers.get("images") == 0]
    if empty or not result["metrics"]:
        raise ValueError(
            f"{file} is the result of no evaluation: {f'{empty[0]} has no images' if empty else 'it has no metrics'}."
        )


def _check_summaries(result: Result, file: Path) -> None:
    """ValueError unless each summary is of evaluations in the result, and can be computed from them."""
    figure = result["figure"]
    figures = {name: numbers[figure["key"]] for name, numbers in result["metrics"].items()}
    for name, summary in result["summary"].items():
        if name in figures:
            raise ValueError(f"{file}: summary[{name[:40]}] has the name of an evaluation.")
        unknown = [evaluation for evaluation in summary["evaluations"] if evaluation not in figures]
        if unknown or not summary["evaluations"]:
            of = f"of {shown(unknown[0])}, which is no evaluation of it" if unknown else "of no evaluation"
            raise ValueError(f"{file}: summary[{name[:40]}] is {of}.")
        try:
            summary_value(summary["function"], summary["evaluations"], figures, result["stages"], figure["higher_is_better"])
        except ValueError as error:
            raise ValueError(f"{file}: summary[{name[:40]}]: {error}") from error
