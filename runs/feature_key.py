"""Describes everything that image features depend on as plain data, and computes the digest that names them in the store.

Objects are described by their class, the file that it stands in and their attributes, so that another transform, another source
of images or an edited file has other features. What cannot be described is refused, and nothing is stored. Imports no torch.
"""

from __future__ import annotations

import enum
import hashlib
import inspect
import json
import platform
from collections.abc import Mapping
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from runs.identity import file_digest

ROOT = Path(__file__).parents[1]
CODE = ("prompts/engine/*.py", "datamodules/*.py", "lightning_modules/features.py")  # the code that computes features
LIBRARIES = ("torch", "torchvision", "open_clip_torch", "timm", "pillow", "numpy")
DIGITS = 40  # of a key
MOST_LEVELS = 12  # of objects in objects


class Unknown(Exception):
    """An object that cannot be described."""


def key_of(parts: Mapping[str, Any]) -> str:
    """The digest of plain data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:DIGITS]


@lru_cache
def software() -> list[Any]:
    """The versions of the libraries and the code that make features, and the processor."""
    files = sorted(path for pattern in CODE for path in ROOT.glob(pattern))
    return [[_version(name) for name in LIBRARIES], [file_digest(path) for path in files], _processor()]


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _processor() -> list[str]:
    """The processor's name: libraries choose their kernels by it, and kernels differ in the last bits."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")][:1]
    except OSError:
        names = []
    return [platform.machine(), *names]


def described(value: Any, levels: int = MOST_LEVELS) -> Any:
    """Plain data that is equal for two objects of the same code and content.

    Raises:
        Unknown: an object whose content is not plain, such as a generator or an open file.
    """
    if levels == 0:
        raise Unknown("it is nested too deep")
    if value is None or isinstance(value, bool | int | float | str):
        return [type(value).__name__, repr(value)]
    if isinstance(value, enum.Enum):
        return [_code(type(value)), value.name]
    if isinstance(value, list | tuple):
        return [described(entry, levels - 1) for entry in value]
    if isinstance(value, set | frozenset):
        return sorted((described(entry, levels - 1) for entry in value), key=json.dumps)
    if isinstance(value, Mapping):
        return [[described(key, levels - 1), described(entry, levels - 1)] for key, entry in value.items()]
    if isinstance(value, partial):
        return ["partial", *(described(part, levels - 1) for part in (value.func, value.args, value.keywords))]
    if inspect.isfunction(value):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [_code(value), described([value.__defaults__, value.__kwdefaults__, cells], levels - 1)]
    if inspect.ismethod(value):
        return [value.__name__, described(value.__self__, levels - 1)]
    if isinstance(value, type):
        return [_code(kind) for kind in value.__mro__ if kind.__module__ != "builtins"]
    if not hasattr(value, "__dict__"):
        raise Unknown(f"it holds a {type(value).__name__}")
    return [described(type(value), levels), described(vars(value), levels - 1)]


def _code(made: Any) -> list[str]:
    """The name of a function or class, and the digest of the file that it stands in."""
    try:
        digest = file_digest(Path(inspect.getfile(made)))
    except (TypeError, OSError) as error:
        raise Unknown(f"the code of {getattr(made, '__qualname__', made)} is in no file") from error
    return [made.__module__, made.__qualname__, digest]
