"""The recipes of a run: which sections of `conf/recipe/METHOD.yaml` apply (`runs/recipe_files.py` has their layout).

Imports neither torch nor lightning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf, open_dict

from runs import keys
from runs.recipe_files import (
    FOLDER,
    FOUND,
    SECTIONS,
    RecipeSource,
    config_folders,
    find_section,
    found_file,
    is_found,
    options,
    read_recipes,
    section_names,
    served_name,
)


def complete(cfg: DictConfig, hydra: DictConfig) -> None:
    """Fills `cfg.recipes`: `used`, the names of the recipes that apply, where later ones take precedence and found/NAME follows
    a NAME for which a search has found values; `missing`, an error message where a method that trains has no recipe.

    Composes the config anew where its defaults list cannot know what applies: `protocol.recipe` is set in a folder of the
    user's own, an experiment or the command line, or such a folder holds recipe/METHOD.yaml.

    Raises:
        ValueError: a recipe that was asked for is not there, or a file of recipes is wrong.
    """
    if cfg.get("recipes"):  # refused, as it would be replaced silently
        raise ValueError(f"recipes={keys.shown(keys.resolved(cfg, 'recipes'))}: {keys.KEYS['recipes'].give}.")
    sources, choices = hydra.runtime.config_sources, hydra.runtime.choices
    folders = config_folders((source.schema, source.path) for source in sources)
    overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    asked = {override.lstrip("+").partition("=")[0] for override in overrides}
    for group in SECTIONS:
        if group in asked and not _exists(folders, folders, group, choices[group]):
            known = ", ".join(options(group, folders))
            raise ValueError(f"{group}={choices[group]} is not known: choose one of {known}.")
    check_names(choices.method, folders)

    wanted = {group: choices[group] for group in SECTIONS if group in choices}
    if "recipe" in wanted and "recipe" not in asked:
        wanted["recipe"] = f"{choices.method}-{_recipe_protocol(cfg) or choices.protocol}"
    used = [name for group, name in wanted.items() if _exists(folders, folders, group, name)]
    if used != [name for group in wanted if (name := _merged(sources, group, choices[group]))]:
        more = [f"recipe={wanted['recipe']}"] if wanted.get("recipe") in used and "recipe" not in asked else []
        _compose_again(cfg, hydra, folders, [*overrides, *more])
    with open_dict(cfg):
        cfg.recipes = {
            "used": _with_found(wanted, used, folders),
            "missing": None if wanted.get("recipe") in used else _missing(choices, folders),
        }


def check_names(method: str, folders: Sequence[Path]) -> None:
    """ValueError where a recipe section of the method names no protocol, clip or dataset, and so would never be used."""
    for folder in folders:
        file = folder / FOLDER / f"{method}.yaml"
        for section, entries in (recipes.sections if (recipes := read_recipes(file)) else {}).items():
            known = [name for name in options(section, folders) if not name.startswith("_")]
            if unknown := sorted(set(entries) - set(known)):
                file = found_file(file) if (section, unknown[0]) in recipes.found else file
                raise ValueError(f"{file}: {section} has {unknown[0]}, which is not known: choose among {', '.join(known)}.")


def _with_found(wanted: Mapping[str, str], used: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The names of the recipes that apply, with found/NAME behind each NAME for which a search has found values."""
    names = []
    for group, name in wanted.items():
        serving = [folder for folder in folders if _exists([], [folder], group, name)][:1]  # the first folder takes precedence
        names += [name] if name in used else []
        names += [f"{FOUND}/{name}" for folder in serving if is_found(folder, group, name)]
    return names


def _recipe_protocol(cfg: DictConfig) -> str | None:
    """The protocol whose recipes the run's protocol uses; None: its own."""
    name = keys.resolved(cfg.protocol, "recipe", "protocol.recipe") if "recipe" in cfg.protocol else None
    if name is not None and not isinstance(name, str):
        raise ValueError(f"protocol.recipe={keys.shown(name)}: give the name of a protocol, or null for its own recipes.")
    return name


def _exists(plain: Iterable[Path], served: Iterable[Path], group: str, name: Any) -> bool:
    """Whether a recipe is there: as a yaml file in one of the folders `plain`, or as a section in one of those `served`."""
    if not isinstance(name, str) or "/" in name:
        return False
    if any(find_section(folder, group, name) is not None for folder in served):
        return True
    files = [folder / group / f"{name}.yaml" for folder in plain]
    return any(file.is_file() and (group != FOLDER or read_recipes(file) is None) for file in files)


def _merged(sources: Iterable[Any], group: str, name: Any) -> str | None:
    """The recipe that Hydra has merged under this name, from the first source that has it."""
    for source in sources:
        folders = config_folders([(source.schema, source.path)])
        served = source.schema == RecipeSource.scheme()
        meant = served_name(folders[0], group, name) if served and isinstance(name, str) else name
        if _exists([] if served else folders, folders if served else [], group, meant):
            return meant
    return None


def _compose_again(cfg: DictConfig, hydra: DictConfig, folders: Iterable[Path], overrides: Sequence[str]) -> None:
    """Replaces the config's content by what these overrides give where all folders serve their recipes."""
    sources = hydra.runtime.config_sources
    search = [f"{source.schema}://{source.path}" for source in sources if source.provider.startswith("hydra.searchpath")]
    search += [f"{RecipeSource.scheme()}://{folder}" for folder in folders]
    quoted = ",".join("'" + path.replace("'", r"\'") + "'" for path in search)
    composed = compose(hydra.job.config_name, [f"hydra.searchpath=[{quoted}]", *overrides])
    with open_dict(cfg):
        for key, node in composed.items_ex(resolve=False):
            cfg[key] = node


def _missing(choices: Mapping[str, str], folders: Sequence[Path]) -> str:
    """The error message for training a method without a recipe. Reads no other method's file."""
    method = choices["method"]
    names = {file.stem for folder in folders for file in (folder / FOLDER).glob(f"{method}-*.yaml")}
    for file in (folder / FOLDER / f"{method}.yaml" for folder in folders):
        names |= set(section_names(file, "recipe") or []) if file.is_file() else set()
    others = " or ".join(f"recipe={name}" for name in sorted(names))
    others = f"such as {others}" if names else "recipe=NAME with a name that --help lists under recipe"
    return (
        f"there is no recipe for method={method} with protocol={choices['protocol']} (epochs, batch size, rate): choose "
        f"another's, {others}; or give recipe=none and set epochs, batch_size and optim.lr yourself."
    )
