"""Checks of plain data from files that anyone may have made. Each check takes a value and its name for the message, and raises
`ValueError`, one sentence, for a value that no run writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from files.untrusted import is_plain, text_of

Check = Callable[[Any, str], Any]

LONGEST_NAME = 200  # characters of a name, a key
LARGEST_INTEGER = 10**15  # no count, no size in bytes and no number of seconds is larger
LARGEST_NUMBER = 1e30  # no loss is larger, and its square is still a finite float
MOST_ENTRIES = 1_000_000  # in a list, such as the list of classes
MOST_KEYS = 100_000  # in an object within a config


def text(most: int = LONGEST_NAME) -> Check:
    """Text that can be shown, of at most `most` characters."""
    return lambda value, what: text_of(value, what, most)


def boolean(value: Any, what: str) -> None:
    """true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{what} is {shown(value)}, neither true nor false.")


def number(low: float, high: float) -> Check:
    """A finite number in this range; booleans are refused."""

    def check(value: Any, what: str) -> None:
        if type(value) not in (int, float) or not low <= value <= high:  # NaN is in no range
            raise ValueError(f"{what} is {shown(value)}, not a number from {low:g} to {high:g}.")

    return check


def whole(low: int, high: int) -> Check:
    """An integer in this range; booleans are refused."""

    def check(value: Any, what: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{what} is {shown(value)}, not an integer from {low:,} to {high:,}.")

    return check


def choice(*options: str) -> Check:
    """One of these texts."""

    def check(value: Any, what: str) -> None:
        if not isinstance(value, str) or value not in options:
            raise ValueError(f"{what} is {shown(value)}, none of {', '.join(options)}.")

    return check


def optional(check: Check) -> Check:
    """null, or what `check` admits."""
    return lambda value, what: None if value is None else check(value, what)


def listed(check: Check, most: int) -> Check:
    """A list of at most `most` entries that `check` admits."""

    def check_list(value: Any, what: str) -> None:
        if not isinstance(value, list):
            raise ValueError(f"{what} is {shown(value)}, not a list.")
        if len(value) > most:
            raise ValueError(f"{what} has {len(value):,} entries, more than {most:,}.")
        for at, entry in enumerate(value):
            check(entry, f"{what}[{at}]")

    return check_list


def mapped(check: Check, most: int) -> Check:
    """An object of at most `most` keys, each a name, whose values `check` admits."""

    def check_mapping(value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{what} is {shown(value)}, not an object.")
        if len(value) > most:
            raise ValueError(f"{what} has {len(value):,} entries, more than {most:,}.")
        for key, entry in value.items():
            text_of(key, f"a key of {what}", LONGEST_NAME)
            check(entry, f"{what}[{key[:40]}]")

    return check_mapping


def record(required: dict[str, Check], known: dict[str, Check]) -> Check:
    """An object that has the required keys and may have the known ones; other keys are not checked."""

    def check_record(value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{what} is {shown(value)}, not an object.")
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
        mapped(plain, MOST_KEYS)(value, what)
    elif isinstance(value, list):
        listed(plain, MOST_ENTRIES)(value, what)
    elif isinstance(value, str):
        if value:
            text_of(value, what)
    elif not is_plain(value) or (type(value) is int and abs(value) > LARGEST_INTEGER):
        raise ValueError(f"{what} is {shown(value)}, no value of a config.")


def shown(value: Any) -> str:
    """The value for a message: short, and without control characters."""
    if type(value) is int and abs(value) > LARGEST_INTEGER:
        return "an integer of more than 15 digits"
    text = repr(value) if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
