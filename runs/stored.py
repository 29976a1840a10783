"""Settings stored in files (`prompts.safetensors`, `result.json`), checked before they enter a config or a constructor.

Anyone may have made the file. So its values must be plain data of the type that the key has here, by the constructor's
signature or by the yaml files of this project, and never the name of code or text that OmegaConf would resolve.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from datamodules.annotation_files import id_of
from files.untrusted import MAX_CLASSES, is_plain, text_of
from runs.arguments import fits, hints_of, import_target, type_in_words
from runs.jobs import NAMED

# Keys that only the user sets: a folder to write to, a reader that may unpickle, settings of this machine.
WITHHELD = ("index", "builder", "workers", "decoded_mb")
CATEGORY_IDS = "category_ids"  # entry of a prompts file: the data's own id of each class
LARGEST = 2**32  # limit of a stored integer; seeds are smaller
LARGEST_SETTING = 30_000  # limit of a method's integers, most of which are sizes: POMP samples up to 21,841 classes


def checked_about(about: dict[str, Any], path: Path) -> dict[str, Any]:
    """The metadata of a prompts file, with checked types. Settings are checked where they are used.

    Raises:
        ValueError: a value has another type; `path` is the file that is named.
    """
    for key in ("classnames", "own_classes"):
        names = about[key]
        if names is None and key == "own_classes":
            continue
        if not isinstance(names, list) or not 0 < len(names) <= MAX_CLASSES:
            raise ValueError(f"{path} is no prompts file of this suite: its {key} are not a list of class names.")
        for at, name in enumerate(names):
            text_of(name, f"{path}: {key}[{at}]", 1000)
    if CATEGORY_IDS in about:
        _check_ids(about[CATEGORY_IDS], about["classnames"], path)
    for key in set(NAMED) & set(about):
        text_of(about[key], f"{path}: {key}", 200)
    for key in {"shots", "seed", "epoch"} & set(about):
        if type(about[key]) is not int:
            raise ValueError(f"{path} is no prompts file of this suite: its {key} is {about[key]!r:.80}, not an integer.")
    if not isinstance(about.setdefault("settings", {}), dict):
        raise ValueError(f"{path} is no prompts file of this suite: its settings are not an object.")
    return about


def _check_ids(ids: Any, classnames: Sequence[str], path: Path) -> None:
    """ValueError unless the ids are integers or short texts, one for each class, no two of them equal."""
    if not isinstance(ids, list) or len(ids) != len(classnames):
        raise ValueError(f"{path} is no prompts file of this suite: its {CATEGORY_IDS} are not one for each class.")
    for at, one in enumerate(ids):
        id_of(one, f"{path}: {CATEGORY_IDS}[{at}]")
    if len(set(ids)) < len(ids):
        raise ValueError(f"{path} is no prompts file of this suite: two of its {CATEGORY_IDS} are the same.")


def method_settings(method: DictConfig, stored: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The stored settings of a method as arguments of its constructor. Left out are unknown keys, and those that the method's
    yaml interpolates (they follow the data) or fills with a node to instantiate. Pass them to the constructor itself, never to
    Hydra's `instantiate`.

    Raises:
        ValueError: one is no plain value, or not of its key's type; `where` names the file in the message.
    """
    refuse_interpolations(stored, where)
    settings = {}
    for key, value in stored.items():
        known = key in method and not key.startswith("_") and not OmegaConf.is_interpolation(method, key)
        if known and not OmegaConf.is_dict(method[key]) and not names_code(value):
            settings[key] = checked_value(method, key, value, where, LARGEST_SETTING)
    return settings


def take_over_method(cfg: DictConfig, stored: Mapping[str, Any], where: str) -> None:
    """Sets what a method's settings interpolate to the stored values, so that it is what it was in training: the data's key
    that they follow (`dataset_templates: ${data.templates}`), or else the setting itself. The other settings are those of
    `method_settings`.

    Raises:
        ValueError: a value is not of its key's type, or one that OmegaConf would resolve; `where` names the file.
    """
    method = cfg.method
    followed = {key: value for key, value in stored.items() if key in method and OmegaConf.is_interpolation(method, key)}
    texts: Any = OmegaConf.to_container(method, resolve=False)
    of_data = {}
    for key, value in followed.items():
        if data_key := re.fullmatch(r"\$\{data\.(\w+)\}", str(texts[key])):
            of_data[data_key[1]] = value
    take_over(cfg.data, of_data, where)
    take_over(method, followed, where)


