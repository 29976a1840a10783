"""Arguments of everything that has a `_target_`, checked against its own signature before it is made.

An argument without annotation takes anything; so does one whose annotation is a class of a library. What is wrong beyond types
(ranges, files) the constructors say themselves.
"""

from __future__ import annotations

import collections.abc
import difflib
import functools
import inspect
import math
import pkgutil
import re
import traceback
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Union

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from runs.keys import resolved, shown

OURS = ("prompts", "datamodules", "lightning_modules")
MADE = ("method", "data", "clip", "optim", "trainer", "logger")  # groups that are a `_target_`
WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text", Path: "a path", type(None): "null"}
# arguments that follow from other parts of the run, or that it gives where the config does not; by group
SET_BY_THE_RUN = {"data": ("image_spec",), "targets": ("image_spec",), "logger": ("save_dir", "name", "job")}
CHECKED = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")  # Hydra's own keys


def check_all(cfg: DictConfig) -> None:
    """ValueError for the first argument, of anything that a run makes, that cannot be one."""
    for group in MADE:
        check_arguments(cfg[group], group)
    check_arguments(cfg.task.module, "task.module")
    for group in ("callbacks", "targets"):
        for name, node in cfg[group].items():
            check_arguments(node, f"{group}.{name}")


def make(node: DictConfig, **arguments: Any) -> Any:
    """What the node's `_target_` makes; a failure of the making is a ValueError that names the node."""
    where = str(node._get_full_key(None)) if isinstance(node, DictConfig) else ""
    where = where or str(node.get("_target_"))
    with making(where):
        made = instantiate(node, _convert_="all", **arguments)
    if not isinstance(made, functools.partial):
        return made

    def later(*rest: Any, **more: Any) -> Any:
        with making(where):
            return made(*rest, **more)

    return later


def source_of(data: DictConfig) -> Any:
    """The source of images that a dataset's config names, checked and made; torch is not needed for it."""
    where = str(data._get_full_key("source"))
    node = resolved(data, "source", where)
    if not (isinstance(node, Mapping) and "_target_" in node):
        raise ValueError(f"{where}={shown(node)}: give a mapping with the _target_ that makes it.")
    check_arguments(node, where)
    return make(data.source)


def raised_by_us(error: BaseException) -> bool:
    """Whether a line of this project says `raise`, so that the message is meant for the user."""
    frames = traceback.extract_tb(error.__traceback__)
    path = Path(frames[-1].filename) if frames else Path("/")
    ours = path.is_relative_to(Path(__file__).parents[1]) and "site-packages" not in path.parts
    return ours and (frames[-1].line or "").startswith("raise ")


@contextmanager
def making(where: str) -> Iterator[None]:
    """Turns errors of the kinds that wrong arguments end in into a ValueError that names the place. Bugs end in the same kinds,
    so it also says which line raised; a ValueError that a line of ours raises says enough as it is."""
    try:
        yield
    except (OSError, TypeError, KeyError, AttributeError, IndexError, ImportError, ValueError, HydraException) as error:
        cause: BaseException = error
        while isinstance(cause, HydraException) and cause.__cause__ is not None:
            cause = cause.__cause__
        frame = traceback.extract_tb(cause.__traceback__)[-1]
        if isinstance(cause, ValueError) and raised_by_us(cause):
            raise cause from cause.__cause__
        if not isinstance(cause, OSError | TypeError | KeyError | AttributeError | IndexError | ImportError | ValueError):
            raise
        if isinstance(cause, OSError) and cause.strerror:
            raise cause from None
        if unknown := re.search(r"unexpected keyword argument '(\w+)'", str(cause)):
            raise ValueError(f"{where}.{unknown[1]} is no argument of what {where}._target_ names: leave it out.") from cause
        text = f"{type(cause).__name__}: {cause}" if not isinstance(cause, ValueError) else str(cause)
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        raise ValueError(
            f"{where} cannot be made from its arguments: {text} ({place}; HYDRA_FULL_ERROR=1 shows the whole)."
        ) from cause


def check_arguments(node: Any, where: str) -> None:
    """ValueError where the arguments of a node with `_target_`, or of one within it, cannot be its constructor's."""
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if isinstance(plain, Mapping) and "_target_" in plain:
        _check_one(plain, where)
    if isinstance(plain, Mapping | list):
        for key, value in plain.items() if isinstance(plain, Mapping) else enumerate(plain):
            check_arguments(value, f"{where}.{key}")


