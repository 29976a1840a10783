"""What a `result.json` may hold: it may be a stranger's, so types, ranges and sizes are checked before anything is made of it.
Every function raises `ValueError` with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from files.untrusted import is_plain, read_json, text_of
from runs.jobs import NAMED

MOST_BYTES = 64 * 2**20  # of a result.json; that of ImageNet-21K is 2 MiB
NAME = 200  # characters of a name, a key
MOST_EVALUATIONS = 100  # of one run: each has pictures of its own
LONGEST = 100_000  # epochs
WHOLE = 10**15  # no count, no size in bytes and no number of seconds is larger
MOST_DOTTED = 100_000_000  # of a config with 20,000 class names and their sentences 2 million
LARGE = 1e30  # nor is a loss: its square is still a number

Check = Callable[[Any, str], Any]

# ---------------------------------------------------------------- pieces


def text(most: int = NAME) -> Check:
    return lambda value, what: text_of(value, what, most)


def number(low: float, high: float) -> Check:
    def check(value: Any, what: str) -> None:
        if type(value) not in (int, float) or not low <= value <= high:  # NaN is in no range
            raise ValueError(f"{what} is {_shown(value)}, not a number from {low:g} to {high:g}.")

    return check


def whole(low: int, high: int) -> Check:
    def check(value: Any, what: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{what} is {_shown(value)}, not an integer from {low:,} to {high:,}.")

    return check


def optional(check: Check) -> Check:
    return lambda value, what: None if value is None else check(value, what)


def listed(check: Check, most: int) -> Check:
    def check_list(value: Any, what: str) -> None:
        if not isinstance(value, list):
            raise ValueError(f"{what} is {_shown(value)}, not a list.")
        if len(value) > most:
            raise ValueError(f"{what} has {len(value):,} entries, more than {most:,}.")
        for at, each in enumerate(value):
            check(each, f"{what}[{at}]")

    return check_list


def mapped(check: Check, most: int) -> Check:
    """Text -> what `check` admits."""

    def check_mapping(value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{what} is {_shown(value)}, not an object.")
        if len(value) > most:
            raise ValueError(f"{what} has {len(value):,} entries, more than {most:,}.")
        for key, each in value.items():
            text_of(key, f"a key of {what}", NAME)
            check(each, f"{what}[{key[:40]}]")

    return check_mapping


def record(required: dict[str, Check], known: dict[str, Check]) -> Check:
    """An object with these keys; others are not looked at."""

    def check_record(value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{what} is {_shown(value)}, not an object.")
        if missing := [key for key in required if key not in value]:
            raise ValueError(
                f"{what} has no {', '.join(missing)}: it was not written by run.py, or by a version too old for this."
            )
        for key, check in (required | known).items():
            if key in value:
                check(value[key], f"{what}: {key}" if ":" not in what else f"{what}.{key}")

    return check_record


def plain(value: Any, what: str) -> None:
    """A value of a config: keys are text, texts are of a length that can be shown."""
    if isinstance(value, dict):
        mapped(plain, LONGEST)(value, what)
    elif isinstance(value, list):
        listed(plain, 1_000_000)(value, what)
    elif isinstance(value, str):
        if value:
            text_of(value, what)
    elif not is_plain(value) or (type(value) is int and abs(value) > WHOLE):
        raise ValueError(f"{what} is {_shown(value)}, no value of a config.")


def dotted(config: dict[str, Any], above: int = 0) -> int:
    """Characters of all dotted keys: each repeats the names of what it is in."""
    total = 0
    for key, each in config.items():
        here = above + len(key) + 1
        total += dotted(each, here) if isinstance(each, dict) and each else here
    return total


def _shown(value: Any) -> str:
    if type(value) is int and abs(value) > WHOLE:
        return "an integer of more than 15 digits"
    shown = repr(value) if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


# ---------------------------------------------------------------- result.json

PERCENT = number(0, 100 + 1e-6)
FIGURES = {"macro_f1": PERCENT, "images": whole(0, WHOLE)}
OF_CLASS = record({"class": text(1000), "accuracy": optional(PERCENT)}, {"images": whole(0, WHOLE)})
EVALUATION = record({"accuracy": PERCENT}, FIGURES | {"per_class": listed(OF_CLASS, 1_000_000)})


def epoch_entry(value: Any, what: str) -> None:
    record({"epoch": whole(0, WHOLE)}, {})(value, what)
    mapped(EVALUATION, MOST_EVALUATIONS)({key: each for key, each in value.items() if key != "epoch"}, what)


def names(value: Any, what: str) -> None:
    record({group: text() for group in NAMED}, {})(value, what)
    if other := set(value) - set(NAMED):
        raise ValueError(f"{what} has {_shown(min(other))}, which is none of {', '.join(NAMED)}.")


def config(value: Any, what: str) -> None:
    """A resolved config, whose trainer and callbacks are objects, as those who read it expect."""
    mapped(plain, 10_000)(value, what)
    if dotted(value) > MOST_DOTTED:
        raise ValueError(f"{what} is nested so deep that its dotted keys have more than {MOST_DOTTED:,} characters.")
    optional(mapped(plain, 1000))(value.get("trainer"), f"{what}.trainer")
    optional(mapped(mapped(plain, 1000), 1000))(value.get("callbacks"), f"{what}.callbacks")


RESULT = record(
    {
        "digest": text(),
        "names": names,
        "seed": whole(0, 2**32),
        "shots": whole(-(10**6), 10**6),
        "metrics": mapped(EVALUATION, MOST_EVALUATIONS),
    },
    {
        "config": config,
        "history": optional(listed(epoch_entry, LONGEST)),
        "train_loss": optional(listed(number(-LARGE, LARGE), LONGEST)),
        "epoch": optional(whole(-1, WHOLE)),
        "trainable_parameters": whole(0, WHOLE),
        "effective_parameters": whole(0, WHOLE),
        "seconds": number(0, WHOLE),
        "peak_memory": mapped(number(0, WHOLE), 100),
        "versions": mapped(text(), 200),
        "classnames": listed(text(1000), 1_000_000),
    },
)


def load(file: Path) -> dict[str, Any]:
    """The content of a result.json, its types checked.

    Raises:
        ValueError: it cannot be read, holds what no run writes, or is the result of no evaluation.
    """
    try:
        result = read_json(file, "the result", MOST_BYTES)
    except ValueError as error:
        raise ValueError(f"{file} cannot be read ({str(error).rstrip('.')}): remove it and run that job again.") from error
    RESULT(result, str(file))
    entries = [set(entry) for entry in result.get("history") or []]
    if any(entry != entries[0] for entry in entries):
        raise ValueError(f"{file}: history has other evaluations in one epoch than in another.")
    idle = [name for name, each in result["metrics"].items() if each.get("images") == 0]
    if idle or not result["metrics"]:
        raise ValueError(
            f"{file} is the result of no evaluation: {f'{idle[0]} has no images' if idle else 'it has no metrics'}."
        )
    return result