def check_names(names: Mapping[str, str], folders: Sequence[Path], where: Path) -> None:
    """ValueError where a group's option is not one of the folders' yaml files: an override can hold more than a name."""
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

    Returns:
        The values that look like a path, an address or a repository, by dotted key.

    Raises:
        ValueError: a value is not of its key's type, or one that OmegaConf would resolve.
    """
    refuse_interpolations(stored, where)
    places = {}
    for key, value in stored.items():
        if key not in cfg or key.startswith("_") or key in WITHHELD:
            continue
        if isinstance(value, dict) and isinstance(node := node_of(cfg, key), DictConfig):
            places |= take_over(node, value, where, f"{at}{key}.")
        elif not names_code(value) and value_of(cfg, key) != value:
            cfg[key] = checked_value(cfg, key, value, where)
            if isinstance(value, str) and set(value) & set("/\\:~"):
                places[f"{at}{key}"] = value
    return places


def names_code(value: Any) -> bool:
    """Whether a key at any depth is one of those by which Hydra is told what to construct."""
    if isinstance(value, dict):
        return any(key.startswith("_") or names_code(entry) for key, entry in value.items())
    return isinstance(value, list) and any(map(names_code, value))


def refuse_interpolations(value: Any, where: str) -> None:
    """ValueError where a text at any depth, a key too, is one that OmegaConf would resolve."""
    for text in leaves(value):
        if isinstance(text, str) and ("${" in text or text == "???"):
            raise ValueError(
                f"{where} holds {text[:80]!r}, an interpolation: values of a file are never interpolated, so it is refused."
            )


def checked_value(node: DictConfig, key: str, value: Any, where: str, largest: int = LARGEST) -> Any:
    """The value, if it has the type of the node's key: that of the parameter of what the node constructs, or else that of the
    value that our yaml gives.

    Raises:
        ValueError: it has another type, holds a control character, or an integer beyond `largest`.
    """
    hints = types_of(node.get("_target_"))
    default = value_of(node, key)
    good = fits(value, hints[key]) if key in hints else fits_beside(value, default)
    if not good or not is_plain(value):
        wanted = type_in_words(hints[key]) if key in hints else f"of the kind of {default!r:.60}"
        raise ValueError(f"{where} says {key}={value!r:.80}, which is not {wanted}: the file is damaged or of another version.")
    for leaf in leaves(value):
        if isinstance(leaf, str) and leaf:
            text_of(leaf, f"{where}: {key}")
        elif type(leaf) in (int, float) and abs(leaf) > largest:
            raise ValueError(f"{where} says {key}={value!r:.80}, and no such number is above {largest:,}.")
    return value


def value_of(cfg: DictConfig, key: str) -> Any:
    """A key's value as plain data; None where it is an interpolation that cannot be resolved yet."""
    node = node_of(cfg, key)
    try:
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException:
        return None


def node_of(cfg: DictConfig, key: str) -> Any:
    """A key's node in the config; None where it is an interpolation that cannot be resolved yet."""
    try:
        return cfg[key]
    except OmegaConfBaseException:
        return None


@cache
def types_of(target: str | None) -> dict[str, Any]:
    """Name -> type of the parameters of what a `_target_` of our yaml names; empty where they are not annotated."""
    return hints_of(import_target(target, "_target_")) if isinstance(target, str) else {}


def fits_beside(value: Any, default: Any) -> bool:
    """Whether plain data is of the type of the yaml's default; where that is null, whether it is a scalar."""
    if default is None or value is None:
        return not isinstance(value if default is None else default, dict | list)
    if isinstance(default, list):
        return isinstance(value, list) and (not default or all(fits_beside(entry, default[0]) for entry in value))
    return fits(value, type(default))


def leaves(value: Any) -> list[Any]:
    """The keys and the values, at any depth, that are neither mapping nor list."""
    if isinstance(value, Mapping):
        return [leaf for key, entry in value.items() for leaf in (key, *leaves(entry))]
    if isinstance(value, list):
        return [leaf for entry in value for leaf in leaves(entry)]
    return [value]