def _check_one(node: Mapping[str, Any], where: str) -> None:
    target = found(node["_target_"], f"{where}._target_")
    try:
        parameters = dict(inspect.signature(target).parameters)
    except (ValueError, TypeError):  # of builtins
        return
    hints = hints_of(target)
    passed_on = getattr(target, "passes_to", None)  # whose arguments it takes too, as **options
    if passed_on:
        own = {name for name, each in parameters.items() if each.kind is not inspect.Parameter.VAR_KEYWORD}
        parameters = (
            {name: parameters[name] for name in own}
            | dict(inspect.signature(passed_on).parameters)
            | {name: parameters[name] for name in own}
        )
        hints = hints_of(passed_on) | hints
    rest = next((each for each in parameters.values() if each.kind is inspect.Parameter.VAR_KEYWORD), None)
    known = [name for name, each in parameters.items() if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    name_of = getattr(target, "__qualname__", str(node["_target_"]))
    for key, value in node.items():
        if key in CHECKED:
            continue
        if key not in known and rest is None:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ValueError(f"{where}.{key} is no argument of {name_of}.{hint} It takes: {', '.join(known) or 'none'}.")
        parameter = parameters.get(key, rest)
        hint = hints.get(parameter.name, Any)
        if not fits(value, hint) and not (value is parameter.default or (value is not None and value == parameter.default)):
            raise ValueError(f"{where}.{key}={shown(value)}: give {spoken(hint)}.")
    empty = inspect.Parameter.empty
    given = {*node, *SET_BY_THE_RUN.get(where.partition(".")[0], ())}
    lacking = [name for name in known if parameters[name].default is empty and name not in given]
    if lacking and not node.get("_partial_") and "_args_" not in node:
        raise ValueError(f"{where}.{lacking[0]} is missing: {name_of} needs {', '.join(lacking)}.")


def found(path: Any, where: str) -> Callable[..., Any]:
    """The class or function of a dotted path."""
    try:
        target = pkgutil.resolve_name(path)
    except (ImportError, ValueError, AttributeError, TypeError) as error:
        said = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"{where}={shown(path)} cannot be imported ({said}): give the dotted path of a class.") from error
    if not callable(target):
        raise ValueError(f"{where}={shown(path)} is no class and no function: give the dotted path of one.")
    return target


def hints_of(target: Callable[..., Any]) -> dict[str, Any]:
    """Types by argument; none where the annotations cannot be read."""
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except Exception:  # names that are imported for type checkers alone, and whatever else an annotation may hold
        return {}


def parts(hint: Any) -> tuple[Any, ...]:
    """The members of a union; of another type itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value, or a node with `_target_`, can be an argument of this type."""
    if len(parts(hint)) > 1:
        return any(fits(value, each) for each in parts(hint))
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if hint in (int, bool, str):
        return type(value) is hint
    if hint is float:
        return type(value) is int or (type(value) is float and math.isfinite(value))
    if hint is Path:
        return isinstance(value, str)
    if hint is type(None) or hint is None:
        return value is None
    if isinstance(value, Mapping) and "_target_" in value:
        return True  # what it makes, its constructor has to say
    kind = origin or hint
    if not inspect.isclass(kind):
        return True
    if kind is collections.abc.Callable:
        return False
    if issubclass(kind, collections.abc.Mapping):
        return isinstance(value, Mapping) and (len(inner) != 2 or all(fits(each, inner[1]) for each in value.values()))
    if issubclass(kind, list | tuple | set) or kind in (collections.abc.Sequence, collections.abc.Iterable):
        one = inner[0] if inner and (len(inner) == 1 or inner[-1] is Ellipsis) else Any
        return isinstance(value, list) and all(fits(each, one) for each in value)
    return kind.__module__.split(".")[0] not in OURS


def spoken(hint: Any) -> str:
    """A type in words: "an integer or null"."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if len(parts(hint)) > 1:
        return " or ".join(dict.fromkeys(map(spoken, parts(hint))))
    if origin is Literal:
        return f"{', '.join(map(str, inner[:-1]))} or {inner[-1]}" if len(inner) > 1 else str(inner[0])
    if hint in WORDS:
        return WORDS[hint]
    kind = origin or hint
    if inspect.isclass(kind) and issubclass(kind, collections.abc.Mapping):
        return "a mapping"
    if inspect.isclass(kind) and kind is not str and issubclass(kind, collections.abc.Sequence | collections.abc.Set):
        one = next((each for each in inner if each is not Ellipsis), Any)
        plural = {str: " of texts", int: " of integers", float: " of numbers"}
        return "a list" + plural.get(one, "")
    return "a mapping with the _target_ that makes it"
