"""Arguments of everything that has a `_target_`, checked against its own signature before it is made.

An argument without annotation takes anything; so does one whose annotation is a class of a library. Ranges and
files are left to the constructors.
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

ROOT = Path(__file__).parents[1]  # of a clone, or site-packages
OURS = {"files", "prompts", "datamodules", "lightning_modules", "runs", "reports", "tools", "run.py", "report.py", "tests"}
PROJECT_PACKAGES = ("prompts", "datamodules", "lightning_modules")
TARGET_GROUPS = ("method", "data", "clip", "optim", "trainer", "logger")  # groups whose node has a `_target_`
TYPE_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text", Path: "a path", type(None): "null"}
# by group, arguments that the run passes itself, because they follow from its other parts or the config may leave them out
SET_BY_THE_RUN = {"data": ("image_spec",), "targets": ("image_spec",), "logger": ("save_dir", "name", "job")}
HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
ARGUMENT_ERRORS = (OSError, TypeError, KeyError, AttributeError, IndexError, ImportError, ValueError)


def check_all(cfg: DictConfig) -> None:
    """ValueError for the first wrong argument among all nodes that a run instantiates."""
    for group in TARGET_GROUPS:
        check_arguments(cfg[group], group)
    check_arguments(cfg.task.module, "task.module")
    check_arguments(cfg.features, "features")
    check_arguments(cfg.poly, "poly")
    check_arguments(cfg.multistep, "multistep")
    check_arguments(cfg.lm, "lm")
    for group in ("callbacks", "targets"):
        for name, node in cfg[group].items():
            check_arguments(node, f"{group}.{name}")


def make(node: DictConfig, **arguments: Any) -> Any:
    """Instantiates the node's `_target_`. A failure is a ValueError that names the node's key."""
    # OmegaConf has no public way to ask a node for its key; every caller would have to pass it
    where = str(node._get_full_key(None)) if isinstance(node, DictConfig) else ""
    where = where or str(node.get("_target_"))
    with making(where):
        instance = instantiate(node, _convert_="all", **arguments)
    if not isinstance(instance, functools.partial):
        return instance

    def make_later(*rest: Any, **more: Any) -> Any:
        with making(where):
            return instance(*rest, **more)

    return make_later


def source_of(data: DictConfig) -> Any:
    """Checks and makes the source of images that a dataset's config names. Needs no torch."""
    where = str(data._get_full_key("source"))  # as in `make`
    node = resolved(data, "source", where)
    if not (isinstance(node, Mapping) and "_target_" in node):
        raise ValueError(f"{where}={shown(node)}: give a mapping with the _target_ that makes it.")
    check_arguments(node, where)
    return make(data.source)


def raised_by_us(error: BaseException) -> bool:
    """Whether a `raise` statement of this project raised the error: its message is then meant for the user."""
    frames = traceback.extract_tb(error.__traceback__)
    path = Path(frames[-1].filename) if frames else Path("/")
    # ours are beside this package, in a clone or in site-packages, and never below a .venv in the clone
    ours = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in OURS
    return ours and (frames[-1].line or "").startswith("raise ")


