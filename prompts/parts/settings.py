"""Checks that the constructors of methods share: choices, and nested nodes of settings.

A choice is written once, as a Literal: the signature is what a command line is checked against (`runs/arguments.py`).
"""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, Union


def check_choice(key: str, value: Any, choices: Any) -> None:
    """ValueError unless the setting `method.KEY` has one of the values of the Literal `choices`."""
    if not is_of(value, choices):
        raise ValueError(f"method.{key}={value!r} is none of {', '.join(map(str, typing.get_args(choices)))}.")


def check_at_least(least: float, **values: float | None) -> None:
    """ValueError for the first of the settings `method.KEY` that is smaller; null is not checked."""
    for key, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"method.{key}={value}: give a number, {least} or more.")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of nested nodes of a method's settings: a frozen dataclass whose fields' types are checked when it is made.

    Raises:
        ValueError: a field's value is not of its type.
    """

    node: ClassVar[str]  # where it stands below `method`, for error messages

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value, hint = getattr(self, field.name), hints[field.name]
            if typing.get_origin(hint) is Literal:
                check_choice(f"{self.node}.{field.name}", value, hint)
            elif not is_of(value, hint):
                raise ValueError(f"method.{self.node}.{field.name}={value!r} is not of the type {field.type}.")

    @classmethod
    def of(cls, given: Self | Mapping[str, Any]) -> Self:
        """The settings, made from a mapping if they are not made yet. ValueError for an unknown key."""
        if isinstance(given, cls):
            return given
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(given, Mapping):
            raise ValueError(f"method.{cls.node}={given!r}: give a mapping with some of {', '.join(names)}.")
        if unknown := [str(key) for key in given if key not in names]:
            raise ValueError(f"method.{cls.node}.{unknown[0]} is no setting: there are {', '.join(names)}.")
        return cls(**given)


def is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of a type: a plain one, a Literal, a callable, a mapping or sequence of anything, or a union of these.
    Numbers are finite."""
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(is_of(value, member) for member in typing.get_args(hint))
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in typing.get_args(hint))
    if origin is collections.abc.Callable:
        return callable(value)
    if origin in (collections.abc.Mapping, collections.abc.Sequence):
        return isinstance(value, origin) and not isinstance(value, str)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is hint
