"""Values that a file says a run had (`prompts.safetensors`, `result.json`), on their way into a config or constructor of ours.

The file may be a stranger's, so its values are plain data: of the type that the constructor's signature gives to the key, or
else our own yaml; never code by name, and never text that OmegaConf would resolve.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from files.untrusted import MAX_CLASSES, is_plain, text_of
from runs.arguments import fits, found, hints_of, spoken
from runs.jobs import NAMED

# what the user alone says: a folder to write to, a reader that may unpickle, what this machine can do
WITHHELD = ("index", "builder", "workers")
LARGEST = 2**32  # of a stored integer: seeds lie below
LARGEST_SETTING = 30_000  # of a method's integers, most of which are sizes of something: POMP samples up to 21,841 classes


def checked_about(about: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a prompts file says about itself, its types checked; settings are checked where they are used. ValueError."""
    for key in ("classnames", "own_classes"):
        names = about[key]
        if names is None and key == "own_classes":
            continue
        if not isinstance(names, list) or not 0 < len(names) <= MAX_CLASSES:
            raise ValueError(f"{path} is no prompts file of this suite: its {key} are not a list of class names.")
        for at, name in enumerate(names):
            text_of(name, f"{path}: {key}[{at}]", 1000)
    for key in set(NAMED) & set(about):
        text_of(about[key], f"{path}: {key}", 200)
    for key in {"shots", "seed", "epoch"} & set(about):
        if type(about[key]) is not int:
            raise ValueError(f"{path} is no prompts file of this suite: its {key} is {about[key]!r:.80}, not an integer.")
    if not isinstance(about.setdefault("settings", {}), dict):
        raise ValueError(f"{path} is no prompts file of this suite: its settings are not an object.")
    return about


def method_settings(method: DictConfig, stored: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The stored settings of a method as arguments of its constructor: those of known keys that our yaml neither interpolates
    (they follow the data) nor fills with something to construct. Call the constructor with them; `instantiate` must not see
    them.

    Raises:
        ValueError: one is no plain value, or not of its key's type; `where` says where it stands.
    """
    refuse_interpolations(stored, where)
    settings = {}
    for key, value in stored.items():
        known = key in method and not key.startswith("_") and not OmegaConf.is_interpolation(method, key)
        if known and not OmegaConf.is_dict(method[key]) and not names_code(value):
            settings[key] = typed(method, key, value, where, LARGEST_SETTING)
    return settings


def check_names(names: Mapping[str, str], folders: Sequence[Path], where: Path) -> None:
    """ValueError where a group's option is not one of the folders' yaml files: Hydra reads more than names in an override."""
    for group, name in names.items():
        options = {path.stem for folder in folders for path in (folder / group).glob("*.yaml")}
        if name not in options or not re.fullmatch(r"\w[\w.-]*", name, re.ASCII) or name.startswith("_"):
            raise ValueError(
                f"{where} names {group}={name[:80]!r}, which is not here: give the folder that holds {group}/ with that yaml "
                "by --config-dir, or run it again."
            )


def take_over(cfg: DictConfig, stored: Mapping[str, Any], where: str, at: str = "") -> dict[str, str]:
    """Sets known keys to the stored plain values. A key whose interpolation gives that value anyway stays interpolated, so that
    an override of the other key still reaches it.

    Returns: by dotted key, what it set that reads like a place: a path, an address, a repository.

    Raises:
        ValueError: a value is not of its key's type, or one that OmegaConf would resolve.
    """
    refuse_interpolations(stored, where)
    places = {}
    for key, value in stored.items():
        if key not in cfg or key.startswith("_") or key in WITHHELD:
            continue
        if isinstance(value, dict) and isinstance(here := node_of(cfg, key), DictConfig):
            places |= take_over(here, value, where, f"{at}{key}.")
        elif not names_code(value) and value_of(cfg, key) != value:
            cfg[key] = typed(cfg, key, value, where)
            if isinstance(value, str) and set(value) & set("/\\:~"):
                places[f"{at}{key}"] = value
    return places


def names_code(value: Any) -> bool:
    """Whether a key at any depth is one of those by which Hydra is told what to construct."""
    if isinstance(value, dict):
        return any(key.startswith("_") or names_code(each) for key, each in value.items())
    return isinstance(value, list) and any(map(names_code, value))


def refuse_interpolations(value: Any, where: str) -> None:
    """ValueError where a text at any depth, a key too, is one that OmegaConf would resolve."""
    if isinstance(value, str) and ("${" in value or value == "???"):
        raise ValueError(
            f"{where} holds {value[:80]!r}, an interpolation: a file's values are taken as they stand, so this is none."
        )
    if isinstance(value, Mapping):
        for key, each in value.items():
            refuse_interpolations(key, where)
            refuse_interpolations(each, where)
    elif isinstance(value, list):
        for each in value:
            refuse_interpolations(each, where)


def typed(own: DictConfig, key: str, value: Any, where: str, largest: int = LARGEST) -> Any:
    """The value, if it has the type of `own`'s key: as the signature of what `own` constructs says, or else as our value is.

    Raises:
        ValueError: it has another type, holds a control character, or an integer beyond `largest`.
    """
    hints = types_of(own.get("_target_"))
    ours = value_of(own, key)
    good = fits(value, hints[key]) if key in hints else fits_beside(value, ours)
    if not good or not is_plain(value):
        wanted = spoken(hints[key]) if key in hints else f"of the kind of {ours!r:.60}"
        raise ValueError(f"{where} says {key}={value!r:.80}, which is not {wanted}: the file is damaged or of another version.")
    for each in leaves(value):
        if isinstance(each, str) and each:
            text_of(each, f"{where}: {key}")
        elif type(each) in (int, float) and abs(each) > largest:
            raise ValueError(f"{where} says {key}={value!r:.80}, and no such number is above {largest:,}.")
    return value


def value_of(own: DictConfig, key: str) -> Any:
    """Our value as plain data; None where an interpolation of ours has none yet."""
    try:
        here = own[key]
        return OmegaConf.to_container(here, resolve=True) if OmegaConf.is_config(here) else here
    except OmegaConfBaseException:
        return None


def node_of(own: DictConfig, key: str) -> Any:
    """Our value as it stands in the config; None where an interpolation of ours has none yet."""
    try:
        return own[key]
    except OmegaConfBaseException:
        return None


@cache
def types_of(target: str | None) -> dict[str, Any]:
    """Name -> type of the parameters of what a `_target_` of our yaml names; empty where they are not annotated."""
    return hints_of(found(target, "_target_")) if isinstance(target, str) else {}


def fits_beside(value: Any, ours: Any) -> bool:
    """Whether plain data is of the kind of our own value; of one that is null, any scalar."""
    if ours is None or value is None:
        return not isinstance(value if ours is None else ours, dict | list)
    if isinstance(ours, list):
        return isinstance(value, list) and (not ours or all(fits_beside(each, ours[0]) for each in value))
    return fits(value, type(ours))


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key, each in value.items() for leaf in (key, *leaves(each))]
    if isinstance(value, list):
        return [leaf for each in value for leaf in leaves(each)]
    return [value]
