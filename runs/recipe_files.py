"""The files of recipes, and the Hydra plugin that serves their sections.

All recipes of a method are in one file, `conf/recipe/METHOD.yaml`:

    common:   {batch_size: 32}               # a part of every recipe under `protocol`
    protocol: {few_shot: {epochs: 50}}       # by the name of the protocol; {} where `common` is enough
    clip:     {tiny: {method: {depth: 3}}}   # what changes on one backbone
    data:     {digits: {epochs: 100}}        # what changes on one dataset

Values that a search has found are in `conf/recipe/found/METHOD.yaml`, which has the same layout. Its sections are merged over
those of the same name, so that a found value takes precedence over one written by hand.

Hydra can only compose whole files, so `RecipeSource` serves each section as a file of its own: `recipe/METHOD-PROTOCOL`,
`recipe_clip/METHOD-CLIP` and `recipe_data/METHOD-DATA`, which the defaults list of `conf/config.yaml` merges in this order.
Plain yaml files of these names, in a folder of the user's own, work as well.

Imports neither torch nor lightning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

FOLDER = "recipe"  # of the files, below a folder of configs
FOUND = "found"  # of the files that a search has written, below that folder
SECTIONS = {"recipe": "protocol", "recipe_clip": "clip", "recipe_data": "data"}  # Hydra's group -> section, later ones win
COMMON = "common"
PACKAGE = re.compile(r"^\s*#\s*@package", re.MULTILINE)  # the header of a recipe by itself


# ---- the files


@dataclass(frozen=True)
class MethodRecipes:
    """The content of one `conf/recipe/METHOD.yaml`: section -> name in it -> settings. `found`: the sections and names for
    which a search has found values."""

    method: str
    sections: Mapping[str, Mapping[str, DictConfig]]
    found: frozenset[tuple[str, str]]


def read_recipes(file: Path) -> MethodRecipes | None:
    """The recipes of a method, with what a search found merged over them.

    Args:
        file: recipe/METHOD.yaml. recipe/found/METHOD.yaml, if it is there, is merged over it, or read alone without it.

    Returns:
        None where there is neither, or the file is one recipe by itself (it says `# @package`).

    Raises:
        ValueError: a file has other keys than the four, or a section is no mapping of mappings.
    """
    return _recipes(file, _modified(file), _modified(found_file(file)))


@lru_cache(maxsize=128)  # a command line asks for the same few files some thirty times
def _recipes(file: Path, modified: int | None, found_modified: int | None) -> MethodRecipes | None:
    own = None if modified is None else _read(file, modified)
    found: Any = None if found_modified is None else _read(found_file(file), found_modified)
    if own is None and (found is None or modified is not None):
        return None
    content: Any = OmegaConf.merge(*(part for part in (own, found) if part is not None))
    common, sections = content.get(COMMON) or {}, {}
    for section in SECTIONS.values():
        base, entries = common if section == "protocol" else {}, content.get(section) or {}
        sections[section] = {str(name): OmegaConf.merge(base, entry) for name, entry in entries.items()}
    of_search = {(section, str(name)) for section in SECTIONS.values() for name in (found or {}).get(section) or {}}
    return MethodRecipes(file.stem, sections, frozenset(of_search))  # type: ignore[arg-type]


def found_file(file: Path) -> Path:
    """The file of values that a search found for the method of recipe/METHOD.yaml."""
    return file.parent / FOUND / file.name


def _modified(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None  # there is no such file


@lru_cache(maxsize=128)
def _read(file: Path, modified: int) -> DictConfig | None:
    text = file.read_text(encoding="utf-8")
    layout = f"recipes of a method are {COMMON}, {', '.join(SECTIONS.values())}; a recipe by itself starts with # @package"
    if PACKAGE.search(text):
        if file.parent.name == FOUND:
            raise ValueError(f"{file} is a recipe by itself, which nothing reads in the folder {FOUND}: {layout}.")
        return None
    try:
        content = OmegaConf.create(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{file} cannot be read as yaml: {error}") from error
    if not isinstance(content, DictConfig):
        raise ValueError(f"{file} is no mapping: {layout}.")
    if unknown := sorted(set(map(str, content)) - {COMMON, *SECTIONS.values()}):
        raise ValueError(f"{file}: the key {unknown[0]} is not known: {layout}.")
    for section in SECTIONS.values():
        common, entries = (content.get(key) or OmegaConf.create({}) for key in (COMMON, section))
        mappings = isinstance(common, DictConfig) and isinstance(entries, DictConfig)
        if not mappings or not all(isinstance(entry, DictConfig) for entry in entries.values()):
            raise ValueError(f"{file}: {COMMON} is a mapping, and {section} a mapping of names to mappings; {layout}.")
    return content


def section_names(file: Path, group: str) -> list[str] | None:
    """The options of a Hydra group that a file holds, as METHOD-NAME; None where it is one recipe by itself.

    Reads no values, which is fast enough to look at all files.
    """
    text = file.read_text(encoding="utf-8")
    if PACKAGE.search(text):
        return None
    try:
        content = yaml.compose(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        sections = {key.value: entries.value for key, entries in content.value}
        return [f"{file.stem}-{name.value}" for name, _ in sections.get(SECTIONS[group], [])]
    except (yaml.YAMLError, AttributeError, TypeError, ValueError):
        read_recipes(file)  # raises the error with its reason
        return []


def find_section(folder: Path, group: str, name: str) -> DictConfig | None:
    """The section METHOD-NAME of a group, from the files of this folder; None where none of them has it."""
    recipes, option = _find(folder, group, name)
    return recipes.sections[SECTIONS[group]][option] if recipes else None


def is_found(folder: Path, group: str, name: str) -> bool:
    """Whether the section METHOD-NAME of a group has values that a search found, by the files of this folder."""
    recipes, option = _find(folder, group, name)
    return recipes is not None and (SECTIONS[group], option) in recipes.found


def _find(folder: Path, group: str, name: str) -> tuple[MethodRecipes | None, str]:
    for dash in (match.start() for match in re.finditer("-", name)):  # names of methods may have dashes, too
        method, option = name[:dash], name[dash + 1 :]
        recipes = None if "/" in name else read_recipes(folder / FOLDER / f"{method}.yaml")
        if recipes and option in recipes.sections[SECTIONS[group]]:
            return recipes, option
    return None, ""


def served_name(folder: Path, group: str, name: str) -> str:
    """METHOD-OTHER for METHOD-PROTOCOL where the protocol's file in this folder says `recipe: OTHER`; else the name itself."""
    method, _, protocol = name.rpartition("-")
    file = folder / "protocol" / f"{protocol}.yaml"
    if group != "recipe" or "/" in name or not file.is_file():
        return name
    return f"{method}-{other}" if isinstance(other := _used_by(file, _modified(file)), str) else name