@contextmanager
def making(where: str) -> Iterator[None]:
    """Turns the errors that wrong arguments cause into a ValueError that names the key `where`. Bugs cause the same types of
    error, so the message also names the line that raised. A ValueError that this project raises passes unchanged."""
    try:
        yield
    except (*ARGUMENT_ERRORS, HydraException) as error:
        cause: BaseException = error
        while isinstance(cause, HydraException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if not isinstance(cause, ARGUMENT_ERRORS):
            raise
        if isinstance(cause, ValueError) and raised_by_us(cause):
            raise cause from cause.__cause__
        if isinstance(cause, OSError) and cause.strerror:
            raise cause from None
        raise ValueError(_cannot_be_made(where, cause)) from cause


def _cannot_be_made(where: str, cause: BaseException) -> str:
    if unknown := re.search(r"unexpected keyword argument '(\w+)'", str(cause)):
        return f"{where}.{unknown[1]} is no argument of what {where}._target_ names: leave it out."
    text = str(cause) if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
    frame = traceback.extract_tb(cause.__traceback__)[-1]
    line = f"{Path(frame.filename).name}, line {frame.lineno}"
    return f"{where} cannot be made from its arguments: {text} ({line}; HYDRA_FULL_ERROR=1 shows the whole)."


def check_arguments(node: Any, where: str) -> None:
    """ValueError where the arguments of a node with `_target_`, or of a nested one, do not fit its constructor."""
    plain: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if isinstance(plain, Mapping) and "_target_" in plain:
        _check_one(plain, where)
    if isinstance(plain, Mapping | list):
        for key, value in plain.items() if isinstance(plain, Mapping) else enumerate(plain):
            check_arguments(value, f"{where}.{key}")


def _check_one(node: Mapping[str, Any], where: str) -> None:
    target = import_target(node["_target_"], f"{where}._target_")
    try:
        parameters, hints = _parameters_of(target)
    except (ValueError, TypeError):  # of builtins
        return
    rest = next((parameter for parameter in parameters.values() if parameter.kind is parameter.VAR_KEYWORD), None)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = [name for name, parameter in parameters.items() if parameter.kind in named]
    target_name = getattr(target, "__qualname__", str(node["_target_"]))
    for key in (key for key in node if key not in HYDRA_KEYS):
        if key not in known and rest is None:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ValueError(f"{where}.{key} is no argument of {target_name}.{hint} It takes: {', '.join(known) or 'none'}.")
        _check_value(node[key], parameters.get(key, rest), hints, f"{where}.{key}")
    given = {*node, *SET_BY_THE_RUN.get(where.partition(".")[0], ())}
    missing = [name for name in known if parameters[name].default is inspect.Parameter.empty and name not in given]
    if missing and not node.get("_partial_") and "_args_" not in node:
        raise ValueError(f"{where}.{missing[0]} is missing: {target_name} needs {', '.join(missing)}.")


def _parameters_of(target: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """Parameters and their types by name. A target may have an attribute `passes_to`, the callable that gets its `**options`:
    the parameters of that are included."""
    parameters, hints = dict(inspect.signature(target).parameters), hints_of(target)
    if passes_to := getattr(target, "passes_to", None):
        named = {name: parameter for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}
        parameters = named | dict(inspect.signature(passes_to).parameters) | named
        hints = hints_of(passes_to) | hints
    return parameters, hints


def _check_value(value: Any, parameter: inspect.Parameter, hints: Mapping[str, Any], where: str) -> None:
    hint = hints.get(parameter.name, Any)
    is_default = value is parameter.default or (value is not None and value == parameter.default)
    if not fits(value, hint) and not is_default:
        raise ValueError(f"{where}={shown(value)}: give {type_in_words(hint)}.")


def import_target(path: Any, where: str) -> Callable[..., Any]:
    """The class or function of a dotted path.

    Raises:
        ValueError: there is none; `where` is the key that names it.
    """
    try:
        target = pkgutil.resolve_name(path)
    except (ImportError, ValueError, AttributeError, TypeError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"{where}={shown(path)} cannot be imported ({reason}): give the dotted path of a class.") from error
    if not callable(target):
        raise ValueError(f"{where}={shown(path)} is no class and no function: give the dotted path of one.")
    return target


def hints_of(target: Callable[..., Any]) -> dict[str, Any]:
    """Types by argument; empty where the annotations cannot be read."""
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except Exception:  # names that are imported for type checkers alone, and whatever else an annotation may hold
        return {}


def union_members(hint: Any) -> tuple[Any, ...]:
    """The members of a union; the type itself where it is no union."""
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value, or a node with `_target_`, can be an argument of this type."""
    if len(members := union_members(hint)) > 1:
        return any(fits(value, member) for member in members)
    if typing.get_origin(hint) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in typing.get_args(hint))
    if hint in (int, bool, str):
        return type(value) is hint
    if hint is float:
        return type(value) is int or (type(value) is float and math.isfinite(value))
    if hint is Path:
        return isinstance(value, str)
    if hint is type(None) or hint is None:
        return value is None
    if isinstance(value, Mapping) and "_target_" in value:
        return True  # the constructor checks what the node makes
    return _fits_class(value, typing.get_origin(hint) or hint, typing.get_args(hint))


def _fits_class(value: Any, kind: Any, inner: tuple[Any, ...]) -> bool:
    """Whether a value that is no node can be an argument of the class `kind[inner]`."""
    if not inspect.isclass(kind):
        return True
    if kind is collections.abc.Callable:
        return False
    if issubclass(kind, collections.abc.Mapping):
        return isinstance(value, Mapping) and (len(inner) != 2 or all(fits(entry, inner[1]) for entry in value.values()))
    if issubclass(kind, list | tuple | set) or kind in (collections.abc.Sequence, collections.abc.Iterable):
        entry_type = inner[0] if inner and (len(inner) == 1 or inner[-1] is Ellipsis) else Any
        return isinstance(value, list) and all(fits(entry, entry_type) for entry in value)
    return kind.__module__.split(".")[0] not in PROJECT_PACKAGES


def type_in_words(hint: Any) -> str:
    """A type in words: "an integer or null"."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if len(members := union_members(hint)) > 1:
        return " or ".join(dict.fromkeys(map(type_in_words, members)))
    if origin is Literal:
        return f"{', '.join(map(str, inner[:-1]))} or {inner[-1]}" if len(inner) > 1 else str(inner[0])
    if hint in TYPE_WORDS:
        return TYPE_WORDS[hint]
    kind = origin or hint
    if inspect.isclass(kind) and issubclass(kind, collections.abc.Mapping):
        return "a mapping"
    if inspect.isclass(kind) and kind is not str and issubclass(kind, collections.abc.Sequence | collections.abc.Set):
        entry_type = next((argument for argument in inner if argument is not Ellipsis), Any)
        plural = {str: " of texts", int: " of integers", float: " of numbers"}
        return "a list" + plural.get(entry_type, "")
    return "a mapping with the _target_ that makes it"
