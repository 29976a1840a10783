"""The admissible values of a config key: type, range and choices."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any

LARGEST_COUNT = 2**31 - 1  # torch's own counters end there
LARGEST_FLOAT = sys.float_info.max


@dataclass(frozen=True)
class Key:
    """The admissible values of a key: those in `also`, and values of the types `kinds`.

    A boolean is no integer, and an integer is also a number. Numbers are finite and from `least` to `most`. Texts are not empty
    and hold no control characters.

    Args:
        give: the end of the sentence that refuses another value.
    """

    kinds: tuple[type, ...]
    give: str
    least: float = -LARGEST_FLOAT
    most: float = LARGEST_FLOAT
    also: tuple[Any, ...] = ()

    def accepts(self, value: Any) -> bool:
        """Whether the key may have this value."""
        if any(type(value) is type(choice) and value == choice for choice in self.also):
            return True
        if type(value) not in self.kinds and not (float in self.kinds and type(value) is int):
            return False
        if isinstance(value, str):
            return bool(value.strip()) and not re.search(r"[\x00-\x1f\x7f-\x9f]", value)
        return type(value) not in (int, float) or self.least <= value <= self.most  # NaN compares as false


def count(give: str, least: int = 1, most: int = LARGEST_COUNT, **more: Any) -> Key:
    """A key whose value is an integer from `least` to `most`."""
    return Key((int,), give, least, most, **more)


def number(give: str, least: float, most: float = LARGEST_FLOAT, **more: Any) -> Key:
    """A key whose value is a finite number from `least` to `most`."""
    return Key((int, float), give, least, most, **more)


def one_of(*choices: Any) -> Key:
    """A key whose value is one of these."""
    return Key((), f"choose {', '.join(map(str, choices[:-1]))} or {choices[-1]}", also=choices)