@lru_cache(maxsize=128)
def _used_by(file: Path, modified: int | None) -> Any:
    content = OmegaConf.load(file)
    return content.get("recipe") if isinstance(content, DictConfig) else None


# ---- Hydra's view of them


class RecipeSource(ConfigSource):
    """`recipes://FOLDER`: each section of the files in FOLDER/recipe as a config of its own, at the root of the config.

    A protocol that uses another's recipes is served these under its own name.
    """

    @staticmethod
    def scheme() -> str:
        """The scheme of a search path's URL, before ://."""
        return "recipes"

    def _section(self, config_path: str) -> DictConfig | None:
        group, _, name = config_path.removesuffix(".yaml").partition("/")
        return find_section(Path(self.path), group, served_name(Path(self.path), group, name)) if group in SECTIONS else None

    def load_config(self, config_path: str) -> ConfigResult:
        """A copy of the section; Hydra takes keys out of what it gets."""
        section = self._section(config_path)
        assert section is not None, f"{config_path} was never offered"
        return ConfigResult(self.provider, self.full_path(), OmegaConf.merge(section), {"package": "_global_"})

    def is_config(self, config_path: str) -> bool:
        """Whether there is such a section."""
        return self._section(config_path) is not None

    def is_group(self, config_path: str) -> bool:
        """Whether it is the root or one of the three groups."""
        return config_path in ("", *SECTIONS)

    def available(self) -> bool:
        """True: a folder without recipes serves none."""
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The groups at the root; in a group the sections, without protocols that use another's."""
        if config_path in SECTIONS and results_filter != ObjectType.GROUP:
            return sorted(_sections_in(Path(self.path), config_path))
        return sorted(SECTIONS) if not config_path and results_filter != ObjectType.CONFIG else []


class RecipeSearchPath(SearchPathPlugin):
    """Adds the recipes of the main config folder to Hydra's search path.

    An entry of `hydra.searchpath` in config.yaml would be lost as soon as the command line gives that key.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Puts `recipes://` behind each main folder."""
        for element in [element for element in search_path.get_path() if element.provider == "main"]:
            if not re.match(r"(?!file:)\w+://", element.path):
                search_path.append("recipes", f"{RecipeSource.scheme()}://{element.path.removeprefix('file://')}")


Plugins.instance().register(RecipeSource)
Plugins.instance().register(RecipeSearchPath)


def _sections_in(folder: Path, group: str) -> set[str]:
    files = [*(folder / FOLDER).glob("*.yaml"), *(folder / FOLDER / FOUND).glob("*.yaml")]
    return {name for file in files for name in section_names(file, group) or []}


def config_folders(sources: Iterable[tuple[str, str]]) -> list[Path]:
    """The folders that Hydra looks at, each once: of the schemes and paths of its sources."""
    folders = []
    for scheme, path in sources:
        if scheme in ("file", RecipeSource.scheme()):
            folders.append(Path(path))
        elif scheme == "pkg" and isinstance(folder := resources.files(path), Path):
            folders.append(folder)
    return list(dict.fromkeys(folders))


def options(group: str, folders: Iterable[Path]) -> list[str]:
    """The names of a group's configs in these folders, files and sections of a method's recipes."""
    names = set()
    for folder in folders:
        files = (folder / group).glob("*.yaml")
        names |= {file.stem for file in files if group != FOLDER or section_names(file, group) is None}
        names |= _sections_in(folder, group) if group in SECTIONS else set()
    return sorted(names)
