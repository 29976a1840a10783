"""The search space: Hydra's sweep overrides as Optuna's distributions, and values as overrides. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

PLAIN = (str, int, float, bool, type(None))  # types of the choices that Optuna can store


def space_of(overrides: Iterable[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """The fixed overrides, and the distribution of each varied key; of several overrides of a key the last one counts.

    Raises:
        ValueError: nothing is varied, or a distribution is empty.
    """
    last = {override.get_key_element(): override for override in OverridesParser.create().parse_overrides(list(overrides))}
    fixed = [str(override.input_line) for override in last.values() if not override.is_sweep_override()]
    space = {key: _distribution(key, override) for key, override in last.items() if override.is_sweep_override()}
    if not space:
        raise ValueError("this search varies nothing: give hydra.sweeper.params, or 'optim.lr=interval(0.001,0.1)'.")
    return fixed, space


def _distribution(key: str, override: Override) -> BaseDistribution:
    sweep: Any = override.value()
    log = "log" in sweep.tags
    try:
        if override.is_interval_sweep():
            low, high = sweep.start, sweep.end
            whole = isinstance(low, int) and isinstance(high, int)
            return IntDistribution(low, high, log=log) if whole else FloatDistribution(float(low), float(high), log=log)
        values = [_choice(*pair) for pair in zip(override.sweep_iterator(), override.sweep_string_iterator(), strict=True)]
        if override.is_range_sweep() and len(set(values)) > 1:  # as Hydra reads it: without its end
            low, high, step = min(values), max(values), abs(sweep.step)
            whole = all(isinstance(value, int) for value in values)
            return IntDistribution(low, high, step=step) if whole else FloatDistribution(low, high, step=step)
        return CategoricalDistribution(values)
    except ValueError as error:  # Optuna's, such as log with 0
        raise ValueError(f"{override.input_line} cannot be searched: {error}") from error


def _choice(value: Any, text: str) -> Any:
    """A choice as Optuna stores it: plain values as they are, lists, mappings and the like as the override's text."""
    return value if isinstance(value, PLAIN) and not isinstance(value, str) else text


def override_of(key: str, value: Any) -> str:
    """A value as an override that Hydra reads back as the same value."""
    return f"{key}={value if isinstance(value, str) else 'null' if value is None else _number(value)}"


def _number(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def in_words(params: Mapping[str, Any]) -> str:
    """The values of a trial, as its overrides."""
    return " ".join(override_of(key, value) for key, value in params.items())


def as_text(space: Mapping[str, BaseDistribution]) -> str:
    """The distributions as a text that is the same wherever they are."""
    return json.dumps({key: repr(space[key]) for key in sorted(space)})
